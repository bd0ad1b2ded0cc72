//! Under the programs that give a connection: each lets one user in and not the other, and its program finds what that parent's
//! programs find.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::reporter;
use crate::support::notices::Notices;
use crate::support::{Client, Dial, Neighbour, Report, Systemd, User, eventually, probe};

/// Who is let in, and who is not.
fn friend() -> User {
    User::new(4_711, 4_712).groups([4_713])
}

fn stranger() -> User {
    User::new(4_721, 4_722)
}

/// The options that tell them apart.
const OPTIONS: [&str; 3] = ["-v", "--allow", "user:4711"];

/// The words of an admit that lets the friend in to the reporter, which writes to `fd`.
fn admit(options: &[&str], fd: &str) -> Vec<String> {
    let words = ["doorward", "admit"].iter().chain(&OPTIONS).chain(options);
    let words = words.map(|word| (*word).to_owned());
    words.chain(reporter(fd)).collect()
}

/// The friend's program has his identity by the kernel's word, and no socket listens there.
#[track_caller]
fn assert_identity(report: &Report, prefix: &str) {
    let env = |name: &str| report.env(&format!("{prefix}{name}"));
    assert_eq!(env("REMOTEEUID").as_deref(), Some("4711"));
    assert_eq!(env("REMOTEEGID").as_deref(), Some("4712"));
    assert_eq!(env("REMOTEGROUPS").as_deref(), Some("4712,4713"));
    assert_eq!(report.env("PROTO").as_deref(), Some(prefix));
    for (number, fd) in report.fds() {
        assert!(!fd.listening && !fd.cloexec, "{number} {fd:?}");
    }
}

/// The numbers of `report` that are the one connection.
fn connection(report: &Report, first: i32) -> Vec<i32> {
    let fds = report.fds();
    let link = &fds[&first].link;
    fds.iter()
        .filter(|(_, fd)| fd.link == *link)
        .map(|(number, _)| *number)
        .collect()
}

/// Connects to a socket of a neighbour, as soon as it listens.
#[track_caller]
fn connect(here: &Neighbour, socket: &str, user: &User) -> Client {
    crate::support::eventually_some(&format!("a server on {socket}"), || {
        Dial::to(here.path(socket)).user(user).try_connect().ok()
    })
}

#[test]
fn s6_ipcserver() {
    need!(root, "s6-ipcserver");
    let mut here = Neighbour::new();
    let mut server = here.command("s6-ipcserver");
    server.args(["-v", "socket"]).args(admit(&[], "1"));
    here.start(&mut server);
    let found = Report::parse(connect(&here, "socket", &friend()).read_to_end());
    assert_identity(&found, "IPC");
    assert_eq!(found.fd_numbers(), [0, 1, 2]);
    assert_eq!(connection(&found, 0), [0, 1]);
    assert_eq!(found.env("IPCLOCALPATH").as_deref(), Some("socket"));
    let count = found.env("IPCCONNNUM").expect("the count of s6-ipcserverd");
    assert!(["0", "1"].contains(&count.as_str()), "{count}");
    here.wait_line("exitcode 0");

    connect(&here, "socket", &stranger()).assert_closed();
    here.wait_line("doorward: deny user=4721 group=4722 ");
    here.wait_line("exitcode 1");
    assert!(here.stop(Signal::SIGTERM).success());
}

#[test]
fn unixserver() {
    need!(root, "unixserver");
    let mut here = Neighbour::new();
    let mut server = here.command("unixserver");
    let told = ["sh", "-c", "\"$@\"; echo \"exit code $?\" >&2", "sh"];
    server.args(["--", "socket"]).args(told);
    server.args(admit(&["--proto", "UNIX"], "1"));
    here.start(&mut server);
    let found = Report::parse(connect(&here, "socket", &friend()).read_to_end());
    assert_identity(&found, "UNIX");
    // It leaves its listening socket open on 3, and some signals ignored.
    assert_eq!(found.fd_numbers(), [0, 1, 2]);
    assert_eq!(connection(&found, 0), [0, 1]);
    assert_eq!(u64::from_str_radix(&found.get("ignored"), 16), Ok(0));
    assert_eq!(found.env("UNIXLOCALPATH").as_deref(), Some("socket"));

    connect(&here, "socket", &stranger()).assert_closed();
    here.wait_line("doorward: deny user=4721 group=4722 ");
    here.wait_line("exit code 1");
    assert!(here.stop(Signal::SIGTERM).success());
}

/// OpenBSD's inetd with a line of its own: one process for each connection, which is all of 0, 1 and 2.
fn inetd(options: &[&str], fd: &str) -> (Neighbour, Notices) {
    let words = admit(options, fd).join(" ");
    crate::inetd::inetd(|text| {
        let line = text.lines().find(|line| line.contains(" wait ")).unwrap();
        let (start, _) = line.split_once(" doorward ").unwrap();
        format!("{} {words}\n", start.replace(" wait ", " nowait "))
    })
}

#[test]
fn inetd_nowait() {
    need!(root, "inetd", "unshare");
    let (here, log) = inetd(&[], "1");
    let found = Report::parse(connect(&here, "socket", &friend()).read_to_end());
    assert_identity(&found, "IPC");
    assert_eq!(connection(&found, 0), [0, 1, 2]);
    assert_eq!(found.fd_numbers(), [0, 1, 2]);
    assert_eq!(
        found.env("IPCLOCALPATH").as_deref(),
        here.path("socket").to_str()
    );
    crate::inetd::heard(&log, "allow user=4711");

    // The client is on standard error; the line goes elsewhere.
    connect(&here, "socket", &stranger()).assert_closed();
    crate::inetd::heard(&log, "deny user=4721 group=4722 ");
}

#[test]
fn inetd_nowait_with_another_layout() {
    need!(root, "inetd", "unshare");
    let (here, _log) = inetd(&["--layout", "ucspi"], "7");
    let found = Report::parse(connect(&here, "socket", &friend()).read_to_end());
    assert_identity(&found, "IPC");
    assert_eq!(found.fd_numbers(), [0, 1, 2, 6, 7]);
    assert_eq!(connection(&found, 6), [6, 7]);
    assert_eq!(connection(&found, 0), [0, 1, 2], "/dev/null, all three");
}

#[test]
fn systemd_socket_activate() {
    need!(root, "systemd-socket-activate");
    let mut here = Neighbour::new();
    let socket = here.text("socket");
    let mut server = here.command("systemd-socket-activate");
    server.args(["--accept", "--listen", &socket, &here.text("bin/doorward")]);
    server.args(&admit(&[], "3")[1..]);
    here.start(&mut server);
    // It binds with our umask.
    eventually("the socket", || here.path("socket").exists());
    fs::set_permissions(here.path("socket"), fs::Permissions::from_mode(0o666)).unwrap();
    let found = Report::parse(connect(&here, "socket", &friend()).read_to_end());
    assert_identity(&found, "IPC");
    assert_eq!(found.fd_numbers(), [0, 1, 2, 3]);
    assert_eq!(connection(&found, 3), [3]);
    assert_eq!(found.env("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(found.env("LISTEN_PID"), Some(found.get("pid")));
    assert_eq!(found.env("IPCLOCALPATH"), Some(socket));

    connect(&here, "socket", &stranger()).assert_closed();
    here.wait_line("doorward: deny user=4721 group=4722 ");
    here.wait_line("died with code 1");
}

/// Installs a socket unit with `Accept=yes` and its service, and starts it.
fn accepting(name: &str, service: &str) -> &'static Systemd {
    let systemd = Systemd::boot();
    let socket = format!("[Socket]\nListenStream=/run/{name}.sock\nSocketMode=0666\nAccept=yes\n");
    systemd.install(&format!("{name}.socket"), &socket);
    let service = format!("[Unit]\nCollectMode=inactive\n[Service]\n{service}");
    systemd.install(&format!("{name}@.service"), &service);
    systemd.start_unit(&format!("{name}.socket"));
    systemd
}

/// The same words with the programs that stand inside.
fn inside(options: &[&str], fd: &str) -> String {
    let words = admit(options, fd).join(" ");
    let words = words.replacen("doorward ", "/usr/bin/doorward ", 1);
    words.replace(probe().to_str().unwrap(), "/usr/bin/doorward-probe")
}

/// The unit of the instance that refused.
#[track_caller]
fn refused_instance(systemd: &Systemd, name: &str) -> String {
    let pattern = format!("{name}@*.service");
    crate::support::eventually_some("the failed instance", || {
        let listed = systemd.run([
            "systemctl",
            "list-units",
            "--failed",
            "--plain",
            "--no-legend",
            &pattern,
        ]);
        listed.split_whitespace().next().map(str::to_owned)
    })
}

#[test]
fn systemd_accept_on_3() {
    need_systemd!();
    let service = format!("ExecStart={}\n", inside(&[], "3"));
    let systemd = accepting("admit-three", &service);
    let socket = systemd.path("/run/admit-three.sock");
    let found = Report::parse(Dial::to(&socket).user(&friend()).connect().read_to_end());
    assert_identity(&found, "IPC");
    assert_eq!(found.fd_numbers(), [0, 1, 2, 3]);
    assert_eq!(connection(&found, 3), [3]);
    assert_eq!(found.env("LISTEN_PID"), Some(found.get("pid")));
    assert_eq!(found.env("LISTEN_FDNAMES").as_deref(), Some("connection"));
    assert_eq!(
        found.env("IPCLOCALPATH").as_deref(),
        Some("/run/admit-three.sock")
    );
    // The client is in a pid namespace that is not its.
    assert_eq!(found.env("IPCREMOTEPID"), None);

    Dial::to(&socket)
        .user(&stranger())
        .connect()
        .assert_closed();
    let unit = refused_instance(systemd, "admit-three");
    assert_eq!(systemd.show(&unit, "ExecMainStatus"), "1");
    systemd.wait_journal(&unit, "deny user=4721 group=4722 pid=- reason=rule");
    systemd.stop_unit("admit-three.socket");
}

#[test]
fn systemd_accept_on_standard_input() {
    need_systemd!();
    let service = format!(
        "ExecStart={}\nStandardInput=socket\nStandardError=journal\n",
        inside(&[], "1")
    );
    let systemd = accepting("admit-stdin", &service);
    let socket = systemd.path("/run/admit-stdin.sock");
    let found = Report::parse(Dial::to(&socket).user(&friend()).connect().read_to_end());
    assert_identity(&found, "IPC");
    assert_eq!(found.fd_numbers(), [0, 1, 2]);
    assert_eq!(connection(&found, 0), [0, 1]);
    assert_eq!(found.env("LISTEN_FDS"), None);

    Dial::to(&socket)
        .user(&stranger())
        .connect()
        .assert_closed();
    let unit = refused_instance(systemd, "admit-stdin");
    assert_eq!(systemd.show(&unit, "ExecMainStatus"), "1");
    systemd.stop_unit("admit-stdin.socket");
}

#[test]
fn doorward_spawn_and_s6_ipcclient_put_it_on_6_and_7() {
    need!(root, "s6-ipcclient");
    let mut here = Neighbour::new();
    let mut server = here.command("doorward");
    server.args(["spawn", "--bind", "socket", "--mode", "0666"]);
    server.args(admit(&[], "7"));
    here.start(&mut server);
    let found = Report::parse(connect(&here, "socket", &friend()).read_to_end());
    assert_identity(&found, "IPC");
    assert_eq!(found.fd_numbers(), [0, 1, 2, 6, 7]);
    assert_eq!(connection(&found, 6), [6, 7]);
    assert_eq!(found.env("IPCCONNNUM").as_deref(), Some("1"));
    connect(&here, "socket", &stranger()).assert_closed();
    here.wait_line("doorward: deny user=4721 group=4722 ");

    // The other side: a client that asks who serves it.
    let client = |who: &str| {
        let words = [
            "socket",
            "doorward",
            "admit",
            "--allow",
            who,
            "printenv",
            "IPCREMOTEEUID",
        ];
        here.run("s6-ipcclient", &words)
    };
    assert_eq!(client("user:0").stdout, b"0\n");
    assert_eq!(client("user:1").status.code(), Some(1));
    assert!(here.stop(Signal::SIGTERM).success());
}

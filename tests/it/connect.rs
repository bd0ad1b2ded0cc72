//! `doorward connect`: what its program gets, and what a server that does not want it, or is hostile, brings about.

mod local;
mod server;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{Backlog, getsockopt, listen};
use nix::sys::time::TimeValLike;

use crate::support::{Client, Door, Outcome, Report, Scratch, Served, eventually, probe, raw};

/// `doorward connect OPTIONS PATH`, to be started with a program.
pub(super) fn connect<const N: usize>(path: &Path, options: [&str; N]) -> Door {
    Door::new()
        .command("connect")
        .no_bind()
        .no_notify()
        .args(options)
        .args([path])
}

/// A server that sends back what it gets.
fn echo<const N: usize>(options: [&str; N]) -> Served {
    Door::new().args(options).args(["--inetd"]).serve([
        probe().as_os_str(),
        "echo".as_ref(),
        "0".as_ref(),
        "1".as_ref(),
    ])
}

/// What the program of `client` finds.
#[track_caller]
pub(super) fn report(client: Door) -> Report {
    let mut client = client.start([probe().as_os_str(), "report".as_ref(), "1".as_ref()]);
    let status = client.wait_exit();
    assert!(status.success(), "{status}: {:?}", client.log());
    Report::parse(client.output().whole().join("\n") + "\n")
}

/// The lines that a shell script writes as the program of `client`.
#[track_caller]
pub(super) fn script(client: Door, text: &str) -> Vec<String> {
    let mut client = client.start(["sh", "-c", text]);
    let status = client.wait_exit();
    assert!(status.success(), "{status}: {:?}", client.log());
    client.output().whole()
}

#[test]
fn program_talks_on_7_and_hears_on_6() {
    let server = echo([]);
    let said = script(
        connect(&server.socket(), []),
        "echo hello >&7; read answer <&6; echo \"$answer\"",
    );
    assert_eq!(said, ["hello"]);
}

#[test]
fn program_gets_the_connection_and_no_other_descriptor_whatever_was_open() {
    let server = echo([]);
    let null = || fs::File::open("/dev/null").unwrap();
    let mut client = connect(&server.socket(), []);
    for number in [3, 6, 8, 9, 64, 700] {
        client = client.fd(number, null());
    }
    let report = report(client);
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7]);
    let fds = report.fds();
    assert_eq!(fds[&6].link, fds[&7].link, "one connection");
    for number in [6, 7] {
        let fd = &fds[&number];
        assert_eq!(
            (fd.socket.as_str(), fd.cloexec, fd.nonblock),
            ("stream", false, false)
        );
    }
}

#[test]
fn what_0_is_does_not_matter() {
    let server = echo([]);
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("other")).unwrap();
    let report = report(connect(&server.socket(), []).fd0(listening));
    assert!(report.fds()[&0].listening, "{:?}", report.fds()[&0]);
}

#[test]
fn environment_is_that_of_s6_ipcclient_without_what_is_about_closed_descriptors() {
    let server = echo([]);
    let mut client = connect(&server.socket(), []);
    for (name, value) in [
        ("NOTIFYFD", "8"),
        ("PIDFD", "9"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "x"),
        ("NOTIFY_SOCKET", "/nowhere"),
        ("SKALIBS_CHILD_SPAWN_FDS", "8"),
        ("IPCLOCALPATH", "/other"),
        ("IPCREMOTEEUID", "7"),
        ("PROTO", "UNIX"),
        ("KEPT", "a=b"),
    ] {
        client = client.env(name, value);
    }
    let report = report(client.listen_pid());
    let mut names = report.env_names();
    names.retain(|name| !name.starts_with("DOORWARD_TEST") && name != "PWD");
    assert_eq!(
        names,
        ["IPCLOCALPATH", "IPCREMOTEEUID", "KEPT", "PATH", "PROTO"]
    );
    let env = |name| report.env(name).unwrap();
    assert_eq!(
        [
            env("PROTO"),
            env("IPCLOCALPATH"),
            env("IPCREMOTEEUID"),
            env("KEPT")
        ],
        ["IPC", "", "7", "a=b"]
    );
}

#[test]
fn signals_are_at_their_defaults_whatever_the_parent_ignored() {
    let server = echo([]);
    let client = connect(&server.socket(), []).wrap([
        "sh",
        "-c",
        "trap '' INT USR1 PIPE; exec \"$@\"",
        "sh",
    ]);
    let report = report(client);
    let zero = "0000000000000000";
    assert_eq!(
        (report.get("ignored"), report.get("blocked")),
        (zero.into(), zero.into())
    );
}

#[test]
fn exec_is_in_place_and_the_exit_is_the_program_s() {
    let server = echo([]);
    let mut client = connect(&server.socket(), []).start(["sh", "-c", "echo $$; exit 7"]);
    let pid = client.pid();
    assert_eq!(client.wait_exit().code(), Some(7));
    assert_eq!(client.output().whole(), [pid.to_string()]);
}

#[test]
fn notifications_are_heard_on_8() {
    for kind in ["stream", "seqpacket"] {
        let server = Door::new().args(["--type", kind, "--notify"]).serve([
            "sh",
            "-c",
            "echo some news >&8; echo the answer >&7",
        ]);
        let said = script(
            connect(&server.socket(), ["--type", kind, "--notify"]),
            "answer=$(head -n 1 <&6); read -r news <&8; echo \"$answer, $news, $NOTIFYFD\"",
        );
        assert_eq!(said, ["the answer, some news, 8"], "{kind}");
    }
}

#[test]
fn program_gets_the_notification_socket_and_no_other_descriptor() {
    let server =
        Door::new()
            .args(["--notify"])
            .serve([probe().as_os_str(), "hold".as_ref(), "6".as_ref()]);
    let report = report(connect(&server.socket(), ["--notify"]));
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7, 8]);
    let fds = report.fds();
    assert_eq!(fds[&8].socket, "stream");
    assert_ne!(fds[&8].link, fds[&6].link);
    assert_eq!(report.env("NOTIFYFD").as_deref(), Some("8"));
}

#[test]
fn not_a_byte_behind_the_greeting_is_taken() {
    let server =
        Door::new()
            .args(["--notify"])
            .serve(["sh", "-c", "printf '%s\\n' doorward\\ 1 >&7"]);
    let said = script(
        connect(&server.socket(), ["--notify"]),
        "read -r line <&6; echo \"$line\"",
    );
    assert_eq!(
        said,
        ["doorward 1"],
        "the server's own line, after the greeting"
    );
}

#[test]
fn long_paths_and_abstract_names_are_reached() {
    let scratch = Scratch::new();
    let deep = scratch.path(&"d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let name = format!("@doorward-test-connect-{}", std::process::id());
    for bind in [deep.join("s").into_os_string(), name.into()] {
        let server = Door::new()
            .bind(&bind)
            .args(["--inetd"])
            .serve(["echo", "reached"]);
        let said = script(connect(&server.socket(), []), "cat <&6");
        assert_eq!(said, ["reached"], "{bind:?}");
    }
}

/// `doorward connect --notify` at a server that sends `text` with `count` descriptors, and closes when its client has.
fn greeted(text: &[u8], count: usize) -> Outcome {
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let text = text.to_vec();
    let server = std::thread::spawn(move || {
        let (connection, _) = listening.accept().unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let mut client = Client::from(std::os::fd::OwnedFd::from(connection));
        let (first, rest) = text.split_at(text.len().min(11));
        if !first.is_empty() {
            client.send_fds(first, &vec![near.as_fd(); count]);
        }
        // It may leave before all is sent.
        let _ = client.try_send(rest);
        client.shutdown_write();
        let _ = client.try_read_to_end();
    });
    let outcome = connect(&scratch.path("s"), ["--notify"]).fails(["sh", "-c", "echo started"]);
    server.join().unwrap();
    outcome
}

#[test]
fn what_is_no_greeting_is_told_as_the_server_s_refusal() {
    greeted(b"not today, please\n", 0).assert(1, ["unable to connect to ", "not today, please"]);
    greeted(b"", 0).assert(1, ["closed the connection"]);
    greeted(b"doorward", 0).assert(1, ["doorward"]);
    greeted(b"doorward 2\n", 1).assert(1, ["doorward 2"]);
    greeted(b"doorward 1\n", 0).assert(1, ["descriptor"]);
    greeted(b"doorward 1\n", 2).assert(1, ["descriptor"]);
}

#[test]
fn a_refusal_forges_no_line_and_floods_no_log() {
    let hostile = greeted(b"no\x1b[2J\ndoorward: fatal: forged\n", 0);
    hostile.assert(1, ["no\\u{1b}[2J\\ndoorward: fatal: forged"]);
    assert_eq!(hostile.stderr.lines().count(), 1, "{}", hostile.stderr);
    let flood = greeted(&[b'x'; 1 << 20], 0);
    assert_eq!(flood.code(), 1);
    assert!(
        (1_000..2_000).contains(&flood.stderr.len()),
        "{}",
        flood.stderr.len()
    );
}

#[test]
fn a_denied_client_reads_the_deny_text() {
    let server = Door::new()
        .args([
            "--notify",
            "--deny",
            "all",
            "--deny-text",
            "come back tomorrow",
        ])
        .serve(["true"]);
    connect(&server.socket(), ["--notify"])
        .fails(["true"])
        .assert(1, ["come back tomorrow"]);
    let silent = Door::new()
        .args(["--notify", "--deny", "all"])
        .serve(["true"]);
    connect(&silent.socket(), ["--notify"])
        .fails(["true"])
        .assert(1, ["closed the connection"]);
}

#[test]
fn a_refusal_in_one_record_is_told_however_long() {
    let server = Door::new()
        .args([
            "--type",
            "seqpacket",
            "--notify",
            "--deny",
            "all",
            "--deny-text",
        ])
        .args(["n".repeat(3_000)])
        .serve(["true"]);
    let outcome = connect(&server.socket(), ["--type", "seqpacket", "--notify"]).fails(["true"]);
    outcome.assert(1, ["n".repeat(1_000)]);
    assert!(outcome.stderr.len() < 2_000);
}

/// A server whose queue holds one connection, and that one.
fn full(scratch: &Scratch) -> (UnixListener, UnixStream) {
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    listen(&listening, Backlog::new(0).unwrap()).unwrap();
    let first = UnixStream::connect(scratch.path("s")).unwrap();
    (listening, first)
}

#[test]
fn a_deadline_ends_the_wait_for_a_full_server_and_for_a_greeting() {
    let scratch = Scratch::new();
    let (listening, first) = full(&scratch);
    let limit = ["--connect-timeout", "0.3"];
    connect(&scratch.path("s"), limit)
        .fails(["true"])
        .assert(99, ["within 0.3 seconds"]);
    connect(&scratch.path("s"), limit)
        .fails([""; 0])
        .assert(99, ["within 0.3 seconds"]);
    drop((first, listening.accept().unwrap()));
    let limit = ["--notify", "--connect-timeout", "0.3"];
    connect(&scratch.path("s"), limit)
        .fails(["true"])
        .assert(99, ["within 0.3 seconds"]);
}

#[test]
fn a_full_server_is_waited_for_and_the_limit_is_not_the_program_s() {
    let scratch = Scratch::new();
    let (listening, first) = full(&scratch);
    let waiting = connect(&scratch.path("s"), ["--connect-timeout", "600"]).start([
        probe().as_os_str(),
        "hold".as_ref(),
        "6".as_ref(),
    ]);
    let call = format!("/proc/{}/syscall", waiting.pid());
    let connecting = format!("{} ", libc::SYS_connect);
    eventually("the wait for room", || {
        fs::read_to_string(&call).is_ok_and(|call| call.starts_with(&connecting))
    });
    drop((first, listening.accept().unwrap()));
    let (mut connection, _) = listening.accept().unwrap();
    let client = eventually_its_connection(waiting.pid());
    assert_eq!(
        getsockopt(&client, SendTimeout).unwrap().num_microseconds(),
        0
    );
    connection.write_all(b"x").unwrap();
    drop(client);
    let mut waiting = waiting;
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(waiting.wait_exit().success());
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
}

/// Descriptor 6 of a process, once it runs its program.
fn eventually_its_connection(pid: i32) -> std::os::fd::OwnedFd {
    crate::support::eventually_some("descriptor 6", || raw::descriptor_of(pid, 6).ok())
}

#[test]
fn failures_have_the_exit_codes_of_the_skarnet_tools() {
    let scratch = Scratch::new();
    let nobody = connect(&scratch.path("s"), []).fails(["true"]);
    nobody.assert(111, ["unable to connect to ", "No such file or directory"]);

    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    listening.set_nonblocking(true).unwrap();
    connect(&scratch.path("s"), [])
        .fails(["no-such-program"])
        .assert(127, ["not found"]);
    let plain = scratch.path("plain");
    fs::write(&plain, "").unwrap();
    connect(&scratch.path("s"), [])
        .fails([&plain])
        .assert(126, ["Permission denied"]);
    let came = listening.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(
        came,
        Err(std::io::ErrorKind::WouldBlock),
        "no server is disturbed by these"
    );

    let other = connect(&scratch.path("s"), ["--type", "seqpacket"]).fails(["true"]);
    other.assert(111, ["as --type seqpacket", "wrong type"]);
    drop(listening);
    connect(&scratch.path("s"), [])
        .fails(["true"])
        .assert(111, ["refused"]);
    connect(&scratch.path(&"n".repeat(89)), [])
        .fails(["true"])
        .assert(100, ["limit is 88"]);
    connect(&scratch.path("s"), ["--connect-timeout", "0"])
        .fails(["true"])
        .assert(100, ["--connect-timeout 0"]);
}

#[test]
fn a_program_that_execve_refuses_is_not_executable() {
    let server = echo([]);
    let scratch = Scratch::new();
    let no_interpreter = scratch.script("nothing", "no line for the kernel\n");
    connect(&server.socket(), [])
        .fails([&no_interpreter])
        .assert(126, ["unable to run "]);
    let missing = scratch.script("missing", "#!/nowhere/at/all\n");
    connect(&server.socket(), [])
        .fails([&missing])
        .assert(127, ["unable to run "]);
}

//! `doorward bind`: what its program gets, real servers behind it, and the ways in which a path is refused.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;

use crate::support::neighbour::project;
use crate::support::{
    Dial, Door, Neighbour, Report, Scratch, Served, User, doorward, eventually, probe,
};

/// `doorward bind OPTIONS PATH`, to be started with a program.
fn bind<const N: usize>(path: &Path, options: [&str; N]) -> Door {
    Door::new()
        .command("bind")
        .no_bind()
        .no_notify()
        .args(options)
        .args([path])
}

/// What the program of `door` finds.
#[track_caller]
fn report(door: Door) -> Report {
    let mut door = door.start([probe().as_os_str(), "report".as_ref(), "1".as_ref()]);
    let status = door.wait_exit();
    assert!(status.success(), "{status}: {:?}", door.log());
    Report::parse(door.output().whole().join("\n") + "\n")
}

/// Permission bits, and owner and group, of a node that is a socket.
#[track_caller]
fn node(path: &Path) -> (u32, u32, u32) {
    let node = fs::symlink_metadata(path).unwrap();
    assert!(node.file_type().is_socket());
    (node.mode() & 0o7777, node.uid(), node.gid())
}

/// A server that answers each client with its uid.
const WHO: [&str; 5] = ["s6-ipcserverd", "-v", "0", "printenv", "IPCREMOTEEUID"];

#[track_caller]
fn assert_serves(path: &Path) {
    let me = format!("{}\n", User::me().uid);
    let mut client =
        crate::support::eventually_some("a server", || Dial::to(path).try_connect().ok());
    assert_eq!(client.read_text(), me);
}

#[test]
fn s6_ipcserverd_serves_the_socket_that_it_gets_on_0() {
    need!(root, "s6-ipcserverd");
    let home = Scratch::new();
    let path = home.path("s");
    let _door = bind(&path, ["--mode", "0666"]).start(WHO);
    assert_serves(&path);
    let user = User::unique();
    let said = Dial::to(&path).user(&user).connect().read_text();
    assert_eq!(said, format!("{}\n", user.uid));
}

#[test]
fn program_gets_the_listening_socket_and_nothing_else_that_was_open() {
    let home = Scratch::new();
    let path = home.path("s");
    let null = || fs::File::open("/dev/null").unwrap();
    let mut door = bind(&path, []);
    for number in [3, 6, 64, 65, 700] {
        door = door.fd(number, null());
    }
    let report = report(door);
    assert_eq!(report.fd_numbers(), [0, 1, 2]);
    let socket = &report.fds()[&0];
    assert!(socket.listening && !socket.cloexec && !socket.nonblock);
    assert_eq!(socket.socket, "stream");
}

#[test]
fn program_is_this_process_with_its_environment_and_default_signals() {
    let home = Scratch::new();
    let door = bind(&home.path("s"), [])
        .env("KEPT", "a=b")
        .env("IPCREMOTEEUID", "7")
        .env("NOTIFYFD", "8")
        .env("LISTEN_FDS", "1")
        .env("NOTIFY_SOCKET", "/nowhere")
        .env("WATCHDOG_USEC", "5000000")
        .env("WATCHDOG_PID", "1")
        .wrap(["sh", "-c", "trap '' INT USR1 PIPE; exec \"$@\"", "sh"]);
    let mut door = door.start([probe().as_os_str(), "report".as_ref(), "1".as_ref()]);
    assert!(door.wait_exit().success());
    let report = Report::parse(door.output().whole().join("\n") + "\n");
    assert_eq!(report.get("pid"), door.pid().to_string());
    let mut names = report.env_names();
    names.retain(|name| !name.starts_with("DOORWARD_TEST") && name != "PWD");
    names.sort();
    let expected = [
        "KEPT",
        "NOTIFY_SOCKET",
        "PATH",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    assert_eq!(names, expected);
    assert_eq!(report.env("WATCHDOG_USEC").as_deref(), Some("5000000"));
    let zero = "0000000000000000";
    assert_eq!(
        (report.get("ignored"), report.get("blocked")),
        (zero.into(), zero.into())
    );
}

#[test]
fn layout_systemd_is_socket_activation_of_the_very_process() {
    let home = Scratch::new();
    let options = ["--layout", "systemd", "--type", "seqpacket"];
    let mut door = bind(&home.path("s"), options).start([
        probe().as_os_str(),
        "report".as_ref(),
        "1".as_ref(),
    ]);
    assert!(door.wait_exit().success(), "{:?}", door.log());
    let report = Report::parse(door.output().whole().join("\n") + "\n");
    assert_eq!(report.fd_numbers(), [0, 1, 2, 3]);
    let socket = &report.fds()[&3];
    assert!(socket.listening && !socket.cloexec);
    assert_eq!(socket.socket, "seqpacket");
    assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(report.env("LISTEN_PID"), Some(report.get("pid")));
    assert_eq!(report.env("LISTEN_FDNAMES"), None);
}

#[test]
fn fdname_is_the_name_of_the_socket() {
    let home = Scratch::new();
    let options = ["--layout", "systemd", "--fdname", "web"];
    let report = report(bind(&home.path("s"), options));
    assert_eq!(report.env("LISTEN_FDNAMES").as_deref(), Some("web"));
}

#[test]
fn daemon_made_for_systemd_is_activated() {
    need!("uuidd");
    let home = Scratch::new();
    let path = home.path("s");
    let _door = bind(&path, ["--layout", "systemd"]).start(["uuidd", "-S", "-P", "-F"]);
    let ask = || {
        let output = Command::new("uuidd").args(["-r", "-s"]).arg(&path).output();
        let output = output.unwrap();
        output.status.success().then_some(output.stdout)
    };
    let uuid = crate::support::eventually_some("an answer of uuidd", ask);
    assert_eq!(String::from_utf8_lossy(&uuid).trim().len(), 36, "{uuid:?}");
}

#[test]
fn spawn_serves_what_bind_has_bound_and_is_the_service_to_the_manager() {
    for options in [&["--layout", "systemd"][..], &[]] {
        let door = Door::new().command("bind").no_bind();
        let path = door.path("s");
        let spawn = [
            doorward().to_str().unwrap(),
            "spawn",
            "--inetd",
            "printenv",
            "IPCREMOTEEUID",
        ];
        // `serve` waits for READY=1, which is spawn's to say.
        let mut door = door.args(options).args([&path]).serve(spawn);
        assert_serves(&path);
        assert!(door.stop().success());
        assert!(path.exists(), "an inherited node is not spawn's to remove");
    }
}

#[test]
fn fdholder_keeps_what_bind_has_bound_and_spawn_serves_it() {
    need!("s6-fdholder-daemon", "s6-fdholder-store");
    let mut s6 = Neighbour::new();
    let env = s6.path("rules/uid/self/env");
    fs::create_dir_all(&env).unwrap();
    s6.write("rules/uid/self/allow", "");
    for may in ["STORE", "RETRIEVE"] {
        let file = format!("rules/uid/self/env/S6_FDHOLDER_{may}_REGEX");
        s6.write(&file, "^unix:door$");
    }
    let mut holder = s6.command("s6-fdholder-daemon");
    holder.args(["-i", "rules", "holder"]);
    s6.start(&mut holder);
    drop(s6.connect("holder"));
    s6.say(
        "doorward",
        &["bind", "socket", "s6-fdholder-store", "holder", "unix:door"],
    );
    let mut waiting = s6.connect("socket");
    let mut retrieve = s6.command("s6-fdholder-retrieve");
    retrieve.args(["holder", "unix:door", "doorward", "spawn", "--inetd"]);
    retrieve.args(["printenv", "IPCREMOTEEUID"]);
    s6.start(&mut retrieve);
    assert_eq!(waiting.read_text(), format!("{}\n", User::me().uid));
}

#[test]
fn syslog_daemon_reads_a_datagram_socket_that_bind_has_bound() {
    need!("rsyslogd", "logger");
    let home = Scratch::new();
    let log = home.path("log");
    let config = rsyslog(&home, &log);
    let _door = bind(&log, ["--type", "dgram", "--layout", "systemd"]).start([
        "rsyslogd",
        "-n",
        "-i",
        "NONE",
        "-f",
        config.to_str().unwrap(),
    ]);
    // Who sends before the daemon reads is heard too.
    eventually("a socket to log to", || log.exists());
    send_log(&log, "hello from a client");
    eventually("the message", || {
        fs::read_to_string(home.path("messages")).is_ok_and(|text| text.contains("hello from"))
    });
}

/// Sends a datagram as syslog's clients do.
#[track_caller]
pub(super) fn send_log(socket: &Path, text: &str) {
    let mut logger = Command::new("logger");
    // Without this it keeps silent where it has not sent anything.
    logger.arg("--socket-errors=on").arg("-u").arg(socket);
    assert!(logger.arg(text).status().unwrap().success());
}

/// A configuration that writes what comes to `log` into `messages`.
pub(super) fn rsyslog(home: &Scratch, log: &Path) -> std::path::PathBuf {
    let messages = home.path("messages");
    let text = format!(
        "module(load=\"imuxsock\" SysSock.Name=\"{}\" SysSock.UsePIDFromSystem=\"off\" SysSock.RateLimit.Interval=\"0\")\n\
         template(name=\"plain\" type=\"string\" string=\"%msg%\\n\")\n\
         *.* action(type=\"omfile\" file=\"{}\" template=\"plain\" asyncWriting=\"off\" flushOnTXEnd=\"on\")\n",
        log.display(),
        messages.display()
    );
    let config = home.path("rsyslog.conf");
    fs::write(&config, text).unwrap();
    config
}

#[test]
fn node_has_its_mode_and_owner_whatever_the_umask() {
    need!(root);
    for umask in ["0000", "0777"] {
        let home = Scratch::new();
        let (plain, made) = (home.path("plain"), home.path("made"));
        let umask = format!("umask {umask}; exec \"$@\"");
        let wrap = ["sh", "-c", &umask, "sh"];
        report(bind(&plain, []).wrap(wrap));
        assert_eq!(node(&plain), (0o600, 0, 0));
        let options = ["--mode", "0420", "--owner", "12345:54321"];
        report(bind(&made, options).wrap(wrap));
        assert_eq!(node(&made), (0o420, 12345, 54321));
        let dgram = home.path("dgram");
        report(bind(&dgram, ["--type", "dgram", "--mode", "0222"]).wrap(wrap));
        assert_eq!(node(&dgram), (0o222, 0, 0));
    }
}

#[test]
fn backlog_is_that_of_the_listening_socket() {
    let home = Scratch::new();
    let path = home.path("s");
    let _door = bind(&path, ["--backlog", "0"]).start(["sleep", "1000"]);
    eventually("the socket", || Dial::to(&path).try_connect().is_ok());
    let second = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_NONBLOCK,
        None,
    )
    .unwrap();
    let address = nix::sys::socket::UnixAddr::new(&path).unwrap();
    let full = nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&second), &address);
    assert_eq!(full, Err(nix::Error::EAGAIN), "one waits, and no more");
}

#[test]
fn program_and_listening_socket_are_the_user_of_run_as() {
    need!(root);
    let home = Scratch::new();
    let path = home.path("s");
    let user = User::unique();
    let run_as = format!("{}:{}", user.uid, user.gid);
    let mut door = bind(&path, ["--mode", "0666", "--run-as", &run_as]).start([
        "sh",
        "-c",
        "id -u; id -g; exec sleep 1000",
    ]);
    for id in [user.uid, user.gid] {
        assert_eq!(door.output().take("").unwrap(), id.to_string());
    }
    let client = Dial::to(&path).connect();
    assert_eq!(client.server(), (door.pid(), user.uid, user.gid));
    assert!(door.running());
}

#[test]
fn of_several_that_start_at_once_exactly_one_wins() {
    need!("s6-ipcserverd");
    let home = Scratch::new();
    let path = home.path("s");
    for _ in 0..5 {
        let mut doors: Vec<Served> = (0..4).map(|_| bind(&path, []).start(WHO)).collect();
        eventually("three of four to end", || {
            let ended = doors
                .iter_mut()
                .filter_map(|door| (!door.running()).then_some(()));
            ended.count() == 3
        });
        assert_serves(&path);
        for door in &mut doors {
            if !door.running() {
                assert_eq!(door.wait_exit().code(), Some(111), "{:?}", door.log());
                door.wait_log("unable to bind to");
            }
        }
        // All of it is killed: the node stays, stale, for the next round.
        drop(doors);
        assert_eq!(node(&path).0, 0o600);
    }
}

#[test]
fn lock_is_released_by_the_exec_and_the_node_stays() {
    let home = Scratch::new();
    let path = home.path("s");
    let mut first = bind(&path, []).start(["sh", "-c", "echo up; exec sleep 1000"]);
    assert!(first.output().take("up").is_some());
    // Not the lock, but the live socket is in the way.
    let second = bind(&path, []).fails(["true"]);
    second.assert(111, ["a live socket answers there"]);
    first.stop();
    assert!(path.exists(), "the program's end is no matter of bind");
    report(bind(&path, []));
}

#[test]
fn whatever_else_stands_at_the_path_is_left_alone() {
    let home = Scratch::new();
    let live = UnixListener::bind(home.path("live")).unwrap();
    let datagrams = UnixDatagram::bind(home.path("datagrams")).unwrap();
    fs::write(home.path("file"), "text").unwrap();
    for name in ["live", "datagrams", "file"] {
        let path = home.path(name);
        for kind in ["stream", "dgram"] {
            let failed = bind(&path, ["--type", kind]).fails(["true"]);
            failed.assert(111, [path.display()]);
        }
        assert!(path.exists());
    }
    let nowhere = bind(&home.path("no/such"), []).fails(["true"]);
    nowhere.assert(111, ["parent directory"]);
    drop((live, datagrams));
}

#[test]
fn program_that_cannot_run_leaves_no_socket() {
    let home = Scratch::new();
    let path = home.path("s");
    let bad = home.script("bad", "#!/nowhere/at/all\n");
    let plain = home.path("plain");
    fs::write(&plain, "").unwrap();
    for (program, code) in [
        (bad.as_path(), 127),
        (plain.as_path(), 126),
        (Path::new("no-such-program"), 127),
    ] {
        bind(&path, [])
            .fails([program])
            .assert(code, ["unable to run"]);
        assert!(!path.exists(), "{program:?}");
    }
}

#[test]
fn inherited_sockets_are_neither_served_nor_passed_on() {
    let home = Scratch::new();
    let socket = |name: &str| UnixListener::bind(home.path(name)).unwrap();
    for layout in ["inetd", "systemd"] {
        let path = home.path(layout);
        let door = bind(&path, ["--layout", layout])
            .fd0(socket(&format!("{layout}-zero")))
            .listen_fds([socket(&format!("{layout}-three"))], &["three"]);
        let report = report(door);
        let listening = report.fds().into_values().filter(|fd| fd.listening).count();
        assert_eq!(listening, 1, "{:?}", report.fds());
        if layout == "systemd" {
            assert_eq!(report.fds()[&0].link, "/dev/null");
        }
        assert_eq!(report.env("LISTEN_FDNAMES"), None);
    }
    let datagrams = UnixDatagram::bind(home.path("datagrams")).unwrap();
    let door = bind(&home.path("s"), ["--layout", "systemd"]).fd0(datagrams);
    assert_eq!(report(door).fds()[&0].link, "/dev/null");
}

#[test]
fn keep_fd_passes_a_descriptor_on() {
    let home = Scratch::new();
    let file = fs::File::create(home.path("kept")).unwrap();
    let door = bind(&home.path("s"), ["--keep-fd", "5", "--keep-fd", "80"]);
    let door = door.fd(5, file.try_clone().unwrap()).fd(80, file);
    assert_eq!(report(door).fd_numbers(), [0, 1, 2, 5, 80]);
}

#[test]
fn abstract_name_is_bound_without_a_lock() {
    let home = Scratch::new();
    let name = format!("@doorward-bind-{}", std::process::id());
    let _door = bind(Path::new(&name), []).start(["sleep", "1000"]);
    eventually("the socket", || Dial::to(&name).try_connect().is_ok());
    bind(Path::new(&name), [])
        .fails(["true"])
        .assert(111, [&name]);
    assert_eq!(fs::read_dir(home.dir()).unwrap().count(), 0);
}

#[test]
fn what_makes_no_sense_together_is_wrong_use_and_binds_nothing() {
    let home = Scratch::new();
    let path = home.path("s");
    for (options, words) in [
        (&["--allow", "all"][..], ["--allow", "bind asks nobody"]),
        (&["--max=3"], ["--max", "bind asks nobody"]),
        (&["--rules", "/"], ["--rules", "bind asks nobody"]),
        (&["--deny-text", "x"], ["--deny-text", "bind asks nobody"]),
        (&["--layout", "ucspi"], ["'ucspi'", "systemd"]),
        (&["--inetd", "--layout", "systemd"], ["--inetd", "--layout"]),
        (&["--fdname", "x"], ["--fdname", "--layout inetd"]),
        (
            &["--layout", "systemd", "--fdname", "a:b"],
            ["--fdname", "colon"],
        ),
        (
            &["--layout", "systemd", "--fdname", "a", "--fdname", "b"],
            ["--fdname a", "--fdname b"],
        ),
        (
            &["--type", "dgram", "--backlog", "1"],
            ["--backlog", "--type dgram"],
        ),
        (&["--mode", "999"], ["--mode", "999"]),
        (&["--keep-fd", "9"], ["--keep-fd 9", "not open"]),
        (&["--keep-fd", "2"], ["--keep-fd 2", "3 to 1023"]),
        (
            &["--layout", "systemd", "--keep-fd", "3"],
            ["--keep-fd 3", "--layout systemd"],
        ),
        (&["--bind", "x"], ["--bind", "unexpected"]),
        (&["--notify"], ["--notify", "unexpected"]),
    ] {
        let door = Door::new().command("bind").no_bind().no_notify();
        let door = door.args(options).args([&path]);
        door.fails(["true"]).assert(100, words);
        assert!(!path.exists(), "{options:?}");
    }
    bind(Path::new("@x"), ["--mode", "0600"])
        .fails(["true"])
        .assert(100, ["--mode", "@x"]);
}

#[test]
fn datagrams_are_for_bind_and_activate_alone() {
    for command in ["spawn", "handoff", "connect"] {
        let door = Door::new().command(command).args(["--type", "dgram"]);
        let door = if command == "connect" {
            door.no_bind().args(["/nowhere"])
        } else {
            door
        };
        let path = door.path("s");
        let failed = door.fails(["true"]);
        failed.assert(100, ["--type dgram", command, "doorward bind"]);
        assert!(!path.exists());
    }
}

#[test]
fn example_of_the_readme_is_what_is_tried_here() {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    for line in [
        "doorward bind --mode 0666 /run/whoami.sock s6-ipcserverd printenv IPCREMOTEEUID &",
        "doorward activate --bind /run/uuidd.sock --mode 0666 uuidd -S -P -F -T 60 &",
    ] {
        assert!(readme.contains(line), "{line}");
    }
}

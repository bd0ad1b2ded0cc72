//! The vocabulary itself, on stand-ins: a listener in this process, the probe started by hand.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::support::notices::Notices;
use crate::support::{
    Client, DEADLINE, Dial, Report, Scratch, User, inspect, lines::Lines, probe, raw,
};

#[test]
fn probe_reports_exactly_what_it_was_given() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.path("s")).unwrap();
    let mut command = Command::new(probe());
    command
        .args(["report", "7"])
        .env_clear()
        .env("ODD", "a\nb\\c")
        .stdin(Stdio::null());
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/");
    raw::place_descriptors(&mut command, vec![(7, theirs.into()), (3, listener.into())]);

    let mut child = command.spawn().unwrap();
    drop(command);
    let report = Report::parse(Client::from(OwnedFd::from(ours)).read_to_end());
    assert!(child.wait().unwrap().success());

    assert_eq!(report.argv(), [probe().to_str().unwrap(), "report", "7"]);
    assert_eq!(report.env_names(), ["ODD"]);
    assert_eq!(report.env("ODD").as_deref(), Some("a\nb\\c"));
    assert_eq!(report.fd_numbers(), [0, 1, 2, 3, 7]);
    let fds = report.fds();
    assert_eq!((fds[&3].listening, fds[&7].listening), (true, false));
    assert_eq!(
        (fds[&7].socket.as_str(), fds[&0].socket.as_str()),
        ("stream", "-")
    );
    assert_eq!(fds[&0].link, "/dev/null");
    assert!(fds.values().all(|fd| !fd.cloexec), "{fds:?}");
    assert_eq!(report.number("pid"), child.id() as i32);
    assert_eq!(report.number("ppid"), std::process::id() as i32);
    assert_eq!(report.get("cwd"), "/");
    assert_eq!(report.get("caught"), "0000000000000000");
}

#[test]
fn descriptors_that_stand_in_each_others_place_are_swapped() {
    let scratch = Scratch::new();
    let file = |name: &str| OwnedFd::from(File::create(scratch.path(name)).unwrap());
    let mut out = UnixStream::pair().unwrap();
    let mut command = Command::new(probe());
    command.args(["report", "9"]).stdin(Stdio::null());
    let files: Vec<OwnedFd> = ["a", "b", "c"].iter().map(|name| file(name)).collect();
    // Whatever numbers these have here, each one's number is another one's target among 3 to 20.
    let mut placed: Vec<(i32, OwnedFd)> = (3..).zip(files).collect();
    placed.push((9, out.1.into()));
    raw::place_descriptors(&mut command, placed);

    let mut child = command.spawn().unwrap();
    drop(command);
    let mut text = Vec::new();
    out.0.read_to_end(&mut text).unwrap();
    child.wait().unwrap();

    let fds = Report::parse(text).fds();
    for (number, name) in [(3, "a"), (4, "b"), (5, "c")] {
        assert_eq!(fds[&number].link, scratch.path(name).to_str().unwrap());
    }
}

#[test]
fn probe_sets_the_variables_of_an_activated_process_for_itself() {
    let mut command = Command::new(probe());
    let inner = probe();
    command
        .args(["listen-pidfdid", inner.to_str().unwrap(), "report", "1"])
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let report = Report::parse(output.stdout);
    assert_eq!(report.env("LISTEN_PID"), Some(report.get("pid")));
    assert!(
        report
            .env("LISTEN_PIDFDID")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
}

#[test]
fn client_of_another_user_shows_that_users_credentials_and_no_other_thread_changes() {
    need!(root);
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let listener = UnixListener::bind(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();

    let user = User::new(1234, 5678).groups([42, 43]);
    let _client = Dial::to(&path).user(&user).connect();
    let (server, _) = listener.accept().unwrap();

    let peer = getsockopt(&server, PeerCredentials).unwrap();
    assert_eq!(
        (peer.uid(), peer.gid(), peer.pid()),
        (1234, 5678, std::process::id() as i32)
    );
    assert!(
        nix::unistd::geteuid().is_root(),
        "the rest of this process kept its user"
    );
    let refused = Dial::to(&path)
        .user(&User::new(1235, 5678))
        .try_connect()
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn clients_reach_long_paths_abstract_names_and_are_bound_where_told() {
    let scratch = Scratch::new();
    let deep = scratch.path(&"d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let here = scratch.path("near");
    let listener = UnixListener::bind(&here).unwrap();
    let deep_path = deep.join("far");
    std::fs::rename(&here, &deep_path).unwrap();

    let mut client = Dial::to(&deep_path)
        .bound_to(scratch.path("mine"))
        .connect();
    let (mut server, from) = listener.accept().unwrap();
    assert_eq!(from.as_pathname(), Some(&*scratch.path("mine")));
    server.write_all(b"one\ntwo").unwrap();
    drop(server);
    assert_eq!(client.read_line(), "one");
    assert_eq!(client.read_to_end(), b"two");

    let name = format!("@doorward-test-{}", std::process::id());
    assert_eq!(
        Dial::to(name).try_connect().unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

#[test]
fn clients_tell_a_clean_end_from_a_reset_and_take_descriptors() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut client = Client::from(OwnedFd::from(ours));
    let mut server = Client::from(OwnedFd::from(theirs));
    client.assert_open();
    server.send_fds(b"doorward 1\n", &[File::open("/dev/null").unwrap().as_fd()]);
    let (bytes, descriptors) = client.recv_greeting();
    assert_eq!(
        (bytes.as_slice(), descriptors.len()),
        (&b"doorward 1\n"[..], 1)
    );
    drop(server);
    client.assert_closed();

    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut client = Client::from(OwnedFd::from(ours));
    client.send(b"never read");
    drop(theirs);
    client.assert_reset();
}

#[test]
fn notices_and_lines_are_waited_for_and_not_taken_twice() {
    let scratch = Scratch::new();
    for notices in [
        Notices::at_path(&scratch.path("notify")),
        Notices::at_name(&format!("doorward-test-notices-{}", std::process::id())),
    ] {
        let sender = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::Datagram,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        );
        let sender = sender.unwrap();
        let send = |address: &nix::sys::socket::UnixAddr| {
            use std::os::fd::AsRawFd;
            nix::sys::socket::sendto(
                sender.as_raw_fd(),
                b"READY=1\nSTATUS=x",
                address,
                nix::sys::socket::MsgFlags::empty(),
            )
        };
        crate::support::client::with_address(notices.address().as_ref(), send).unwrap();
        assert_eq!(
            notices.wait_for("READY=1", DEADLINE).unwrap().text,
            "READY=1\nSTATUS=x"
        );
        assert_eq!(notices.all().len(), 1);
    }

    let lines = Lines::gather(&b"a 1\nb 2\na 3\n"[..]);
    assert_eq!(lines.take("a ").as_deref(), Some("a 1"));
    assert_eq!(lines.take("a ").as_deref(), Some("a 3"));
    assert_eq!((lines.take("a "), lines.count("a ")), (None, 2));
}

#[test]
fn inspection_finds_listening_sockets_children_and_signal_sets() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.path("s")).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let start = |placed| {
        let mut command = Command::new(probe());
        command.args(["ignore-term", "6"]).stdin(Stdio::null());
        raw::place_descriptors(&mut command, placed);
        command.spawn().unwrap()
    };
    let theirs = OwnedFd::from(theirs);
    let mut child = start(vec![
        (3, listener.into()),
        (6, theirs.try_clone().unwrap()),
        (7, theirs),
    ]);
    let mut client = Client::from(OwnedFd::from(ours));
    assert_eq!(client.read_line(), "ready");

    let pid = child.id() as i32;
    assert!(inspect::has_listening_socket(pid));
    assert_eq!(
        inspect::fds(pid).into_keys().collect::<Vec<_>>(),
        [0, 1, 2, 3, 6, 7]
    );
    let term = 1 << (libc::SIGTERM - 1);
    assert_ne!(inspect::status(pid).ignored & term, 0);
    assert_eq!(inspect::status(pid).blocked & term, 0);
    assert!(inspect::children(std::process::id() as i32).contains(&pid));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!inspect::alive(pid));
}

//! Where its sockets come from: inherited ones, datagram sockets on 0, names.

use super::gets::report;
use super::{ONE, activate, reporter};
use crate::source::{listening, stream};
use crate::support::{Dial, Door, Scratch, client::with_address};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

fn datagrams(path: &Path) -> OwnedFd {
    UnixDatagram::bind(path).unwrap().into()
}

#[test]
fn inherited_sockets_of_every_type_reach_the_daemon_under_their_names() {
    let door = activate([]).no_bind();
    let paths = [door.path("a"), door.path("b"), door.path("c")];
    let sockets = [
        stream(&paths[0]),
        listening(SockType::SeqPacket, &paths[1]),
        datagrams(&paths[2]),
    ];
    let door = door.listen_fds(sockets, &["x", "y", "z"]).serve(reporter());
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"wake up", &paths[2]).unwrap();
    let report = report(&door);
    let fds = report.fds();
    let types: Vec<&str> = (3..6).map(|number| fds[&number].socket.as_str()).collect();
    assert_eq!(types, ["stream", "seqpacket", "dgram"]);
    assert_eq!(report.fd_numbers(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(report.env("LISTEN_FDS").as_deref(), Some("3"));
    assert_eq!(report.env("LISTEN_FDNAMES").as_deref(), Some("x:y:z"));
}

#[test]
fn name_picks_and_fdname_renames() {
    let door = activate(["--name", "y", "--fdname", "renamed"]).no_bind();
    let paths = [door.path("a"), door.path("b")];
    let sockets = paths.each_ref().map(|path| stream(path));
    let kept = sockets[0].try_clone().unwrap();
    let door = door.listen_fds(sockets, &["x", "y"]).serve(reporter());
    let waiting = Dial::to(&paths[0]).connect();
    let _client = Dial::to(&paths[1]).connect();
    let report = report(&door);
    assert_eq!(report.fd_numbers(), [0, 1, 2, 3]);
    assert_eq!(report.env("LISTEN_FDNAMES").as_deref(), Some("renamed"));
    waiting.assert_open();
    drop(kept);
}

#[test]
fn names_of_bound_sockets_are_those_of_fdname_in_order() {
    let home = Scratch::new();
    let door = activate(["--fdname", "one", "--fdname", "two"]);
    let other = home.path("other");
    let door = door
        .args(["--bind".as_ref(), other.as_os_str()])
        .serve(reporter());
    let _client = door.connect();
    let names = report(&door).env("LISTEN_FDNAMES");
    assert_eq!(names.as_deref(), Some("one:two"));
}

#[test]
fn listening_socket_on_0_is_taken() {
    need!("python3");
    let door = activate([]).no_bind();
    let path = door.path("s");
    let door = door.fd0(stream(&path)).serve(ONE);
    assert_eq!(door.connect().read_text(), "served\n");
}

#[test]
fn datagram_socket_on_all_of_0_1_2_is_taken_as_from_inetd() {
    let home = Scratch::new();
    let path = home.path("log");
    let socket = datagrams(&path);
    let copy = || socket.try_clone().unwrap();
    let out = home.path("out");
    let daemon = format!("exec cat >{}", out.display());
    let door = activate(["--inetd"]).no_bind();
    let door = door.fd0(copy()).fd1(copy()).fd2(copy());
    let door = door.serve(["sh", "-c", &daemon]);
    drop(socket);
    for number in 0..3 {
        assert_eq!(door.fds()[&number], "/dev/null");
    }
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"hello", &path).unwrap();
    crate::support::eventually("the datagram", || {
        std::fs::read(&out).is_ok_and(|text| text == b"hello")
    });
}

#[test]
fn bound_paths_must_be_the_inherited_ones() {
    let door = activate([]);
    let other = door.path("other");
    door.listen_fds([datagrams(&other)], &[])
        .fails(["true"])
        .assert(100, ["is not among --bind"]);
    let door = activate([]);
    let path = door.path("s");
    drop(door.listen_fds([datagrams(&path)], &[]).serve(["true"]));
}

#[test]
fn datagram_sockets_that_nobody_can_send_to_are_refused() {
    let home = Scratch::new();
    let path = home.path("bound");
    let connected = UnixDatagram::bind(&path).unwrap();
    let peer = UnixDatagram::bind(home.path("peer")).unwrap();
    connected.connect(home.path("peer")).unwrap();
    let (pair, _other) = UnixDatagram::pair().unwrap();
    let unbound = UnixDatagram::unbound().unwrap();
    for (socket, word) in [
        (connected, "connected to one sender"),
        (pair, "connected to one sender"),
        (unbound, "without a name"),
    ] {
        let failed = activate([]).no_bind().listen_fds([socket], &[]);
        failed.fails(["true"]).assert(100, ["descriptor 3", word]);
    }
    drop(peer);
    // A bound one that does not listen is none either.
    let flags = SockFlag::SOCK_CLOEXEC;
    let silent = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    with_address(&home.path("silent"), |at| {
        socket::bind(silent.as_raw_fd(), at)
    })
    .unwrap();
    let failed = activate([]).no_bind().listen_fds([silent], &[]);
    failed.fails(["true"]).assert(100, ["not listening"]);
}

#[test]
fn what_makes_no_sense_together_is_wrong_use_and_binds_nothing() {
    for (options, words) in [
        (&["--allow", "all"][..], ["--allow", "activate asks nobody"]),
        (&["--rate", "1/1"], ["--rate", "activate asks nobody"]),
        (&["--max-per-user=3"], ["--max-per-user", "asks nobody"]),
        (&["--layout", "ucspi"], ["'ucspi'", "inetd"]),
        (&["--inetd", "--layout", "systemd"], ["--inetd", "--layout"]),
        (
            &["--inetd", "--bind", "/nowhere/x"],
            ["--layout inetd", "--bind"],
        ),
        (
            &["--fdname", "a", "--fdname", "b"],
            ["2 times", "1 sockets"],
        ),
        (&["--fdname", ""], ["--fdname", "empty"]),
        (&["--type", "stream", "--grace", "x"], ["--grace", "x"]),
        (&["--ready-fd", "9"], ["--ready-fd 9", "not open"]),
        (&["--lifetime", "3"], ["--lifetime", "unexpected"]),
    ] {
        let door = activate([]).args(options);
        let path = door.path("s");
        door.fails(["true"]).assert(100, words);
        assert!(!path.exists(), "{options:?}");
    }
    let door = activate(["--inetd"]).no_bind();
    let sockets = [stream(&door.path("a")), stream(&door.path("b"))];
    door.listen_fds(sockets, &[])
        .fails(["true"])
        .assert(100, ["--layout inetd", "2 inherited sockets"]);
    let nothing = Door::new().command("activate").no_bind();
    nothing.fails(["true"]).assert(100, ["--bind"]);
}

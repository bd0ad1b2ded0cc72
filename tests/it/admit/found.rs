//! Where admit looks for the connection, and what it says of what is none.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Accepted, admit, refused, report, reporter};
use crate::support::{Client, Door, Report, Scratch, User};

#[test]
fn listen_fds_comes_before_0_and_0_before_6() {
    let (mut by_variable, mut on_0, mut on_6) =
        (Accepted::here(), Accepted::here(), Accepted::here());

    let all = |door: Door| {
        door.listen_fds([by_variable.copy()], &[])
            .fd0(on_0.copy())
            .fd(6, on_6.copy())
    };
    let found = report_of(all(admit([])), "3", &mut by_variable);
    // 0 is another socket than the connection, and stays.
    assert_eq!(found.fd_numbers(), [0, 1, 2, 3]);

    let two = |door: Door| door.fd0(on_0.copy()).fd(6, on_6.copy());
    let found = report_of(two(admit([])), "0", &mut on_0);
    assert_eq!(found.fd_numbers(), [0, 1, 2]);
    let fds = found.fds();
    assert_eq!(fds[&0].link, fds[&1].link, "0 and 1 are the connection");

    let found = report_of(admit([]).fd(6, on_6.copy()), "6", &mut on_6);
    assert_eq!(found.fd_numbers(), [0, 1, 2, 6, 7]);
    let fds = found.fds();
    assert_eq!(fds[&6].link, fds[&7].link, "6 and 7 are the connection");
}

/// The report of a program that gets a connection of which the test keeps a copy.
#[track_caller]
fn report_of(door: Door, fd: &str, from: &mut Accepted) -> Report {
    let mut door = door.start(reporter(fd));
    let status = door.wait_exit();
    assert!(status.success(), "{status}: {:?}", door.whole_log());
    let mut text = String::new();
    while !text.ends_with("end \n") {
        text += &from.client.read_line();
        text += "\n";
    }
    Report::parse(text)
}

#[test]
fn file_or_nothing_on_0_is_passed_over() {
    let scratch = Scratch::new();
    let path = scratch.path("file");
    fs::write(&path, "").unwrap();
    let file = || File::open(&path).unwrap();
    let (door, mut client) = Accepted::here().on_6_and_7(admit([]).fd0(file()));
    let found = report(door, "6", &mut client);
    let link = &found.fds()[&0].link;
    assert_eq!(Some(&**link), path.to_str(), "0 stays what it was");

    let closed = admit([]).wrap(["sh", "-c", "exec \"$@\" <&-", "sh"]);
    let (door, mut client) = Accepted::here().on_6_and_7(closed);
    // A standard descriptor that is closed would become the next thing that the program opens.
    assert_eq!(report(door, "6", &mut client).fd_numbers(), [0, 1, 2, 6, 7]);

    for door in [admit([]), admit([]).fd0(file())] {
        let (code, door) = refused(door);
        assert_eq!(code, 100);
        door.wait_log("no connection: neither LISTEN_FDS nor descriptor 0 nor 6 has a socket");
    }
}

#[test]
fn listen_fds_of_another_process_is_not_believed_and_the_log_says_so() {
    let lies = |door: Door| door.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let (on_3, on_0) = (Accepted::here(), Accepted::here());
    let (door, mut client) = on_0.on_0_and_1(lies(admit([])).fd(3, on_3.copy()));
    let found = report(door, "0", &mut client);
    assert_eq!(found.fd_numbers(), [0, 1, 2]);

    let (code, door) = refused(lies(admit([])).fd(3, on_3.copy()));
    assert_eq!(code, 100);
    door.wait_log("LISTEN_FDS=1 was not taken: LISTEN_PID=1 is not our pid");

    let (code, door) = refused(admit([]).env("LISTEN_FDS", "1").fd(3, on_3.copy()));
    assert_eq!(code, 100);
    door.wait_log("there is no LISTEN_PID");
}

#[test]
fn pidfdid_is_compared_where_it_is_set() {
    let door = |on_3: &Accepted| admit([]).env("LISTEN_FDS", "1").fd(3, on_3.copy());
    let mut on_3 = Accepted::here();
    report_of(door(&on_3).listen_pidfdid(), "3", &mut on_3);
    let (code, door) = refused(door(&on_3).listen_pid().env("LISTEN_PIDFDID", "1"));
    assert_eq!(code, 100);
    door.wait_log("LISTEN_PIDFDID=1 is not ours");
}

#[test]
fn listen_fds_that_is_not_about_one_socket_ends_it_whatever_else_there_is() {
    let other = Accepted::here();
    for count in ["0", "2", "-1", "", "one", "4294967297"] {
        let door = admit([])
            .env("LISTEN_FDS", count)
            .listen_pid()
            .fd(3, other.copy())
            .fd(4, other.copy())
            .fd0(other.copy());
        let (code, door) = refused(door);
        assert_eq!(code, 100, "{count:?}");
        door.wait_log("but admit takes one connection");
    }
    let door = || {
        admit([])
            .env("LISTEN_FDS", "1")
            .listen_pid()
            .fd0(other.copy())
    };
    for door in [door(), door().fd(3, File::open("/dev/null").unwrap())] {
        let (code, door) = refused(door);
        assert_eq!(code, 100);
        door.wait_log("but descriptor 3 is not a socket");
    }
    other.client.assert_open();
}

#[test]
fn listening_socket_is_no_connection_and_spawn_is_named() {
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let copy = || OwnedFd::from(listening.try_clone().unwrap());
    for (number, door) in [
        (0, admit([]).fd0(copy())),
        (0, admit([]).fd0(copy()).fd(6, Accepted::here().socket)),
        (3, admit([]).listen_fds([copy()], &[])),
        (6, admit([]).fd(6, copy())),
        (0, admit([]).fd0(TcpListener::bind("127.0.0.1:0").unwrap())),
    ] {
        let (code, door) = refused(door);
        assert_eq!(code, 100);
        let text =
            format!("descriptor {number} is a listening socket, not a connection: doorward spawn");
        door.wait_log(&text);
    }
}

#[test]
fn what_has_no_connection_is_wrong_use() {
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    let (code, door) = refused(admit(["--allow", "all"]).fd0(datagram));
    assert_eq!(code, 100);
    door.wait_log("descriptor 0 is a Unix datagram socket, which has no connections");

    let fresh = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let (code, door) = refused(admit(["--allow", "all"]).fd0(fresh.unwrap()));
    assert_eq!(code, 100);
    door.wait_log("descriptor 0 is a Unix socket that is not connected");
}

#[test]
fn tcp_peer_has_no_user_and_is_refused_whatever_the_rules_say() {
    for options in [["--deny-text", "no"], ["--allow", "all"]] {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let (socket, _) = listening.accept().unwrap();
        // Another connection on 6, of somebody who would be let in, is not taken for it.
        let door = admit(options).fd0(socket).fd(6, Accepted::here().socket);
        let (code, door) = refused(door);
        assert_eq!(code, 1);
        let line = door.wait_log("deny user=unmapped group=unmapped pid=- reason=identity cause=");
        assert!(line.contains("not a Unix socket"), "{line}");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut client, &mut text).unwrap();
        let expected = if options[0] == "--deny-text" {
            "no\n"
        } else {
            ""
        };
        assert_eq!(text, expected);
    }
}

#[test]
fn seqpacket_connection_is_one_too() {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let listening = crate::support::client::with_address(&path, |address| {
        use nix::sys::socket::{Backlog, bind, listen};
        use std::os::fd::AsRawFd;
        let socket = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        bind(socket.as_raw_fd(), address)?;
        listen(&socket, Backlog::new(1)?)?;
        Ok(UnixListener::from(socket))
    })
    .unwrap();
    let mut client = crate::support::Dial::to(path).seqpacket().connect();
    let (socket, _) = listening.accept().unwrap();
    let mut door = admit(["--allow", "self"]).fd0(socket).start(["cat"]);
    for record in ["one\n", "two\n"] {
        client.send(record.as_bytes());
        assert_eq!(client.read_record(), record.as_bytes());
    }
    client.shutdown_write();
    assert!(door.wait_exit().success());
    assert_eq!(client.read_record(), b"", "the end of file");
}

#[test]
fn socketpair_has_its_maker_for_a_peer() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut client = Client::from(OwnedFd::from(ours));
    let found = report(admit(["--allow", "self"]).fd0(theirs), "0", &mut client);
    let me = User::me();
    assert_eq!(found.env("IPCREMOTEEUID"), Some(me.uid.to_string()));
    assert_eq!(
        found.env("IPCREMOTEPID"),
        Some(std::process::id().to_string())
    );
    assert_eq!(found.env("IPCLOCALPATH").as_deref(), Some(""));

    let (_ours, theirs) = UnixStream::pair().unwrap();
    let (code, door) = refused(admit(["--deny", "self"]).fd0(theirs));
    assert_eq!(code, 1);
    door.wait_log(&format!("deny user={} ", me.uid));
}

#[test]
fn client_that_is_gone_is_still_who_it_was() {
    need!(root);
    let user = User::new(4_711, 4_712);
    let gone = |door: Door| {
        let Accepted {
            socket,
            client,
            scratch,
        } = Accepted::of_user(&user);
        drop(client);
        (door.fd0(socket), scratch)
    };
    let (door, _scratch) = gone(admit(["--allow", "self"]));
    let (code, door) = refused(door);
    assert_eq!(code, 1);
    door.wait_log("deny user=4711 group=4712 ");

    let (door, _scratch) = gone(admit(["--allow", "user:4711", "--layout", "ucspi"]));
    let mut door = door.start(["printenv", "IPCREMOTEEUID"]);
    assert!(door.wait_exit().success());
    assert_eq!(door.output().whole(), ["4711"]);
}

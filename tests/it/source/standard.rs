//! Descriptor 0 as the listening socket, and what becomes of 0, 1 and 2 when they are.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use super::{assert_plain_child, reporter, stream};
use crate::support::{Door, Report};

#[test]
fn listening_descriptor_0_is_served_and_replaced_by_dev_null() {
    let door = Door::new().no_bind();
    let path = door.path("s");
    let door = door.fd0(stream(&path)).serve(reporter());

    let report = Report::parse(door.connect().read_to_end());

    assert_plain_child(&report);
    assert_eq!(report.env("IPCLOCALPATH").as_deref(), path.to_str());
    assert_eq!(door.fds()[&0], "/dev/null");
}

#[test]
fn all_three_standard_descriptors_may_be_the_listening_socket() {
    let door = Door::new().no_bind();
    let socket = stream(&door.path("s"));
    let copy = || socket.try_clone().unwrap();
    let door = door.fd0(copy()).fd1(copy()).fd2(copy()).serve(reporter());
    drop(socket);

    let report = Report::parse(door.connect().read_to_end());

    assert_plain_child(&report);
    for number in 0..3 {
        assert_eq!(
            door.fds()[&number],
            "/dev/null",
            "descriptor {number} of doorward"
        );
        assert_eq!(
            report.fds()[&number].link,
            "/dev/null",
            "descriptor {number} of the child"
        );
    }
}

#[test]
fn listening_socket_on_1_or_2_is_taken_away_and_not_served() {
    let door = Door::new();
    let stray = stream(&door.path("stray"));
    let door = door.fd1(stray.try_clone().unwrap()).serve(reporter());
    assert_plain_child(&Report::parse(door.connect().read_to_end()));
    assert_eq!(door.fds()[&1], "/dev/null");

    Door::new()
        .no_bind()
        .fd1(stray)
        .fails(reporter())
        .assert(100, ["--bind"]);
}

#[test]
fn descriptor_0_that_does_not_listen_is_no_source() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    Door::new()
        .no_bind()
        .fd0(theirs.try_clone().unwrap())
        .fails(reporter())
        .assert(100, ["--bind"]);

    let door = Door::new().fd0(theirs).serve(reporter());
    Report::parse(door.connect().read_to_end());
}

#[test]
fn listening_tcp_socket_on_0_is_not_served() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    Door::new()
        .no_bind()
        .fd0(tcp)
        .fails(reporter())
        .assert(100, ["doorward: fatal: "]);
}

#[test]
fn listen_fds_comes_before_descriptor_0() {
    let door = Door::new().no_bind();
    let (zero, activated) = (door.path("zero"), door.path("s"));
    let zero_socket = stream(&zero);
    let door = door
        .fd0(zero_socket.try_clone().unwrap())
        .listen_fds([stream(&activated)], &[])
        .serve(reporter());

    assert_plain_child(&Report::parse(door.connect().read_to_end()));
    let waiting = crate::support::Dial::to(&zero).connect();
    Report::parse(door.connect().read_to_end());
    waiting.assert_open();
    drop(zero_socket);
}

#[test]
fn descriptor_0_may_be_named_by_bind_and_has_no_name() {
    let door = Door::new();
    let socket = stream(&door.path("s"));
    let door = door.fd0(socket).serve(reporter());
    assert_plain_child(&Report::parse(door.connect().read_to_end()));

    let door = Door::new().no_bind().args(["--name", "x"]);
    let socket = stream(&door.path("s"));
    door.fd0(socket).fails(reporter()).assert(100, ["--name"]);
}

#[test]
fn relisten_works_on_descriptor_0() {
    let door = Door::new().no_bind().args(["--relisten"]);
    let socket = stream(&door.path("s"));
    let door = door.fd0(socket).serve(reporter());
    assert_eq!(door.connect().server().0, door.pid());
}

//! Inherited descriptors that are not what is to be served, and `--bind` beside inherited sockets.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::SockType;

use super::{assert_plain_child, bound, listening, reporter, stream};
use crate::support::{Dial, Door, Report};

#[test]
fn descriptor_that_is_no_listening_unix_socket_is_named_and_refused() {
    type Make = fn(&Door) -> OwnedFd;
    let odd: [(&str, Make); 6] = [
        ("tcp", |_| TcpListener::bind("127.0.0.1:0").unwrap().into()),
        ("file", |_| File::open("/dev/null").unwrap().into()),
        ("connected", |_| UnixStream::pair().unwrap().0.into()),
        ("datagram", |door| {
            bound(SockType::Datagram, &door.path("dgram"))
        }),
        ("not listening", |door| {
            bound(SockType::Stream, &door.path("mute"))
        }),
        ("pipe", |_| nix::unistd::pipe().unwrap().0),
    ];
    for (what, make) in odd {
        let door = Door::new().no_bind();
        let sockets = [stream(&door.path("s")), make(&door)];
        let outcome = door.listen_fds(sockets, &["good", "odd"]).fails(reporter());
        assert!(
            outcome.stderr.contains("descriptor 4"),
            "{what}: {}",
            outcome.stderr
        );
        outcome.assert(100, ["doorward: fatal: "]);
    }
}

#[test]
fn inherited_socket_of_another_type_than_given_is_refused() {
    for (kind, given) in [
        (SockType::Stream, "seqpacket"),
        (SockType::SeqPacket, "stream"),
    ] {
        let door = Door::new().no_bind().args(["--type", given]);
        let socket = listening(kind, &door.path("s"));
        door.listen_fds([socket], &[])
            .fails(reporter())
            .assert(100, ["descriptor 3", given]);

        let door = Door::new().no_bind().args(["--type", given]);
        let socket = listening(kind, &door.path("s"));
        door.fd0(socket)
            .fails(reporter())
            .assert(100, ["descriptor 0", given]);
    }
}

#[test]
fn bind_beside_an_inherited_socket_may_name_the_same_place_in_other_words() {
    let door = Door::new();
    let dir = door.dir().to_owned();
    std::fs::create_dir(dir.join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
    let socket = stream(&dir.join("real/s"));
    let words = dir.join("real/../link/s");
    let door = door
        .bind(&words)
        .listen_fds([socket], &[])
        .serve(reporter());

    let report = Report::parse(Dial::to(dir.join("real/s")).connect().read_to_end());
    assert_plain_child(&report);
    assert_eq!(
        report.env("IPCLOCALPATH").as_deref(),
        words.to_str(),
        "the path as given"
    );
    drop(door);
}

#[test]
fn inherited_socket_that_no_bind_names_is_refused_naming_both() {
    let door = Door::new();
    let socket = stream(&door.path("other"));
    let (given, inherited) = (door.path("s"), door.path("other"));
    let outcome = door.listen_fds([socket], &[]).fails(reporter());
    outcome.assert(100, [given.display(), inherited.display()]);
    assert!(!given.exists());

    let door = Door::new();
    let socket = stream(&door.path("other"));
    let (given, inherited) = (door.path("s"), door.path("other"));
    door.fd0(socket)
        .fails(reporter())
        .assert(100, [given.display(), inherited.display()]);
}

#[test]
fn bind_that_was_not_inherited_beside_one_that_was_is_refused() {
    let door = Door::new();
    let second = door.path("second");
    let socket = stream(&door.path("s"));
    let outcome = door
        .args(["--bind".as_ref(), second.as_os_str()])
        .listen_fds([socket], &[])
        .fails(reporter());
    outcome.assert(100, [second.display()]);
    assert!(!second.exists());
}

#[test]
fn inherited_abstract_socket_is_compared_by_its_name() {
    let name = format!("@doorward-test-same-{}", std::process::id());
    let door = Door::new()
        .bind(&name)
        .listen_fds([stream(name.as_ref())], &[])
        .serve(reporter());
    assert_plain_child(&Report::parse(Dial::to(&name).connect().read_to_end()));
    drop(door);

    let other = format!("{name}-other");
    let outcome = Door::new()
        .bind(&name)
        .listen_fds([stream(other.as_ref())], &[])
        .fails(reporter());
    outcome.assert(100, [&name, &other]);
}

#[test]
fn no_source_at_all_is_wrong_use_and_says_what_to_give() {
    Door::new()
        .no_bind()
        .fails(reporter())
        .assert(100, ["doorward: fatal: ", "--bind"]);
}

//! What stands at the path already: only a socket that nobody holds makes way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::SockType;

use super::{assert_plain_child, bound, listening, mode, owner, reporter};
use crate::support::{Door, Report};

#[test]
fn stale_socket_of_any_type_is_replaced() {
    for kind in [SockType::Stream, SockType::SeqPacket, SockType::Datagram] {
        let door = Door::new();
        drop(bound(kind, &door.path("s")));
        let before = fs::metadata(door.path("s")).unwrap();
        let door = door.serve(reporter());
        let after = fs::metadata(door.socket()).unwrap();
        assert_ne!(
            (before.ino(), before.ctime_nsec()),
            (after.ino(), after.ctime_nsec())
        );
        assert_plain_child(&Report::parse(door.connect().read_to_end()));
    }
}

#[test]
fn live_server_keeps_its_socket_and_never_hears_of_the_attempt() {
    for kind in [SockType::Stream, SockType::SeqPacket] {
        let door = Door::new();
        let path = door.path("s");
        let live = listening(kind, &path);
        let before = fs::metadata(&path).unwrap().ino();
        let outcome = door.fails(reporter());
        outcome.assert(111, [path.to_str().unwrap()]);
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
        let live = UnixListener::from(live);
        live.set_nonblocking(true).unwrap();
        assert_eq!(
            live.accept().unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock,
            "it got a connection"
        );
    }
}

#[test]
fn socket_that_somebody_holds_without_listening_is_alive() {
    for kind in [SockType::Stream, SockType::SeqPacket, SockType::Datagram] {
        let door = Door::new();
        let path = door.path("s");
        let held = bound(kind, &path);
        let outcome = door.fails(reporter());
        outcome.assert(111, ["doorward: fatal: "]);
        assert!(path.exists());
        drop(held);
    }
}

/// Puts something at the path and checks that a start fails and leaves it alone.
#[track_caller]
fn assert_kept(place: impl Fn(&Path)) {
    let door = Door::new();
    let path = door.path("s");
    place(&path);
    let before = fs::symlink_metadata(&path).unwrap();
    let outcome = door.fails(reporter());
    outcome.assert(111, [path.to_str().unwrap()]);
    let after = fs::symlink_metadata(&path).unwrap();
    assert_eq!(
        (before.ino(), before.mode(), before.len()),
        (after.ino(), after.mode(), after.len())
    );
}

#[test]
fn regular_file_is_never_removed() {
    assert_kept(|path| fs::write(path, "precious").unwrap());
}

#[test]
fn directory_is_never_removed() {
    assert_kept(|path| fs::create_dir(path).unwrap());
}

#[test]
fn fifo_is_never_removed_nor_waited_for() {
    assert_kept(|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap());
}

#[test]
fn symbolic_link_is_never_followed_nor_removed() {
    assert_kept(|path| symlink("nowhere", path).unwrap());
    assert_kept(|path| {
        let target = path.with_file_name("target");
        drop(bound(SockType::Stream, &target));
        symlink("target", path).unwrap();
    });
}

/// A door that runs as nobody in a directory of nobody's: root passes every mode, nobody does not.
fn door_of_nobody() -> Door {
    let door = Door::new();
    std::os::unix::fs::chown(door.dir(), Some(65534), Some(65534)).unwrap();
    door.wrap([
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ])
}

#[test]
fn stale_socket_that_its_owner_may_not_write_is_replaced() {
    need!(root, "setpriv");
    let door = door_of_nobody();
    let path = door.path("s");
    drop(bound(SockType::Stream, &path));
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o420)).unwrap();
    let door = door.serve(reporter());
    assert_eq!((mode(&path), owner(&path)), (0o600, (65534, 65534)));
    assert_plain_child(&Report::parse(door.connect().read_to_end()));
}

#[test]
fn live_socket_that_its_owner_may_not_write_keeps_its_mode() {
    need!(root, "setpriv");
    let door = door_of_nobody();
    let path = door.path("s");
    let live = listening(SockType::Stream, &path);
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o420)).unwrap();
    let outcome = door.fails(reporter());
    outcome.assert(111, ["doorward: fatal: "]);
    assert_eq!(mode(&path), 0o420);
    drop(live);
}

#[test]
fn socket_of_another_user_that_cannot_be_asked_is_taken_for_alive() {
    need!(root, "setpriv");
    let door = door_of_nobody();
    let path = door.path("s");
    drop(bound(SockType::Stream, &path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let outcome = door.fails(reporter());
    outcome.assert(111, ["doorward: fatal: "]);
    assert_eq!(owner(&path), (0, 0));
}

//! What cannot be relayed is refused before a byte moves.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::{NOBODY, relay};
use crate::connect::connect;
use crate::support::Scratch;

#[test]
fn without_a_connection_on_6_and_7_there_is_nothing_to_relay() {
    relay([])
        .fails(NOBODY)
        .assert(100, ["descriptor 6 is not open", "doorward connect"]);
    let (near, _far) = UnixStream::pair().unwrap();
    relay([])
        .fd(6, near)
        .fails(NOBODY)
        .assert(100, ["descriptor 7 is not open"]);
}

#[test]
fn records_and_listening_sockets_are_no_stream() {
    let flags = SockFlag::SOCK_CLOEXEC;
    for kind in [SockType::SeqPacket, SockType::Datagram] {
        let (near, _far) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        let copy = near.try_clone().unwrap();
        relay([])
            .fd(6, near)
            .fd(7, copy)
            .fails(NOBODY)
            .assert(100, ["descriptor 6 is a socket of records"]);
    }
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let (near, _far) = UnixStream::pair().unwrap();
    let copy = near.try_clone().unwrap();
    relay([])
        .fd(6, near)
        .fd(7, copy)
        .fd0(OwnedFd::from(listening))
        .fails(NOBODY)
        .assert(100, ["standard input is a listening socket"]);
}

#[test]
fn words_that_make_no_sense_are_refused() {
    relay(["--idle", "0"])
        .fails(NOBODY)
        .assert(100, ["--idle 0"]);
    relay([]).fails(["word"]).assert(100, ["word"]);
    let nowhere = Path::new("/nowhere/at/all");
    connect(nowhere, ["--notify"])
        .fails(NOBODY)
        .assert(100, ["--notify and a relay", "no PROG"]);
    connect(nowhere, ["--type", "seqpacket"])
        .fails(NOBODY)
        .assert(100, ["--type seqpacket and a relay", "no PROG"]);
    connect(nowhere, [])
        .fails(NOBODY)
        .assert(111, ["unable to connect"]);
}

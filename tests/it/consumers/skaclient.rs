//! skarnet's way to bring a client its second socket, inside of a banner: the example `skaclient`, a backend, behind a hand-off.

use super::compile;
use crate::library::example;
use crate::support::{Client, Door, Scratch, Served, User};
use std::io::ErrorKind;
use std::process::Command;

const BEFORE: &[u8] = b"board 1 (b)\n";
const AFTER: &[u8] = b"board 1 (a)\n";

fn board() -> Served {
    Door::new()
        .command("handoff")
        .args(["-v", "--mode", "0666"])
        .serve([example("skaclient")])
}

/// A frame with no descriptor.
fn frame(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), &[0, 0][..], text].concat()
}

/// A frame's text; it has no descriptor.
#[track_caller]
fn read_frame(from: &mut Client) -> Vec<u8> {
    let head = from.read_exactly(6);
    assert_eq!(head[4..], [0, 0], "no descriptor is announced");
    from.read_exactly(u32::from_be_bytes(head[..4].try_into().unwrap()) as usize)
}

/// The handshake as a client has it; gives the second socket.
#[track_caller]
fn shake_hands(client: &mut Client) -> Client {
    client.send(&frame(BEFORE));
    let (banner, mut descriptors) = client.recv_greeting();
    let expected = [&[0, 0, 0, 12, 0, 1][..], AFTER].concat();
    assert_eq!((banner, descriptors.len()), (expected, 1));
    let second = descriptors.remove(0);
    let flags = nix::fcntl::fcntl(&second, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert!(flags & libc::O_NONBLOCK != 0, "as the library has it");
    nix::fcntl::fcntl(
        &second,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
    )
    .unwrap();
    Client::from(second)
}

#[test]
fn frames_go_on_both_sockets_after_the_handshake() {
    need!(root);
    let board = board();
    let (mut one, mut other) = (board.connect(), board.connect_as(&User::new(4711, 4711)));
    let (mut notes_of_one, mut notes_of_other) = (shake_hands(&mut one), shake_hands(&mut other));
    other.send(&frame(b"gone fishing"));
    assert_eq!(read_frame(&mut other), [0]);
    for notes in [&mut notes_of_one, &mut notes_of_other] {
        assert_eq!(read_frame(notes), b"4711: gone fishing");
    }
    one.send(&frame(b""));
    assert_eq!(read_frame(&mut one), [22], "EINVAL");
    // Its end frees its slot and ends its notes.
    drop(other);
    notes_of_other.assert_closed();
    board.wait_log("end child=- user=4711");
}

#[test]
fn who_does_not_shake_hands_is_hung_up_on_and_the_others_are_served() {
    let board = board();
    let mut good = board.connect();
    let mut notes = shake_hands(&mut good);
    for hostile in [
        &frame(b"board 2 (b)\n")[..],
        b"\xff\xff\xff\xff\0\0",
        b"\0\0\0\x0c\0\x01board 1 (b)\n",
    ] {
        let mut client = board.connect();
        client.send(hostile);
        // A reset where something of it was left unread.
        match client.try_read_to_end() {
            Ok(came) => assert_eq!(came, b"", "{hostile:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    // One that leaves in the middle of a frame.
    let mut short = board.connect();
    short.send(&frame(BEFORE)[..9]);
    drop(short);
    good.send(&frame(b"still here"));
    assert_eq!(read_frame(&mut good), [0]);
    assert!(read_frame(&mut notes).ends_with(b": still here"));
}

#[test]
fn skarnet_s_own_library_finds_its_second_socket() {
    let header = format!(
        "/usr/include/{}-linux-gnu/skalibs/skaclient.h",
        std::env::consts::ARCH
    );
    let header = header.as_str();
    need!("gcc", header);
    let scratch = Scratch::new();
    let client = compile(&scratch, "skaclient.c", &["-lskarnet"]);
    let board = board();
    let output = Command::new(client)
        .arg(board.socket())
        .arg("hello from the library")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let me = User::me().uid;
    assert_eq!(
        said,
        format!("answer 0\nnote {me}: hello from the library\n")
    );
}

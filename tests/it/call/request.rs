//! A request made by hand from docs/CALL.md, and what comes back: the tests know the bytes from nowhere else.

use std::os::fd::{AsFd, BorrowedFd};

use crate::support::{Client, Served};

pub const BANNER: &[u8] = b"doorward-call 1\n";

/// The numbers of the refusals.
pub const MALFORMED: u32 = 1;
pub const DESCRIPTORS: u32 = 2;
pub const TOO_LARGE: u32 = 3;
pub const TOO_LATE: u32 = 4;
pub const DETACH: u32 = 5;

pub fn request(settings: &[&[u8]], arguments: &[&[u8]], environment: &[&[u8]]) -> Vec<u8> {
    let mut message = BANNER.to_vec();
    let lists = [settings, arguments, environment];
    let bodies = lists.map(|list| {
        list.iter()
            .flat_map(|entry| [entry, &b"\0"[..]].concat())
            .collect::<Vec<u8>>()
    });
    for (list, body) in lists.iter().zip(&bodies) {
        message.extend((list.len() as u32).to_be_bytes());
        message.extend((body.len() as u32).to_be_bytes());
    }
    message.extend(bodies.concat());
    message
}

/// The settings for the three descriptors.
pub const THREE: &[u8] = b"DESCRIPTORS=stdin:stdout:stderr";

/// A caller that has read the banner.
#[track_caller]
pub fn caller(server: &Served) -> Client {
    let mut caller = server.connect();
    assert_eq!(caller.read_exactly(BANNER.len()), BANNER);
    caller
}

/// One answer: its letter and number.
#[track_caller]
pub fn answer(caller: &mut Client) -> (char, u32) {
    let bytes = caller.read_exactly(5);
    let number = u32::from_be_bytes(bytes[1..].try_into().unwrap());
    (char::from(bytes[0]), number)
}

/// Sends `message` with /dev/null as often as `count` says.
pub fn send(caller: &mut Client, message: &[u8], count: usize) {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let descriptors: Vec<BorrowedFd<'_>> = vec![null.as_fd(); count];
    caller.send_fds(message, &descriptors);
}

/// A frame of the caller's.
pub fn signal(number: u32) -> Vec<u8> {
    [&b"G"[..], &number.to_be_bytes()].concat()
}

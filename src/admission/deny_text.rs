//! `--deny-text`: what a refused client is told.
#![forbid(unsafe_code)]

use nix::sys::socket::{MsgFlags, recv, send};
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// What is read and dropped from a refused client, so that it reads the text and no reset.
const DROP_LIMIT: usize = 64 * 1024;

/// Sends what the refused client is to read, never waiting: what it has sent already is read and dropped first, because closing with
/// unread data would make it read a reset instead.
pub(crate) fn tell_refused(connection: BorrowedFd<'_>, text: &[u8]) {
    let mut buffer = [0u8; 4096];
    let mut dropped = 0;
    while dropped < DROP_LIMIT {
        match recv(connection.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(_) => break,
            Ok(count) => dropped += count,
        }
    }
    let _ = send(
        connection.as_raw_fd(),
        text,
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
    );
}

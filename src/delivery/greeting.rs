//! `--notify`: a fresh socketpair for each connection, and the greeting that brings the client its end.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// The first thing on the connection; the descriptor comes with it.
const GREETING: &[u8] = b"doorward 1\n";

/// Why a greeting was not sent.
#[derive(Debug)]
pub(super) enum Ungreeted {
    /// A limit of ours, or of the kernel's: worth trying again.
    Later(Errno),
    /// The client's doing (it takes no descriptors, or it is gone).
    Client(Errno),
}

/// Sends the client one end of a new AF_UNIX stream socketpair; gives the other, for the child.
pub(super) fn greet(connection: BorrowedFd<'_>) -> Result<OwnedFd, Ungreeted> {
    let (theirs, ours) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(Ungreeted::Later)?;
    let rights = [theirs.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&rights)];
    // Nothing was sent on this connection yet, so the greeting fits and never has to wait.
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    match sendmsg::<()>(
        connection.as_raw_fd(),
        &[IoSlice::new(GREETING)],
        &message,
        flags,
        None,
    ) {
        Ok(sent) if sent == GREETING.len() => Ok(ours),
        Ok(_) => Err(Ungreeted::Client(Errno::EPROTO)),
        // Limits pass. Everything else (EPERM, EPIPE, what a security module says) will be the same next time, and a door that tried
        // again for ever would be lost to all others.
        Err(
            error @ (Errno::ETOOMANYREFS
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
            | Errno::ENOBUFS
            | Errno::EAGAIN
            | Errno::EINTR),
        ) => Err(Ungreeted::Later(error)),
        Err(error) => Err(Ungreeted::Client(error)),
    }
}

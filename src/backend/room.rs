//! Whether this process can take the descriptors of one more message.
#![forbid(unsafe_code)]

use crate::sys;
use nix::libc;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// As many as doorward ever sends with one message.
const ONE_MESSAGE: usize = sys::scm::MOST_SENT;

/// Opens that many copies of `any` and closes them again.
///
/// # Errors
/// The system's, but for the limits, which are the answer "no".
pub(super) fn is_there(any: BorrowedFd<'_>) -> io::Result<bool> {
    let mut failure = None;
    let copies: [Option<OwnedFd>; ONE_MESSAGE] = std::array::from_fn(|_| {
        if failure.is_some() {
            return None;
        }
        sys::fd::copy_above(any, 0)
            .map_err(|error| failure = Some(error))
            .ok()
    });
    drop(copies);
    match failure {
        None => Ok(true),
        Some(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
            ) =>
        {
            Ok(false)
        }
        Some(error) => Err(error),
    }
}

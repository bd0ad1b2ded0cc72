//! For how many more messages this process can take the descriptors.
#![forbid(unsafe_code)]

use crate::sys;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// As many as doorward ever sends with one message.
const ONE_MESSAGE: usize = sys::scm::MOST_SENT;

/// At most `most`; `any` is some descriptor of this process.
///
/// The kernel gives the lowest numbers that are free, so free ones at the upper end of the table are room, whatever is below: a look at
/// them takes four system calls for all messages together. Where something stands up there, room is tried out, for one message.
///
/// # Errors
/// The system's, but for the limits, which are the answer 0.
pub(super) fn messages(any: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = RawFd::try_from(limit).unwrap_or(RawFd::MAX);
    let wanted = RawFd::try_from(most.saturating_mul(ONE_MESSAGE)).unwrap_or(RawFd::MAX);
    let lowest = limit.saturating_sub(wanted).max(0);
    if is_free(any, lowest)? && sys::fd::are_closed(lowest..limit)? {
        return Ok(most.min((limit - lowest).unsigned_abs() as usize / ONE_MESSAGE));
    }
    Ok(usize::from(is_there_for_one(any)?))
}

/// A descriptor that can only be referred to (O_PATH) looks closed to poll(2), so the lowest number, which is taken first, is tried out.
fn is_free(any: BorrowedFd<'_>, number: RawFd) -> io::Result<bool> {
    let copy = allowed(sys::fd::copy_above(any, number))?;
    Ok(copy.is_some_and(|copy| copy.as_raw_fd() == number))
}

/// Opens that many copies of `any` and closes them again.
fn is_there_for_one(any: BorrowedFd<'_>) -> io::Result<bool> {
    let mut copies = [const { None }; ONE_MESSAGE];
    for copy in &mut copies {
        *copy = allowed(sys::fd::copy_above(any, 0))?;
        if copy.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `None` where a limit is in the way.
fn allowed(copy: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match copy {
        Ok(copy) => Ok(Some(copy)),
        // EINVAL: the number to begin at is beyond the limit.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINVAL)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

//! The one thing about a peer that nix cannot ask: its supplementary groups.

use super::cvt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Linux 4.13; the number of every architecture that has the generic socket options.
const SO_PEERGROUPS: libc::c_int = 59;

/// `getsockopt(SO_PEERGROUPS)`: the peer's supplementary groups when it connected, into `groups`; its memory is used again.
pub(crate) fn groups(connection: BorrowedFd<'_>, groups: &mut Vec<u32>) -> io::Result<()> {
    groups.resize(groups.capacity().max(32), 0);
    loop {
        let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the buffer has `length` bytes, and a u32 holds any bit pattern that the kernel writes.
        let result = unsafe {
            libc::getsockopt(
                connection.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        match cvt(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(());
            }
            // Too small: `length` says what is needed (at most 65,536 groups). A length that is no larger would loop.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0)
            }
            Err(error) => {
                groups.clear();
                return Err(error);
            }
        }
    }
}

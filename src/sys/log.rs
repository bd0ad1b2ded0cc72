//! Writing a log line without ever waiting for its reader.

use super::cvt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Writes `line` to `fd` in one call that does not wait.
///
/// Pipes and sockets are asked with RWF_NOWAIT, which acts on this call alone: O_NONBLOCK would act on everybody who shares the open
/// file, children included. What cannot be asked so (files, terminals) is polled for room first; gives how many bytes there was room for.
///
/// # Errors
/// `WouldBlock` when there is no room, `BrokenPipe` when nobody reads; see pwritev2(2).
pub(crate) fn write_now(fd: BorrowedFd<'_>, line: &[u8]) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: line.as_ptr().cast_mut().cast(),
        iov_len: line.len(),
    };
    // SAFETY: `part` describes `line`, which is only read and outlives the call.
    let wrote = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    if let Ok(wrote) = usize::try_from(wrote) {
        return Ok(wrote);
    }
    let error = io::Error::last_os_error();
    // Neither a regular file (EAGAIN on some file systems, EOPNOTSUPP on others) nor a terminal takes RWF_NOWAIT.
    let plain = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ESPIPE | libc::ENOSYS) => true,
        Some(libc::EAGAIN) => is_regular(fd),
        _ => false,
    };
    if !plain {
        return Err(error);
    }
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one whole pollfd.
    if cvt(unsafe { libc::poll(&raw mut poll, 1, 0) })? != 1 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // SAFETY: reads `line` only.
    let wrote = unsafe { libc::write(fd.as_raw_fd(), line.as_ptr().cast(), line.len()) };
    usize::try_from(wrote).map_err(|_| io::Error::last_os_error())
}

fn is_regular(fd: BorrowedFd<'_>) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

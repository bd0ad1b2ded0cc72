//! Reading and writing without ever waiting for the other side, and without a flag that others would see.

use super::cvt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Writes `bytes` to `fd` in one call that does not wait.
///
/// Pipes and sockets are asked with RWF_NOWAIT, which acts on this call alone: O_NONBLOCK would act on everybody who shares the open
/// file, children included. What cannot be asked so (files, terminals) is polled for room first; gives how many bytes there was room for.
///
/// # Errors
/// `WouldBlock` when there is no room, `BrokenPipe` when nobody reads; see pwritev2(2).
pub(crate) fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: `part` describes `bytes`, which is only read and outlives the call.
    let wrote = unsafe { without_waiting(libc::SYS_pwritev2, fd, &part) };
    if let Some(count) = count(wrote, fd)? {
        return Ok(count);
    }
    has(fd, libc::POLLOUT)?;
    // SAFETY: reads `bytes` only.
    let wrote = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(wrote).map_err(|_| io::Error::last_os_error())
}

/// Reads what there is from `fd`, as far as it fits, in one call that does not wait; 0 is the end of file. What cannot be asked so is
/// polled first.
///
/// # Errors
/// `WouldBlock` when there is nothing yet; see preadv2(2).
pub(crate) fn read_now(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `part` describes `buffer`, which nobody else uses and which outlives the call.
    let read = unsafe { without_waiting(libc::SYS_preadv2, fd, &part) };
    if let Some(count) = count(read, fd)? {
        return Ok(count);
    }
    has(fd, libc::POLLIN)?;
    // SAFETY: the kernel writes at most the length of `buffer` into it.
    let read = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// `preadv2` or `pwritev2` at the file's own position with RWF_NOWAIT; by number, for musl before 1.2.5 has no names for them.
///
/// # Safety
/// `call` is one of the two, and `part` describes memory that may be written (`preadv2`) or read (`pwritev2`).
unsafe fn without_waiting(
    call: libc::c_long,
    fd: BorrowedFd<'_>,
    part: &libc::iovec,
) -> libc::c_long {
    // Two words make the position -1; a 64-bit kernel looks at the first alone.
    let (low, high): (libc::c_long, libc::c_long) = (-1, -1);
    // SAFETY: the caller's word for `part`; one part, and numbers.
    unsafe {
        libc::syscall(
            call,
            fd.as_raw_fd(),
            std::ptr::from_ref(part),
            1usize,
            low,
            high,
            libc::RWF_NOWAIT,
        )
    }
}

/// What a call with RWF_NOWAIT did; `None` where `fd` is nothing that can be asked so.
fn count(result: libc::c_long, fd: BorrowedFd<'_>) -> io::Result<Option<usize>> {
    if let Ok(count) = usize::try_from(result) {
        return Ok(Some(count));
    }
    let error = io::Error::last_os_error();
    // Neither a regular file (EAGAIN on some file systems, EOPNOTSUPP on others) nor a terminal takes RWF_NOWAIT.
    let plain = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ESPIPE | libc::ENOSYS) => true,
        Some(libc::EAGAIN) => is_regular(fd),
        _ => false,
    };
    if plain { Ok(None) } else { Err(error) }
}

/// Whether `fd` is ready for `events`, or in a state that the call itself will tell.
///
/// # Errors
/// `WouldBlock` when it is not.
fn has(fd: BorrowedFd<'_>, events: libc::c_short) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one whole pollfd.
    match cvt(unsafe { libc::poll(&raw mut poll, 1, 0) })? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

fn is_regular(fd: BorrowedFd<'_>) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

//! Descriptors: their numbers, their close-on-exec flag, and where they stand in the table.

use super::cvt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Whether `fd` is open in this process.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD reads a flag of whatever number it is given; a closed one is EBADF.
    cvt(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok()
}

/// Whether every one of `numbers` is closed, or can only be referred to (O_PATH): poll(2), to which such numbers are invalid, for 64 of
/// them at a time.
pub(crate) fn are_closed(mut numbers: Range<RawFd>) -> io::Result<bool> {
    while !numbers.is_empty() {
        let mut watched = [libc::pollfd {
            fd: -1,
            events: 0,
            revents: 0,
        }; 64];
        let mut count = 0;
        for (one, number) in watched.iter_mut().zip(&mut numbers) {
            one.fd = number;
            count += 1;
        }
        // SAFETY: the kernel looks at `count` of the array's 64 elements; numbers alone, which nothing is done with.
        while let Err(error) = cvt(unsafe { libc::poll(watched.as_mut_ptr(), count, 0) }) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let mut looked_at = watched.iter().filter(|one| one.fd != -1);
        if !looked_at.all(|one| one.revents & libc::POLLNVAL != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes ownership of a descriptor that came through exec; `None` if it is not open.
///
/// The caller names each number once: it is the start-up code that walks the numbers which the
/// environment and the command line give, before anything else of this process has opened any.
pub(crate) fn take_inherited(fd: RawFd) -> Option<OwnedFd> {
    if fd < 0 || !is_open(fd) {
        return None;
    }
    // SAFETY: the descriptor is open and was opened by the parent, so nothing in this process owns it yet; each number is taken once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets close-on-exec on every descriptor from 3 up, whoever opened it.
pub(crate) fn cloexec_from_three() -> io::Result<()> {
    // SAFETY: changes a flag only; no memory is involved and no descriptor is closed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Lets `fd` pass through exec.
pub(crate) fn keep_through_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes a flag of that number; a closed one is EBADF.
    cvt(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// Copies `fd` to a number of at least `low`, close-on-exec, and closes the original.
pub(crate) fn lift(fd: OwnedFd, low: RawFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= low {
        Ok(fd)
    } else {
        copy_above(fd.as_fd(), low)
    }
}

/// Copies `fd` to the lowest free number of at least `low`, close-on-exec.
pub(crate) fn copy_above(fd: BorrowedFd<'_>, low: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fd` is open by its type; the result is a new descriptor that nobody else owns.
    unsafe {
        cvt(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, low))
            .map(|new| OwnedFd::from_raw_fd(new))
    }
}

/// Puts a copy of `fd` on the number that `at` holds, in one step, close-on-exec; what stood there is closed.
pub(crate) fn replace(fd: BorrowedFd<'_>, at: &OwnedFd) -> io::Result<()> {
    // SAFETY: both are open by their types; `at` stays the owner of its number, which now is another open file.
    cvt(unsafe { libc::dup3(fd.as_raw_fd(), at.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

/// Puts a copy of `fd` on number `at`, where it passes through exec. Whatever stood there is closed: it must be no value's of this
/// process, as when all of them were lifted above `at`.
pub(crate) fn place(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == at {
        // dup2 onto itself would leave close-on-exec set.
        return keep_through_exec(at);
    }
    // SAFETY: numbers only; by the contract above nobody in this process owns what stood at `at`, and nobody will own the copy.
    cvt(unsafe { libc::dup2(fd.as_raw_fd(), at) }).map(drop)
}

/// Puts /dev/null (or whatever `null` is) on one of 0, 1, 2, where it passes through exec.
pub(crate) fn replace_standard(null: BorrowedFd<'_>, standard: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&standard) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the standard descriptors are owned by nobody in Rust's sense (std borrows them by number), so replacing what is behind them
    // closes nothing that another value owns; dup2 keeps the number open throughout.
    cvt(unsafe { libc::dup2(null.as_raw_fd(), standard) }).map(drop)
}

/// One of 0, 1, 2, which this process never closes (they are replaced, never closed).
pub(crate) fn standard(number: RawFd) -> Option<BorrowedFd<'static>> {
    if !(0..=2).contains(&number) || !is_open(number) {
        return None;
    }
    // SAFETY: 0, 1 and 2 are open (std opens /dev/null there at start where they are not) and stay so for the whole life of the process.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// A borrowed view of an inherited number, for looking at it before anything takes it.
pub(crate) fn inherited(number: RawFd) -> Option<BorrowedFd<'static>> {
    if number < 0 || !is_open(number) {
        return None;
    }
    // SAFETY: used by the start-up code only, on numbers that came through exec and that nothing closes before it is done looking.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// `pidfd_open(getpid())`: a descriptor whose inode number tells this process from a later one with its pid (Linux 6.9).
pub(crate) fn pidfd_of_self() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; the result is a new close-on-exec descriptor that nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0u32);
        cvt(fd as libc::c_int).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

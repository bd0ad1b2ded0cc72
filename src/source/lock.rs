//! `PATH.lock`: of two that start at once on one path, exactly one wins.
#![forbid(unsafe_code)]

use super::Address;
use crate::exit::{self, Unable as _};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Takes the write lock on NAME.lock in `directory`; it is held as long as the result is open. The file stays.
///
/// s6-ipcserver-socketbinder takes a POSIX record lock on the same file, which an open-file-description lock excludes (flock(2) would
/// not); unlike that one it is not lost when some other descriptor of the file is closed.
pub(super) fn take(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    address: &Address,
    low: RawFd,
) -> exit::Result<OwnedFd> {
    let mut lock_name = OsString::from(name);
    lock_name.push(".lock");
    // Non-blocking, so that a FIFO planted there does not make us wait for its reader.
    let flags = OFlag::O_WRONLY
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let lock = openat(
        directory,
        lock_name.as_os_str(),
        flags,
        Mode::from_bits_truncate(0o600),
    )
    .unable(format!("open the lock file {address}.lock"))?;
    let lock = sys::fd::lift(lock, low).unable("move a descriptor")?;
    let stat = fstat(&lock).unable(format!("look at the lock file {address}.lock"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(exit::system(format!(
            "unable to lock {address}.lock: it is not a regular file"
        )));
    }
    let whole = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&lock, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(lock),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(exit::system(format!(
            "unable to bind to {address}: another process holds the lock {address}.lock and serves or is about to"
        ))),
        Err(error) => Err(error).unable(format!("lock {address}.lock")),
    }
}

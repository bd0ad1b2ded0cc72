//! Is the socket at a path alive, or left over from a process that is gone?
#![forbid(unsafe_code)]

use super::{Address, node};
use crate::exit::{self, Unable as _};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Makes way at NAME in `directory`: nothing there is fine, a stale socket is removed, everything else is an error (111).
///
/// `probe` is the address by which a client reaches it. The caller holds the lock.
pub(super) fn clear(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    probe: &UnixAddr,
    address: &Address,
) -> exit::Result<()> {
    let unable = format!("bind to {address}");
    let stat = match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error).unable(unable),
    };
    if let Some(what) = other_than_socket(&stat) {
        return Err(exit::system(format!(
            "unable to {unable}: {what} stands there, which is never removed"
        )));
    }
    let answer = match probe_once(probe) {
        // Even its owner may not connect to a node without owner write (mode 0420, say): ask again with it.
        Err(Errno::EACCES) if stat.st_uid == geteuid().as_raw() => {
            probe_with_owner_write(directory, name, &stat, probe)
        }
        answer => answer,
    };
    match answer {
        // Only this proves that nobody holds the socket.
        Err(Errno::ECONNREFUSED) => unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)
            .unable(format!("remove the stale socket {address}")),
        Err(Errno::ENOENT) => Ok(()),
        // EPROTOTYPE: somebody holds it, of another type than our probe. No side effect on them.
        Ok(()) | Err(Errno::EPROTOTYPE | Errno::EAGAIN) => Err(exit::system(format!(
            "unable to {unable}: Address already in use (a live socket answers there)"
        ))),
        Err(error) => Err(exit::system(format!(
            "unable to {unable}: cannot tell whether the socket there is alive: {}",
            error.desc()
        ))),
    }
}

/// A datagram connect: it never reaches the queue of a stream server.
fn probe_once(address: &UnixAddr) -> Result<(), Errno> {
    let probe = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    connect(probe.as_raw_fd(), address)
}

fn probe_with_owner_write(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    stat: &FileStat,
    probe: &UnixAddr,
) -> Result<(), Errno> {
    // The very node that was looked at: whoever may write to the directory could put a link to some file of ours there.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = openat(directory, name, flags, Mode::empty())?;
    let opened = fstat(&found)?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Errno::ESTALE);
    }
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    node::set_mode(&found, mode | Mode::S_IWUSR)?;
    let answer = probe_once(probe);
    if answer != Err(Errno::ECONNREFUSED) {
        node::set_mode(&found, mode)?;
    }
    answer
}

fn other_than_socket(stat: &FileStat) -> Option<&'static str> {
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFSOCK => None,
        libc::S_IFREG => Some("a regular file"),
        libc::S_IFDIR => Some("a directory"),
        libc::S_IFLNK => Some("a symbolic link"),
        libc::S_IFIFO => Some("a FIFO"),
        _ => Some("a device"),
    }
}

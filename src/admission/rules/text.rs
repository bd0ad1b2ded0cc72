//! The small files of a key, `exec` and those in `env`: read whole, or not at all.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::read as read_some;

use super::super::trust::{Fault, Trust, kind, uninterrupted};

/// How long such a file may be, in bytes.
pub(super) const MAX_TEXT: usize = 4095;

/// Without blocking on a FIFO, and without a terminal becoming ours.
const OPEN: OFlag = OFlag::O_NONBLOCK
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Reads `name` in the directory `dir` (shown as `shown`), following links. `None`: it is not there.
/// # Errors
/// Others can write it or replace it, it is longer than 4,095 bytes, no regular file, or cannot be read.
pub(super) fn read(
    trust: Trust,
    dir: BorrowedFd<'_>,
    shown: &[u8],
    name: &[u8],
) -> Result<Option<Vec<u8>>, Fault> {
    let opened = match open_trusted(trust, dir, shown, name, OFlag::empty()) {
        Ok(opened) => opened,
        Err(fault) if fault.is_absence() => return Ok(None),
        Err(fault) => return Err(fault),
    };
    if kind(&opened.stat) != SFlag::S_IFREG {
        return Err(Fault::unfit(opened.path, "is no regular file"));
    }
    // One byte more than is allowed, to see that there is more.
    let mut buffer = [0; MAX_TEXT + 1];
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match uninterrupted(|| read_some(&opened.fd, rest)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(errno) => return Err(Fault::system(opened.path, errno)),
        }
    }
    match buffer.get(..filled) {
        Some(text) if filled <= MAX_TEXT => Ok(Some(text.to_vec())),
        _ => Err(Fault::unfit(
            opened.path,
            format!("is longer than {MAX_TEXT} bytes"),
        )),
    }
}

/// Something open for reading, its owner and mode trusted, its type yet to be looked at.
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    pub(super) stat: FileStat,
    pub(super) path: Vec<u8>,
}

/// Opens `name` in `dir` for reading, through links if need be. `flags` are added to the open.
pub(super) fn open_trusted(
    trust: Trust,
    dir: BorrowedFd<'_>,
    shown: &[u8],
    name: &[u8],
    flags: OFlag,
) -> Result<Opened, Fault> {
    let path = [shown, b"/", name].concat();
    let open = |dir: BorrowedFd<'_>, name: &[u8]| {
        uninterrupted(|| openat(dir, name, OPEN | flags, Mode::empty()))
    };
    let (fd, path) = match open(dir, name) {
        Ok(fd) => (fd, path),
        // A link (ENOTDIR where a directory was asked for), or just what it says: the walk finds out.
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            let found = trust.walk(dir, shown, name)?;
            // Before the open, which can do things to a device.
            trust.check(&found.stat, || found.path.clone())?;
            let fd = open(found.place.as_fd(), &found.name);
            (
                fd.map_err(|errno| Fault::system(found.path.as_slice(), errno))?,
                found.path,
            )
        }
        Err(errno) => return Err(Fault::system(path, errno)),
    };
    let stat =
        uninterrupted(|| fstat(&fd)).map_err(|errno| Fault::system(path.as_slice(), errno))?;
    trust.check(&stat, || path.clone())?;
    Ok(Opened { fd, stat, path })
}

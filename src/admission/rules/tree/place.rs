//! One name in the tree: what stands there, through links if need be, and may it be believed.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{AccessFlags, faccessat};

use super::memory::Seen;
use crate::admission::trust::{Fault, Trust, kind, uninterrupted};

/// A trusted directory of the tree, in which names are looked up.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) trust: Trust,
    pub(super) dir: BorrowedFd<'a>,
    /// Its path, for messages.
    pub(super) path: &'a [u8],
    /// What is to be noted of everything that is found.
    pub(super) seen: Option<&'a Seen>,
}

/// What stands at a name: trusted, and no link.
pub(super) struct Place<'a> {
    /// As it was while it stood there.
    pub(super) stat: FileStat,
    pub(super) path: Vec<u8>,
    name: Cow<'a, [u8]>,
    dir: Holder<'a>,
}

/// The directory that a place is in.
enum Holder<'a> {
    /// The one that was asked.
    Site(BorrowedFd<'a>),
    /// The one that a link led to.
    Beyond(OwnedFd),
}

impl<'a> Site<'a> {
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [self.path, b"/", name].concat()
    }

    /// Finds `name`, a name or a path of trusted directories. `None`: nothing, or a link that leads nowhere.
    /// # Errors
    /// Others can write it, or replace something on the way to it; else the system's error.
    pub(super) fn find(&self, name: &'a [u8]) -> Result<Option<Place<'a>>, Fault> {
        let Some(stat) =
            stat_at(self.dir, name).map_err(|e| Fault::system(self.path_of(name), e))?
        else {
            return Ok(None);
        };
        let place = if kind(&stat) == SFlag::S_IFLNK {
            if let Some(seen) = self.seen {
                seen.spoil();
            }
            let Some(place) = self.follow(name)? else {
                return Ok(None);
            };
            place
        } else {
            let dir = Holder::Site(self.dir);
            let path = self.path_of(name);
            if let Some(seen) = self.seen {
                seen.note(&path, &stat);
            }
            Place {
                stat,
                path,
                name: name.into(),
                dir,
            }
        };
        self.trust.check(&place.stat, || place.path.clone())?;
        Ok(Some(place))
    }

    fn follow(&self, name: &[u8]) -> Result<Option<Place<'a>>, Fault> {
        let found = match self.trust.walk(self.dir, self.path, name) {
            Ok(found) => found,
            Err(fault) if fault.is_absence() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        // Looked at again, since it may have been moved away between being opened and being looked at.
        let stat = stat_at(found.place.as_fd(), &found.name);
        let Some(stat) = stat.map_err(|e| Fault::system(found.path.as_slice(), e))? else {
            return Ok(None);
        };
        let dir = Holder::Beyond(found.place);
        Ok(Some(Place {
            stat,
            path: found.path,
            name: found.name.into(),
            dir,
        }))
    }

    /// May our effective ids do this with `name`, as the kernel sees it?
    pub(super) fn check_access(&self, name: &[u8], rights: AccessFlags) -> nix::Result<()> {
        uninterrupted(|| faccessat(self.dir, name, rights, AtFlags::AT_EACCESS))
    }
}

impl Place<'_> {
    /// Was a link followed to it?
    pub(super) fn is_linked(&self) -> bool {
        matches!(self.dir, Holder::Beyond(_))
    }

    pub(super) fn check_is_directory(&self) -> Result<(), Fault> {
        if kind(&self.stat) == SFlag::S_IFDIR {
            Ok(())
        } else {
            Err(self.failed(Errno::ENOTDIR))
        }
    }

    /// Opens it, close-on-exec. It may have become something else since it was looked at.
    pub(super) fn open(&self, flags: OFlag) -> Result<OwnedFd, Fault> {
        let dir = match &self.dir {
            Holder::Site(dir) => *dir,
            Holder::Beyond(dir) => dir.as_fd(),
        };
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        uninterrupted(|| openat(dir, &*self.name, flags, Mode::empty())).map_err(|e| self.failed(e))
    }

    /// Was this, now open as `fd`, the directory at this place from when it was looked at until now, and has no
    /// entry come or gone? (It may be elsewhere by now: renaming is how trees are swapped.)
    pub(super) fn is_unchanged_as(&self, fd: impl AsFd) -> Result<bool, Fault> {
        let now = uninterrupted(|| fstat(&fd)).map_err(|e| self.failed(e))?;
        Ok(same_entries(&self.stat, &now))
    }

    pub(super) fn failed(&self, errno: Errno) -> Fault {
        Fault::system(self.path.as_slice(), errno)
    }
}

/// What stands at `name`, a link itself included.
fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> nix::Result<Option<FileStat>> {
    match uninterrupted(|| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Before Linux 6.13 two changes within one clock tick, 1 to 10 ms, can look like one by their times.
fn same_entries(before: &FileStat, after: &FileStat) -> bool {
    before.st_dev == after.st_dev
        && before.st_ino == after.st_ino
        && before.st_mtime == after.st_mtime
        && before.st_mtime_nsec == after.st_mtime_nsec
        && before.st_nlink == after.st_nlink
        && before.st_size == after.st_size
}

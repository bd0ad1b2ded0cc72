//! Whom a rule source may belong to, and the walk to it that checks every step.
//!
//! Who can write a rule decides who comes in. So each file and directory that has a say must belong to root or to
//! our effective uid and be writable by its owner alone, and so must every directory on the way to it: the owner of
//! any of them could put another in its place. A sticky directory of root's (/tmp) may be passed through, because
//! nobody can replace there what belongs to root or to us; it is never taken as a source.
//!
//! ACLs need no look of their own: the group bits of a mode are the mask of its ACL, so an ACL that lets anybody
//! else write shows as writable by the group.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

/// How many symbolic links one walk follows: the kernel's own limit.
const MAX_LINKS: usize = 40;
/// How long the path of a walk may grow, in bytes: PATH_MAX.
const MAX_PATH: usize = 4096;

/// To refer to what stands at a name, the link itself if it is one, without opening it for anything.
const REFER: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Why something could not be read, or is not believed. It prints as one line that names the path, with control
/// bytes escaped.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A system call failed.
    System { path: Vec<u8>, errno: Errno },
    /// It is there, and not as it must be: `why` follows the path.
    Unfit { path: Vec<u8>, why: String },
}

impl Fault {
    pub(crate) fn system(path: impl Into<Vec<u8>>, errno: Errno) -> Fault {
        Fault::System {
            path: path.into(),
            errno,
        }
    }

    pub(crate) fn unfit(path: impl Into<Vec<u8>>, why: impl Into<String>) -> Fault {
        Fault::Unfit {
            path: path.into(),
            why: why.into(),
        }
    }

    /// Nothing stands there, or a link that leads nowhere.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(
            self,
            Fault::System {
                errno: Errno::ENOENT,
                ..
            }
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::System { path, errno } => {
                let cause = std::io::Error::from(*errno);
                write!(f, "unable to read {}: {cause}", escaped(path))
            }
            Fault::Unfit { path, why } => write!(f, "{} {why}", escaped(path)),
        }
    }
}

/// A path as a log line may show it: every byte that is not printable ASCII, and the backslash, as `\xNN`.
pub(crate) fn escaped(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for &byte in path {
        match byte {
            b' '..=b'~' if byte != b'\\' => shown.push(char::from(byte)),
            _ => shown.push_str(&format!("\\x{byte:02x}")),
        }
    }
    shown
}

/// Calls again when a signal came between: doors are stopped by signals that do not restart calls.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Refers to `name` in `dir` without following a link, and says what it is. The descriptor is close-on-exec.
fn refer(dir: impl AsFd, name: &[u8]) -> nix::Result<(OwnedFd, FileStat)> {
    let fd = uninterrupted(|| openat(&dir, name, REFER, Mode::empty()))?;
    let stat = uninterrupted(|| fstat(&fd))?;
    Ok((fd, stat))
}

pub(crate) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// What a walk found: never a link. The descriptors are O_PATH and close-on-exec.
pub(crate) struct Found {
    /// The thing itself.
    pub(crate) fd: OwnedFd,
    /// What it is; the walk has checked the way to it, the caller checks this.
    pub(crate) stat: FileStat,
    /// The directory that it stands in, and its name there: to open it for reading.
    pub(crate) place: OwnedFd,
    pub(crate) name: Vec<u8>,
    /// For messages.
    pub(crate) path: Vec<u8>,
}

/// Who may own a rule source: root, and this uid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust {
    uid: u32,
}

impl Trust {
    /// Trusts root and `uid`, which is our effective one.
    pub(crate) fn of(uid: u32) -> Trust {
        Trust { uid }
    }

    /// Is this owned by root or by us, and writable by its owner alone? `path` is for the message.
    pub(crate) fn check(
        &self,
        stat: &FileStat,
        path: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Fault> {
        let flaw = self.foreign_owner(stat).or_else(|| foreign_writer(stat));
        flaw.map_or(Ok(()), |why| Err(Fault::unfit(path(), why)))
    }

    /// Nobody but root and us can replace what belongs to root or to us in this directory.
    fn check_passage(&self, stat: &FileStat, path: &[u8]) -> Result<(), Fault> {
        if is_shared(stat) {
            Ok(())
        } else {
            self.check(stat, || path.to_vec())
        }
    }

    fn foreign_owner(&self, stat: &FileStat) -> Option<String> {
        let owner = stat.st_uid;
        if owner == 0 || owner == self.uid {
            None
        } else if self.uid == 0 {
            Some(format!("belongs to uid {owner}; it must belong to root"))
        } else {
            Some(format!(
                "belongs to uid {owner}; it must belong to root or to uid {}",
                self.uid
            ))
        }
    }

    /// Walks the absolute `path` from the root directory; see [`Trust::walk`].
    pub(crate) fn walk_from_root(&self, path: &[u8]) -> Result<Found, Fault> {
        self.walk(AT_FDCWD, b"/", path)
    }

    /// Resolves `path` one component at a time from the directory `from` (shown as `shown` in messages), as the
    /// kernel would, links included. Everything passed through is checked, and what is found is left to the caller.
    /// # Errors
    /// Something on the way that others could replace; ENOENT where nothing stands or a link leads nowhere
    /// ([`Fault::is_absence`]); ELOOP beyond 40 links; else the system's error.
    pub(crate) fn walk(
        &self,
        from: BorrowedFd<'_>,
        shown: &[u8],
        path: &[u8],
    ) -> Result<Found, Fault> {
        let mut here = if path.starts_with(b"/") {
            directory(AT_FDCWD, b"/", b"/")?
        } else {
            directory(from, b".", shown)?
        };
        let mut ahead = Vec::new();
        push_components(&mut ahead, path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if kind(&here.stat) != SFlag::S_IFDIR {
                return Err(Fault::system(here.path, Errno::ENOTDIR));
            }
            // An empty component is a doubled or a trailing slash.
            if name.is_empty() || name == b"." {
                continue;
            }
            let path = joined(&here.path, &name);
            let (fd, stat) = self.step(&here, &name, &path)?;
            if kind(&stat) != SFlag::S_IFLNK {
                here = Found {
                    place: here.fd,
                    fd,
                    stat,
                    name,
                    path,
                };
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Fault::system(path, Errno::ELOOP));
            }
            let target = self.read_link(fd, &stat, &path)?;
            if target.starts_with(b"/") {
                here = directory(AT_FDCWD, b"/", b"/")?;
            }
            push_components(&mut ahead, &target);
        }
        Ok(here)
    }

    /// One component on from the directory `here`, to what shall be shown as `path`.
    fn step(&self, here: &Found, name: &[u8], path: &[u8]) -> Result<(OwnedFd, FileStat), Fault> {
        self.check_passage(&here.stat, &here.path)?;
        if path.len() > MAX_PATH {
            return Err(Fault::system(here.path.as_slice(), Errno::ENAMETOOLONG));
        }
        let (fd, stat) = refer(&here.fd, name).map_err(|errno| Fault::system(path, errno))?;
        // In a sticky directory anybody may make a second name for a file of root's, where the kernel lets them.
        if is_shared(&here.stat) && kind(&stat) != SFlag::S_IFDIR && stat.st_nlink > 1 {
            let why = "has a second name, and stands where everybody may make one";
            return Err(Fault::unfit(path, why));
        }
        Ok((fd, stat))
    }

    /// A link is as good as its owner; its mode says nothing.
    fn read_link(&self, link: OwnedFd, stat: &FileStat, path: &[u8]) -> Result<Vec<u8>, Fault> {
        if let Some(why) = self.foreign_owner(stat) {
            return Err(Fault::unfit(path, why));
        }
        let target = uninterrupted(|| readlinkat(&link, b"".as_slice()));
        Ok(target
            .map_err(|errno| Fault::system(path, errno))?
            .into_vec())
    }
}

/// A directory to start from, shown as `path`.
fn directory(from: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Found, Fault> {
    let find = || {
        let (fd, stat) = refer(from, name)?;
        let (place, _) = refer(&fd, b".")?;
        Ok(Found {
            fd,
            stat,
            place,
            name: b".".to_vec(),
            path: path.to_vec(),
        })
    };
    find().map_err(|errno| Fault::system(path, errno))
}

/// Puts the components of `path` on top of those still ahead, the first one uppermost.
fn push_components(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    ahead.extend(path.rsplit(|&byte| byte == b'/').map(<[u8]>::to_vec));
}

fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.ends_with(b"/") { b"" } else { b"/" };
    [dir, slash, name].concat()
}

/// A sticky directory of root's in which others may make entries.
fn is_shared(stat: &FileStat) -> bool {
    stat.st_uid == 0 && stat.st_mode & 0o1000 != 0 && stat.st_mode & 0o022 != 0
}

fn foreign_writer(stat: &FileStat) -> Option<String> {
    let writer = match stat.st_mode & 0o022 {
        0 => return None,
        0o020 => format!("group {}", stat.st_gid),
        _ => "everybody".to_owned(),
    };
    let mode = stat.st_mode & 0o7777;
    Some(format!(
        "is writable by {writer} (mode {mode:04o}); it must be writable by its owner alone"
    ))
}

//! One key of the tree, such as uid/1000: is there an `allow` or a `deny`, and what does an `allow` give.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};
use nix::unistd::{AccessFlags, faccessat};

use super::super::trust::{Fault, Trust, kind, refer, uninterrupted};
use super::root::{Root, check_readable};
use super::{Answer, Grant, Trouble, envdir, text};

/// One reading of the tree, for one peer.
pub(super) struct Scan<'a> {
    view: View<'a>,
    uid: Option<Branch>,
    gid: Option<Branch>,
}

/// The root, and who may have written below it.
#[derive(Clone, Copy)]
struct View<'a> {
    trust: Trust,
    root: &'a Root,
}

/// `uid` or `gid` below the root, looked at once a reading.
enum Branch {
    Absent,
    /// A directory of the root's own: its keys are reached by their path from the root.
    Plain,
    /// A link to this directory.
    Linked(OwnedFd),
}

impl<'a> Scan<'a> {
    pub(super) fn new(trust: Trust, root: &'a Root) -> Scan<'a> {
        Scan {
            view: View { trust, root },
            uid: None,
            gid: None,
        }
    }

    /// May our effective ids list and search `uid` and `gid`, where they are, and are they to be trusted?
    pub(super) fn check_readable(&self) -> Result<(), Fault> {
        for name in ["uid", "gid"] {
            if !matches!(self.view.branch(name)?, Branch::Absent) {
                let readable = check_readable(&self.view.root.fd, name);
                readable.map_err(|errno| Fault::system(self.view.path_of(name), errno))?;
            }
        }
        Ok(())
    }

    /// What `key` answers; `None` if it is not there or has neither `allow` nor `deny`.
    pub(super) fn ask(&mut self, key: &str) -> Result<Option<Answer>, Trouble> {
        match self.open_key(key)? {
            Some(open) => open.answer(),
            None => Ok(None),
        }
    }

    fn open_key(&mut self, key: &str) -> Result<Option<Key<'a>>, Fault> {
        let Some((branch_name, leaf)) = key.split_once('/') else {
            return Ok(None);
        };
        let seen = if branch_name == "uid" {
            &mut self.uid
        } else {
            &mut self.gid
        };
        let branch = match seen.take() {
            Some(branch) => branch,
            None => self.view.branch(branch_name)?,
        };
        let opened = match seen.insert(branch) {
            Branch::Absent => None,
            Branch::Plain => self.view.open_dir(&self.view.root.fd, key, key)?,
            Branch::Linked(dir) => self.view.open_dir(dir, leaf, key)?,
        };
        Ok(opened.map(|(fd, stat)| Key {
            view: self.view,
            name: key.to_owned(),
            fd,
            stat,
        }))
    }
}

impl View<'_> {
    fn path_of(&self, below: &str) -> Vec<u8> {
        self.root.path_of(&[below.as_bytes()])
    }

    fn branch(&self, name: &str) -> Result<Branch, Fault> {
        let path = || self.path_of(name);
        let stat =
            match uninterrupted(|| fstatat(&self.root.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => return Ok(Branch::Absent),
                Err(errno) => return Err(Fault::system(path(), errno)),
            };
        match kind(&stat) {
            SFlag::S_IFDIR => self.trust.check(&stat, path).map(|()| Branch::Plain),
            SFlag::S_IFLNK => {
                let dir = self.open_dir(&self.root.fd, name, name)?;
                Ok(dir.map_or(Branch::Absent, |(fd, _)| Branch::Linked(fd)))
            }
            _ => Err(Fault::system(path(), Errno::ENOTDIR)),
        }
    }

    /// Refers to the trusted directory at `path` from `dir`; `shown` is its path from the root, for messages.
    fn open_dir(
        &self,
        dir: &OwnedFd,
        path: &str,
        shown: &str,
    ) -> Result<Option<(OwnedFd, FileStat)>, Fault> {
        let shown = || self.path_of(shown);
        let (fd, stat, way) = match refer(dir, path.as_bytes()) {
            Ok((_, stat)) if kind(&stat) == SFlag::S_IFLNK => {
                // For messages the walk starts where `path` does: `shown` less `path`.
                let mut from = shown();
                from.truncate(from.len().saturating_sub(path.len() + 1));
                match self.trust.walk(dir.as_fd(), &from, path.as_bytes()) {
                    Ok(found) => (found.fd, found.stat, Some(found.path)),
                    Err(fault) if fault.is_absence() => return Ok(None),
                    Err(fault) => return Err(fault),
                }
            }
            Ok((fd, stat)) => (fd, stat, None),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(Fault::system(shown(), errno)),
        };
        if kind(&stat) != SFlag::S_IFDIR {
            return Err(Fault::system(shown(), Errno::ENOTDIR));
        }
        self.trust.check(&stat, || way.unwrap_or_else(shown))?;
        Ok(Some((fd, stat)))
    }
}

/// The directory of a key, trusted, as it was when it was opened.
struct Key<'a> {
    view: View<'a>,
    name: String,
    fd: OwnedFd,
    stat: FileStat,
}

impl Key<'_> {
    fn answer(self) -> Result<Option<Answer>, Trouble> {
        if self.stands("allow")? {
            // A grant must not lack what was being removed, nor what was being put there.
            let grant = self.grant();
            self.check_unchanged()?;
            return Ok(Some(Answer::Allow(grant?)));
        }
        if self.stands("deny")? {
            return Ok(Some(Answer::Deny(self.name)));
        }
        // `deny` may have become `allow` between the two looks: never pass over such a key.
        self.check_unchanged()?;
        Ok(None)
    }

    /// Does `name` stand here, to be trusted and readable to us? Its type and contents say nothing.
    fn stands(&self, name: &str) -> Result<bool, Fault> {
        let failed = |errno| Fault::system(self.path_of(name), errno);
        let stat = match uninterrupted(|| fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(failed(errno)),
        };
        if kind(&stat) == SFlag::S_IFLNK {
            let found = match self
                .view
                .trust
                .walk(self.fd.as_fd(), &self.path(), name.as_bytes())
            {
                Ok(found) => found,
                Err(fault) if fault.is_absence() => return Ok(false),
                Err(fault) => return Err(fault),
            };
            self.view.trust.check(&found.stat, || found.path.clone())?;
        } else {
            self.view.trust.check(&stat, || self.path_of(name))?;
        }
        match uninterrupted(|| faccessat(&self.fd, name, AccessFlags::R_OK, AtFlags::AT_EACCESS)) {
            Ok(()) => Ok(true),
            // Taken away since: as if it had not been seen.
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn grant(&self) -> Result<Grant, Trouble> {
        let env = envdir::read(self.view.trust, self.fd.as_fd(), &self.path())?;
        let exec = text::read(self.view.trust, self.fd.as_fd(), &self.path(), b"exec")?;
        Ok(Grant {
            key: self.name.clone(),
            env: env.unwrap_or_default(),
            exec: exec.and_then(program),
        })
    }

    fn check_unchanged(&self) -> Result<(), Trouble> {
        let now =
            uninterrupted(|| fstat(&self.fd)).map_err(|errno| Fault::system(self.path(), errno))?;
        if same_entries(&self.stat, &now) {
            Ok(())
        } else {
            Err(Trouble::Changed)
        }
    }

    fn path(&self) -> Vec<u8> {
        self.view.path_of(&self.name)
    }

    fn path_of(&self, name: &str) -> Vec<u8> {
        self.view
            .root
            .path_of(&[self.name.as_bytes(), name.as_bytes()])
    }
}

/// Has no entry come or gone between two looks at a directory? (It may have been renamed meanwhile, which is how
/// trees are swapped.) Before Linux 6.13 two changes within one clock tick, 1 to 10 ms, can look like one.
pub(super) fn same_entries(before: &FileStat, after: &FileStat) -> bool {
    before.st_mtime == after.st_mtime
        && before.st_mtime_nsec == after.st_mtime_nsec
        && before.st_nlink == after.st_nlink
        && before.st_size == after.st_size
}

/// The text to run: up to its first zero byte, as an argument of execlineb. An empty file is none at all.
fn program(mut text: Vec<u8>) -> Option<Vec<u8>> {
    if text.is_empty() {
        return None;
    }
    if let Some(end) = text.iter().position(|&byte| byte == 0) {
        text.truncate(end);
    }
    Some(text)
}

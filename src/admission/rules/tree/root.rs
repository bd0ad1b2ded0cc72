//! The rules directory itself: found anew for each connection at the price of one call, since it may be swapped as a
//! whole (a link or a rename) at any time.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::AccessFlags;

use super::memory::{Memory, Seen};
use super::place::Site;
use crate::admission::rules::settled::{Identity, SETTLED};
use crate::admission::rules::{Answer, Asker};
use crate::admission::trust::{Fault, Trust, kind, uninterrupted};

/// Where the rules are, and the directory that was found there last.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// See [`SETTLED`].
    settled: Duration,
    found: RwLock<Option<Arc<Root>>>,
}

/// A rules directory that was walked to and is trusted.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    name: Vec<u8>,
    identity: Identity,
    memory: Memory,
}

impl Directory {
    /// # Errors
    /// An empty path, or a relative one where the working directory is gone.
    pub(super) fn at(dir: &Path) -> io::Result<Directory> {
        Ok(Directory {
            path: std::path::absolute(dir)?,
            settled: SETTLED,
            found: RwLock::new(None),
        })
    }

    /// Takes everything for settled, however lately it was changed.
    #[cfg(test)]
    pub(super) fn remember_at_once(&mut self) {
        self.settled = Duration::ZERO;
        self.found = RwLock::default();
    }

    pub(super) fn name(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }

    /// The directory that stands at the path now. Another one than last time, or one whose entries, mode or owner
    /// changed, is walked to from the root again.
    pub(super) fn current(&self, trust: Trust) -> Result<Arc<Root>, Fault> {
        let stat = uninterrupted(|| fstatat(AT_FDCWD, &self.path, AtFlags::empty()));
        let stat = stat.map_err(|errno| Fault::system(self.name(), errno))?;
        if let Some(root) = self.known(&Identity::of(&stat)) {
            // Costs nothing, and a change of mode can hide in the resolution of ctime.
            trust.check(&stat, || self.name().to_vec())?;
            return Ok(root);
        }
        let root = self.walk(trust);
        let keep = root.as_ref().ok().map(Arc::clone);
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = keep;
        root
    }

    fn known(&self, identity: &Identity) -> Option<Arc<Root>> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found
            .as_ref()
            .filter(|root| root.identity == *identity)
            .map(Arc::clone)
    }

    fn walk(&self, trust: Trust) -> Result<Arc<Root>, Fault> {
        let found = trust.walk_from_root(self.name())?;
        if kind(&found.stat) != SFlag::S_IFDIR {
            return Err(Fault::system(self.name(), Errno::ENOTDIR));
        }
        trust.check(&found.stat, || found.path.clone())?;
        let identity = Identity::of(&found.stat);
        Ok(Arc::new(Root {
            memory: Memory::of(&found.fd, self.settled),
            fd: found.fd,
            name: self.name().to_vec(),
            identity,
        }))
    }
}

impl Root {
    /// To look up names in it.
    pub(super) fn site(&self, trust: Trust) -> Site<'_> {
        Site {
            trust,
            dir: self.fd.as_fd(),
            path: &self.name,
            seen: None,
        }
    }

    /// To be filled by a reading whose answer is to be kept.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.memory.seen(&self.name)
    }

    /// The answer that `who` got before, if it still stands.
    pub(super) fn recall(&self, who: &Asker) -> Option<Answer> {
        self.memory.recall(self.fd.as_fd(), who)
    }

    pub(super) fn keep(&self, who: &Asker, answer: &Answer, seen: Seen) {
        self.memory.keep(&self.identity, who, answer, seen);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// May our effective ids list and search it?
    pub(super) fn check_readable(&self, trust: Trust) -> Result<(), Fault> {
        let readable = self
            .site(trust)
            .check_access(b".", AccessFlags::R_OK | AccessFlags::X_OK);
        readable.map_err(|errno| Fault::system(self.name.as_slice(), errno))
    }
}

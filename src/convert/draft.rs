//! What is being made: hidden beside its place until it is whole.
#![forbid(unsafe_code)]

use crate::admission::escaped;
use crate::exit::{self, Unable as _};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Signals that ask to end, held back so that nothing half-made is left behind.
pub(super) struct Stop(SignalFd);

impl Stop {
    pub(super) fn listen() -> exit::Result<Stop> {
        sys::signal::set_up().unable("set up signals").map(Stop)
    }

    /// # Errors
    /// One has come: all is to be left.
    pub(super) fn check(&self) -> exit::Result<()> {
        match self.0.read_signal().unable("read signals")? {
            Some(signal) if signal.ssi_signo != nix::libc::SIGUSR1.unsigned_abs() => {
                let number = signal.ssi_signo;
                Err(exit::system(format!("stopped by signal {number}")))
            }
            _ => Ok(()),
        }
    }
}

/// A draft, and the place that it is for. Dropped before it was moved there, it is removed.
pub(super) struct Draft {
    /// The directory of both.
    parent: PathBuf,
    directory: File,
    /// The hidden name.
    name: OsString,
    /// The name that it is for.
    goal: OsString,
    kind: Kind,
    moved: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

impl Draft {
    /// A new file for `path`, readable and writable by its owner alone, and open for writing.
    pub(super) fn file(path: &Path) -> exit::Result<(Draft, File)> {
        let draft = Draft::at(path, Kind::File)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(&draft.directory, draft.name.as_os_str(), flags, mode);
        let file = file.unable(format!("make a file in {}", draft.shown_parent()))?;
        Ok((draft, file.into()))
    }

    /// A new directory for `path`.
    pub(super) fn directory(path: &Path) -> exit::Result<Draft> {
        let draft = Draft::at(path, Kind::Directory)?;
        let mode = Mode::from_bits_truncate(0o755);
        let made = mkdirat(&draft.directory, draft.name.as_os_str(), mode);
        made.unable(format!("make a directory in {}", draft.shown_parent()))?;
        Ok(draft)
    }

    fn at(path: &Path, kind: Kind) -> exit::Result<Draft> {
        let Some(goal) = path.file_name() else {
            let shown = shown(path);
            return Err(exit::wrong_use(format!("{shown} is no name to write to")));
        };
        let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new(".")).to_owned();
        let directory = File::open(&parent).unable(format!("open {}", shown(&parent)))?;
        // Whatever the name, it must not be there yet: that it cannot be guessed saves trouble alone.
        let random = std::hash::RandomState::new().build_hasher().finish();
        Ok(Draft {
            parent,
            directory,
            name: format!(".doorward-{random:016x}").into(),
            goal: goal.to_owned(),
            kind,
            moved: false,
        })
    }

    /// Where it is made.
    pub(super) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Moves it to its place, over a file that stands there, and sees to it that it stays there.
    pub(super) fn replace(mut self) -> exit::Result<()> {
        let moved = renameat(
            &self.directory,
            self.name.as_os_str(),
            &self.directory,
            self.goal.as_os_str(),
        );
        moved.unable(format!("write {}", self.shown_goal()))?;
        self.moved = true;
        let synced = self.directory.sync_all();
        synced.unable(format!("sync {}", self.shown_parent()))
    }

    /// Moves it to its place, where nothing may be.
    pub(super) fn settle(mut self) -> exit::Result<()> {
        let (name, goal) = (self.name.as_os_str(), self.goal.as_os_str());
        let mut moved = sys::rename::without_replacing(&self.directory, name, goal);
        // Not every file system knows how: then an empty directory may be replaced by ours, if it comes just now.
        if moved == Err(Errno::EINVAL) {
            moved = match fstatat(&self.directory, goal, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EEXIST),
                Err(Errno::ENOENT) => renameat(&self.directory, name, &self.directory, goal),
                Err(errno) => Err(errno),
            };
        }
        moved.unable(format!("make {}", self.shown_goal()))?;
        self.moved = true;
        Ok(())
    }

    fn shown_goal(&self) -> String {
        shown(&self.parent.join(&self.goal))
    }

    fn shown_parent(&self) -> String {
        shown(&self.parent)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        // What cannot be removed is hidden, and in nobody's way.
        match self.kind {
            Kind::File => {
                let name = self.name.as_os_str();
                let _ = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
            }
            Kind::Directory => {
                let _ = std::fs::remove_dir_all(self.path());
            }
        }
    }
}

pub(super) fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

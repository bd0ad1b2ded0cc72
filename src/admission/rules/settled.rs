//! Of what an answer may be kept, to be given again.
//!
//! Of things whose every change shows in their ctime: on a local file system, and not just changed when they were read (its clock may tick
//! once in 10 ms, or in a second).
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::stat::FileStat;
use nix::sys::statfs::fstatfs;
use nix::sys::time::TimeSpec;

use crate::admission::trust::uninterrupted;

/// How long ago the last change of a thing must be when it is read: longer than any file system's clock stands still.
pub(super) const SETTLED: Duration = Duration::from_secs(3);
/// For so many peers answers are kept; then all are dropped and asked for anew.
pub(super) const MOST: usize = 1024;
/// ext2 to ext4, XFS, btrfs, tmpfs, F2FS: nobody else changes what is there, and ctime is the kernel's own. See statfs(2).
const LOCAL: [u32; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010];

/// Tells one state of one file or directory from another; an open descriptor keeps its number from being used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: libc::dev_t,
    inode: libc::ino_t,
    changed: TimeSpec,
}

impl Identity {
    pub(super) fn of(stat: &FileStat) -> Identity {
        Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
            changed: TimeSpec::new(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub(super) fn is_on_device_of(&self, other: &Identity) -> bool {
        self.device == other.device
    }
}

/// Whether answers of one source are kept.
#[derive(Debug)]
pub(super) struct Settled {
    /// See [`SETTLED`].
    after: Duration,
    is_local: bool,
    /// It was asked once. A process that asks only once has nothing to remember it for.
    asked: AtomicBool,
}

/// When a reading began whose answer may be kept, since 1970.
#[derive(Clone, Copy)]
pub(super) struct Began(Duration);

impl Settled {
    /// For the file or directory of the source.
    pub(super) fn of(source: impl AsFd, after: Duration) -> Settled {
        let kind = uninterrupted(|| fstatfs(&source)).map(|found| found.filesystem_type().0);
        let is_local =
            kind.is_ok_and(|kind| LOCAL.iter().any(|local| u32::try_from(kind) == Ok(*local)));
        Settled {
            after,
            is_local,
            asked: AtomicBool::new(false),
        }
    }

    /// A reading begins; `None`: its answer is not to be kept.
    pub(super) fn begin(&self) -> Option<Began> {
        let asked_before = self.asked.swap(true, Ordering::Relaxed);
        let now = || SystemTime::now().duration_since(UNIX_EPOCH);
        (self.is_local && asked_before).then(|| Began(now().unwrap_or_default()))
    }

    /// Whether something that was as it is when the reading began had been so for long enough.
    pub(super) fn bears(&self, thing: &Identity, began: Began) -> bool {
        Duration::from(thing.changed) < began.0.saturating_sub(self.after)
    }

    #[cfg(test)]
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Takes everything for settled, however lately it was changed.
    #[cfg(test)]
    pub(super) fn at_once(&mut self) {
        self.after = Duration::ZERO;
    }
}

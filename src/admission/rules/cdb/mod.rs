//! Rules in a constant database: one file that is replaced as a whole, at a cost that does not grow with it.
//!
//! The file is opened once and stays open: whoever renames another over it changes nothing until it is opened again. It is read
//! with pread, never mapped, since a mapped file that is cut short kills its reader. Its header is kept in memory. After each look
//! the file must still have the size and the time of change that it had when it was opened, and be writable by nobody else: what
//! was written in place meanwhile may be half of one set of rules and half of another, so it is no answer. What was answered is kept,
//! and given again after the same question to the file.
#![forbid(unsafe_code)]

mod layout;
mod look;
mod memory;
mod value;
mod walk;
mod write;

#[cfg(test)]
pub(super) use look::READS;
#[cfg(test)]
pub(super) use value::decode;
pub(crate) use value::encode;
pub(crate) use write::Writer;

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::time::TimeSpec;
use nix::unistd::{getegid, geteuid};

use super::settled::Identity;
use super::{Answer, Asker, Record};
use crate::admission::trust::{Fault, Trust, escaped, kind, uninterrupted};
use layout::{HEADER, TABLES, Table};
use memory::Memory;

/// How often a file is opened again because another one took its place meanwhile.
const ROUNDS: usize = 3;

/// A rules database, to be asked for each connection, from several threads at once.
/// Holds one descriptor of the file (close-on-exec), and of its contents the header alone.
#[derive(Debug)]
pub(crate) struct Database {
    file: OwnedFd,
    path: Vec<u8>,
    tables: Vec<Table>,
    state: State,
    memory: Memory,
    trust: Trust,
    self_uid: u32,
    self_gid: u32,
}

/// What changes with the contents of a file, and not when another is renamed over it (as its ctime does). Before Linux 6.13 a
/// write is not seen that comes within one clock tick, 1 to 10 ms, of the one before the file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    size: u64,
    changed: TimeSpec,
}

impl State {
    fn of(stat: &FileStat) -> State {
        State {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

impl Database {
    /// Opens `path` and checks it and the directories up to the root, with the credentials of this moment: to be called when
    /// privileges are dropped.
    /// # Errors
    /// "rules file PATH: CAUSE": others can write there, it is missing, cannot be read, or is no database.
    pub(crate) fn open(path: &Path) -> Result<Database, String> {
        Database::open_as(path, geteuid().as_raw(), getegid().as_raw())
    }

    /// The same where `self` in a key means these ids.
    pub(super) fn open_as(path: &Path, self_uid: u32, self_gid: u32) -> Result<Database, String> {
        let refused = |cause: String| {
            let name = escaped(path.as_os_str().as_bytes());
            format!("rules file {name}: {cause}")
        };
        let path = std::path::absolute(path).map_err(|error| refused(error.to_string()))?;
        let trust = Trust::of(geteuid().as_raw());
        let name = path.as_os_str().as_bytes();
        let database = open_trusted(trust, name)
            .and_then(|file| Database::over(file, name, trust, self_uid, self_gid));
        database.map_err(|fault| refused(fault.to_string()))
    }

    /// The database in `file`, shown as `path`.
    fn over(
        file: OwnedFd,
        path: &[u8],
        trust: Trust,
        self_uid: u32,
        self_gid: u32,
    ) -> Result<Database, Fault> {
        let mut database = Database {
            state: State::of(&stat_of(&file, path, trust)?),
            memory: Memory::of(&file),
            file,
            path: path.to_vec(),
            tables: Vec::with_capacity(TABLES),
            trust,
            self_uid,
            self_gid,
        };
        database.read_header()?;
        database.check_unchanged()?;
        Ok(database)
    }

    /// A database of ours that has no path.
    #[cfg(test)]
    pub(super) fn in_file(file: OwnedFd) -> Result<Database, String> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let database = Database::over(file, b"rules", Trust::of(uid), uid, gid);
        database.map_err(|fault| fault.to_string())
    }

    fn read_header(&mut self) -> Result<(), Fault> {
        let mut header = [0; HEADER as usize];
        if self.read(&mut header, 0, HEADER)? < header.len() {
            return Err(self.unfit("is no database of rules: it is shorter than 2048 bytes"));
        }
        for entry in header.as_chunks::<{ layout::PAIR as usize }>().0 {
            let Some((position, slots)) = layout::pair(entry) else {
                continue;
            };
            let table = Table { position, slots };
            if position < HEADER || table.end() > self.state.size {
                return Err(self.unfit("is no database of rules, or not all of one"));
            }
            self.tables.push(table);
        }
        Ok(())
    }

    /// Decides about one peer: as before, or for each key that is asked by one read of its table, and one of its record.
    pub(crate) fn judge(&self, who: &Asker) -> Answer {
        let answer = match self.recall(who) {
            Some(answer) => Ok(answer),
            None => self.look(who),
        };
        answer.unwrap_or_else(|fault| Answer::Failed(fault.to_string()))
    }

    /// The answer of before, if the file is as it was. (If not, a look says what is wrong.)
    fn recall(&self, who: &Asker) -> Option<Answer> {
        let (file, answer) = self.memory.recall(who)?;
        let stat = self.check_unchanged().ok()?;
        (Identity::of(&stat) == file).then_some(answer)
    }

    fn look(&self, who: &Asker) -> Result<Answer, Fault> {
        let began = self.memory.begin();
        let answer = self.ask(who);
        // A mixture of two contents may have any flaw: that it is one is the better cause.
        let stat = self.check_unchanged()?;
        let answer = answer?.unwrap_or(Answer::NoRule);
        if let Some(began) = began {
            self.memory.keep(began, Identity::of(&stat), who, &answer);
        }
        Ok(answer)
    }

    /// Keeps answers however lately the file was changed; gives whether they are kept here at all.
    #[cfg(test)]
    pub(super) fn remember_at_once(&mut self) -> bool {
        self.memory.remember_at_once()
    }

    fn ask(&self, who: &Asker) -> Result<Option<Answer>, Fault> {
        for key in who.keys(self.self_uid, self.self_gid) {
            if let Some(found) = self.find(key.as_bytes())? {
                return Ok(Some(self.record(key.as_bytes(), found.value)?.answer(&key)));
            }
        }
        Ok(None)
    }

    /// What the value of `key` says.
    fn record(&self, key: &[u8], value: Vec<u8>) -> Result<Record, Fault> {
        value::decode(&value).map_err(|why| {
            let key = escaped(key);
            self.unfit(&format!("is broken: the record of {key} {why}"))
        })
    }

    /// Are the contents those that were opened, and may nobody else write them still? Gives what the file is.
    fn check_unchanged(&self) -> Result<FileStat, Fault> {
        let stat = stat_of(&self.file, &self.path, self.trust)?;
        if State::of(&stat) == self.state {
            return Ok(stat);
        }
        Err(self.unfit(
            "was written in place since it was opened; SIGHUP has it opened again (a file renamed over it refuses nobody meanwhile)",
        ))
    }

    fn unfit(&self, why: &str) -> Fault {
        Fault::unfit(self.path.as_slice(), why)
    }
}

/// Opens the regular file at the absolute `path`, reached on a way that nobody else can change.
fn open_trusted(trust: Trust, path: &[u8]) -> Result<OwnedFd, Fault> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    for _ in 0..ROUNDS {
        let found = trust.walk_from_root(path)?;
        // Before it is open, since an open alone can do things to a device.
        check(trust, &found.stat, &found.path)?;
        let file = uninterrupted(|| openat(&found.place, &*found.name, flags, Mode::empty()));
        let file = file.map_err(|errno| Fault::system(found.path.as_slice(), errno))?;
        let stat = stat_of(&file, &found.path, trust)?;
        if (stat.st_dev, stat.st_ino) == (found.stat.st_dev, found.stat.st_ino) {
            return Ok(file);
        }
    }
    Err(Fault::unfit(
        path,
        "is replaced again and again while it is opened",
    ))
}

/// What an open file is; it must be trusted.
fn stat_of(file: &OwnedFd, path: &[u8], trust: Trust) -> Result<FileStat, Fault> {
    let stat = uninterrupted(|| fstat(file)).map_err(|errno| Fault::system(path, errno))?;
    check(trust, &stat, path)?;
    Ok(stat)
}

fn check(trust: Trust, stat: &FileStat, path: &[u8]) -> Result<(), Fault> {
    trust.check(stat, || path.to_vec())?;
    match kind(stat) {
        SFlag::S_IFREG => Ok(()),
        SFlag::S_IFDIR => Err(Fault::system(path, Errno::EISDIR)),
        _ => Err(Fault::unfit(path, "is no regular file")),
    }
}

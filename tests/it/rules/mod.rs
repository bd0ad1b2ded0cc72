//! `doorward rules`, and rules in a database: what they say, how they are made, and what becomes of one that is spoiled.

mod check;
mod compile;
mod dump;
mod s6;
mod scale;
mod serve;

#[path = "../../support/cdb.rs"]
pub mod cdb;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Scratch, doorward};

const ALLOW: &[u8] = b"A\0\0\0\0";
const DENY: &[u8] = b"D";

/// A directory in which rules are written, and read by `doorward rules`.
struct Desk(Scratch);

impl Desk {
    fn new() -> Desk {
        Desk(Scratch::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Writes a file that others can read, its directories first.
    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        let mut directory = self.path("");
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        for part in parent.split('/') {
            directory.push(part);
            if !directory.is_dir() {
                fs::create_dir(&directory).unwrap();
                set_mode(&directory, 0o755);
            }
        }
        fs::write(&path, text).unwrap();
        set_mode(&path, 0o644);
    }

    /// Rules of several kinds in the directory `rules`.
    fn rules(&self) {
        self.file("rules/uid/1000/allow", "");
        self.file("rules/uid/1000/env/ROLE", "guest of ours\n");
        self.file("rules/uid/1000/env/HOME", "");
        self.file("rules/uid/1000/exec", "echo hello\n");
        self.file("rules/uid/1001/deny", "");
        self.file("rules/gid/20/allow", "");
        self.file("rules/uid/self/allow", "");
    }

    /// `doorward rules WORDS`, in this directory.
    fn doorward<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Told {
        let mut command = Command::new(doorward());
        command.arg("rules").args(words).current_dir(self.0.dir());
        Told::of(&mut command)
    }

    /// Names in this directory, hidden ones too.
    fn names(&self) -> Vec<String> {
        names(self.0.dir())
    }
}

/// How a command ended.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Told {
    fn of(command: &mut Command) -> Told {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Told {
            code: status.code(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    /// This exit code, and all these words somewhere in what it said.
    #[track_caller]
    fn assert(&self, code: i32, words: &[&str]) -> &Told {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            let told = self.out.contains(word) || self.err.contains(word);
            assert!(told, "{word:?} is not in {self:?}");
        }
        self
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Every file below a directory with its text, and every directory with `None`.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(here) = ahead.pop() {
        for entry in fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(directory).unwrap().to_owned();
            if path.is_dir() {
                ahead.push(path);
                found.insert(name, None);
            } else {
                found.insert(name, Some(fs::read(path).unwrap()));
            }
        }
    }
    found
}

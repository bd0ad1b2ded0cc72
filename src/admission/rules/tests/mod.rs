//! The stored rules, tried against real trees and files below the system's temporary directory.
//!
//! - vectors: what s6 answers to the trees of tests/vectors, and where we depart
//! - contents: sizes, odd files and names, what `env` and `exec` give
//! - trust: who may write what
//! - change: trees that change between two connections, and while they are read
//! - nobody: what root's rules say to a doorward without rights
//! - database: rules in a cdb file
//! - same: a directory and the database made of it
//! - fuzz: databases with flaws made at random
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod change;
mod contents;
mod database;
mod fuzz;
mod nobody;
mod same;
mod trust;
mod vectors;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::{Gid, Uid, chown, geteuid};

use super::{Answer, Asker, Grant, RuleTree};

/// An id that is neither ours nor anybody's.
const STRANGER: u32 = 54321;

/// A temporary directory with a rules directory in it, both removed at the end.
struct Tree {
    top: PathBuf,
}

impl Tree {
    fn new() -> Tree {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("doorward-rules-{}-{count}", std::process::id());
        let top = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o755).create(&top).unwrap();
        let tree = Tree { top };
        tree.mode("", 0o755).dir("rules")
    }

    /// A path beside the rules, or in them.
    fn path(&self, path: &str) -> PathBuf {
        self.top.join(path)
    }

    fn rules(&self) -> PathBuf {
        self.path("rules")
    }

    fn shown(&self, path: &str) -> String {
        self.path(path).to_str().unwrap().to_owned()
    }

    /// A directory with its parents, 0755 whatever the umask.
    fn dir(self, path: &str) -> Tree {
        let mut whole = self.top.clone();
        for part in path.split('/') {
            whole.push(part);
            if !whole.is_dir() {
                fs::create_dir(&whole).unwrap();
                set_mode(&whole, 0o755);
            }
        }
        self
    }

    /// A file of mode 0644 with its parents.
    fn file(self, path: &str, text: impl AsRef<[u8]>) -> Tree {
        let tree = match path.rsplit_once('/') {
            Some((parent, _)) => self.dir(parent),
            None => self,
        };
        fs::write(tree.path(path), text).unwrap();
        set_mode(&tree.path(path), 0o644);
        tree
    }

    fn link(self, path: &str, target: impl AsRef<Path>) -> Tree {
        symlink(target, self.path(path)).unwrap();
        self
    }

    fn mode(self, path: &str, mode: u32) -> Tree {
        set_mode(&self.path(path), mode);
        self
    }

    fn owner(self, path: &str, uid: u32) -> Tree {
        chown(
            &self.path(path),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(uid)),
        )
        .unwrap();
        self
    }

    fn open(&self) -> RuleTree {
        RuleTree::open(&self.rules()).unwrap()
    }

    /// What a peer with this uid, and a gid of no rule, is told.
    fn judge(&self, uid: u32) -> Answer {
        self.open().judge(&asker(uid))
    }

    /// The cause of a failed answer.
    fn failure(&self, uid: u32) -> String {
        match self.judge(uid) {
            Answer::Failed(cause) => cause,
            other => panic!("{other:?} where reading must fail"),
        }
    }

    fn grant(&self, uid: u32) -> Grant {
        granted(self.judge(uid))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn asker(uid: u32) -> Asker {
    Asker {
        uid: Some(uid),
        gid: Some(STRANGER),
    }
}

fn granted(answer: Answer) -> Grant {
    match answer {
        Answer::Allow(grant) => grant,
        other => panic!("{other:?} where it must be allowed"),
    }
}

fn variable(name: &str, value: Option<&str>) -> (Vec<u8>, Option<Vec<u8>>) {
    (name.into(), value.map(Into::into))
}

/// Are we root? If not the test is left out, aloud.
fn is_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, needs root: {what}");
    }
    root
}

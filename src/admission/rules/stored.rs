//! Rules that stand in the file system at a path, in either form; and what becomes of them when they are opened again.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use nix::sys::stat::{SFlag, stat};

use super::{Answer, Asker, Database, RuleTree};
use crate::admission::current;
use crate::admission::trust::{escaped, kind};

/// Rules at a path, to be asked for each connection, from several threads at once.
#[derive(Debug)]
pub(crate) struct Stored {
    path: PathBuf,
    pub(super) source: RwLock<Arc<Source>>,
}

#[derive(Debug)]
pub(super) enum Source {
    Tree(RuleTree),
    Database(Database),
    /// A database that could not be opened again: what it said does not hold any more, and nobody comes in until it can.
    Closed,
}

/// How rules are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Directory,
    File,
}

impl Source {
    /// A directory is a tree of rules, everything else must be a database.
    fn open(path: &Path) -> Result<Source, String> {
        let found = stat(path).map_err(|errno| {
            let shown = escaped(path.as_os_str().as_bytes());
            let error = std::io::Error::from(errno);
            format!("rules directory or file {shown}: {error}")
        })?;
        if kind(&found) == SFlag::S_IFDIR {
            RuleTree::open(path).map(Source::Tree)
        } else {
            Database::open(path).map(Source::Database)
        }
    }

    /// `None`: it is closed.
    fn judge(&self, who: &Asker) -> Option<Answer> {
        match self {
            Source::Tree(tree) => Some(tree.judge(who)),
            Source::Database(database) => Some(database.judge(who)),
            Source::Closed => None,
        }
    }
}

impl Stored {
    /// Opens the rules at `path` with the credentials of this moment: to be called when privileges are dropped.
    /// # Errors
    /// One line: what is missing, cannot be read or is not to be trusted.
    pub(crate) fn open(path: PathBuf) -> Result<Stored, String> {
        let source = Source::open(&path)?;
        Ok(Stored {
            path,
            source: RwLock::new(Arc::new(source)),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn form(&self) -> Form {
        match *current(&self.source) {
            Source::Tree(_) => Form::Directory,
            Source::Database(_) | Source::Closed => Form::File,
        }
    }

    /// Decides about one peer.
    pub(crate) fn judge(&self, who: &Asker) -> Answer {
        let source = current(&self.source);
        match source.judge(who) {
            Some(answer) => answer,
            None => self.judge_opened(who, &source),
        }
    }

    /// Tries to open what is closed, and decides by it from now on.
    pub(super) fn judge_opened(&self, who: &Asker, closed: &Arc<Source>) -> Answer {
        let opened = match Source::open(&self.path) {
            Ok(opened) => Arc::new(opened),
            Err(cause) => return Answer::Failed(cause),
        };
        let mut source = self.source.write().unwrap_or_else(PoisonError::into_inner);
        // Meanwhile somebody else may have opened what stands there now.
        if Arc::ptr_eq(&source, closed) {
            *source = opened;
        }
        let newest = Arc::clone(&source);
        drop(source);
        newest
            .judge(who)
            .unwrap_or_else(|| Answer::Failed("the rules were closed again".to_owned()))
    }

    /// Opens the rules at the path again.
    /// # Errors
    /// Why it could not be done, in one line. Nobody comes in then until it can: a directory fails by itself for as long as that
    /// lasts, and a database is closed.
    pub(crate) fn open_again(&self) -> Result<(), String> {
        let opened = Source::open(&self.path);
        let mut source = self.source.write().unwrap_or_else(PoisonError::into_inner);
        match opened {
            Ok(opened) => {
                *source = Arc::new(opened);
                Ok(())
            }
            Err(cause) => {
                if matches!(**source, Source::Database(_)) {
                    *source = Arc::new(Source::Closed);
                }
                Err(cause)
            }
        }
    }
}

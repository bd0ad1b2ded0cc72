//! What a command line names, looked at when the process starts: descriptors and rules.
#![forbid(unsafe_code)]

use super::plan::RuleSource;
use crate::admission::{List, RuleTree, Rules};
use crate::exit::{self, wrong_use};
use crate::sys;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use std::os::fd::RawFd;
use std::sync::{Arc, RwLock};

/// A descriptor that an option names must be open when the process starts, and no listening socket: one that is to be
/// served would be taken away under the option, and no child may hold any.
pub(super) fn must_be_usable(option: &str, fd: RawFd) -> exit::Result<()> {
    let Some(named) = sys::fd::inherited(fd) else {
        return Err(wrong_use(format!(
            "{option} {fd}: descriptor {fd} is not open"
        )));
    };
    if getsockopt(&named, AcceptConn).unwrap_or(false) {
        return Err(wrong_use(format!(
            "{option} {fd}: descriptor {fd} is a listening socket"
        )));
    }
    Ok(())
}

/// Opens the rules, or resolves their names.
pub(super) fn rules(source: RuleSource) -> exit::Result<Rules> {
    match source {
        RuleSource::None => Ok(Rules::None),
        RuleSource::Options(options) => {
            let list = List::resolve(&options).map_err(wrong_use)?;
            Ok(Rules::Options(RwLock::new(Arc::new(list))))
        }
        RuleSource::Directory(path) => {
            let tree = RuleTree::open(&path).map_err(exit::system)?;
            Ok(Rules::Tree {
                path,
                tree: RwLock::new(Arc::new(tree)),
            })
        }
    }
}

//! The rules that a command line names, opened.
#![forbid(unsafe_code)]

use super::plan::RuleSource;
use crate::admission::{List, RuleTree, Rules};
use crate::exit::{self, wrong_use};
use std::sync::{Arc, RwLock};

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

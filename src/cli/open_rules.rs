//! The rules that a command line names, opened.
#![forbid(unsafe_code)]

use super::plan::RuleSource;
use crate::admission::{List, Rules, Stored};
use crate::exit::{self, wrong_use};
use std::sync::{Arc, RwLock};

/// Opens the rules, with the credentials of this moment.
pub(super) fn rules(source: RuleSource) -> exit::Result<Rules> {
    match source {
        RuleSource::None => Ok(Rules::None),
        RuleSource::Options(options) => {
            let list = List::resolve(&options).map_err(wrong_use)?;
            Ok(Rules::Options(RwLock::new(Arc::new(list))))
        }
        RuleSource::Stored(path) => Stored::open(path).map(Rules::Stored).map_err(exit::system),
    }
}

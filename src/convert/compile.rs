//! A rules directory made into a database.
#![forbid(unsafe_code)]

use super::draft::{Draft, Stop, shown};
use crate::admission::{RuleTree, Writer, encode, escaped};
use crate::exit::{self, Unable as _};
use std::fs::Permissions;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes the rules of the directory `rules` to the file `database`, which is replaced in one step, with these permission bits.
///
/// A key is read as it is for a connection, so whatever would refuse a connection is an error here, and no record says more than
/// the directory did. Records are sorted by key: equal directories give equal files.
/// # Errors
/// 111 names what in the directory is not as it must be, or does not fit, or says that it changed meanwhile; nothing is written then.
pub(crate) fn compile(rules: &Path, database: &Path, mode: u32) -> exit::Result<()> {
    let stop = Stop::listen()?;
    let tree = RuleTree::open(rules).map_err(exit::system)?;
    let (draft, file) = Draft::file(database)?;
    let unable = format!("write {}", shown(database));
    let mut writer = Writer::new(file).unable(&unable)?;
    let mut written = DefaultHasher::new();
    each_value(&tree, rules, &stop, |key, value| {
        (key, value).hash(&mut written);
        writer.add(key, value).unable(&unable)
    })?;
    // The keys were read one after the other: that all of them say the same once more tells that they stood so together.
    let mut read_again = DefaultHasher::new();
    each_value(&tree, rules, &stop, |key, value| {
        (key, value).hash(&mut read_again);
        Ok(())
    })?;
    if written.finish() != read_again.finish() {
        let rules = shown(rules);
        return Err(exit::system(format!("{rules} changed while it was read")));
    }
    let file = writer.finish().unable(&unable)?;
    let permissions = Permissions::from_mode(mode);
    file.set_permissions(permissions).unable(&unable)?;
    file.sync_all().unable(&unable)?;
    stop.check()?;
    draft.replace()
}

/// Gives every key that has an answer, and the value that says it.
fn each_value(
    tree: &RuleTree,
    rules: &Path,
    stop: &Stop,
    mut visit: impl FnMut(&[u8], &[u8]) -> exit::Result<()>,
) -> exit::Result<()> {
    for key in tree.keys().map_err(exit::system)? {
        stop.check()?;
        let Some(record) = tree.record(&key).map_err(exit::system)? else {
            continue;
        };
        let value = encode(&record).map_err(|why| {
            let key = escaped(&key);
            exit::system(format!("{}/{key} {why}", shown(rules)))
        })?;
        visit(&key, &value)?;
    }
    Ok(())
}

//! A rules directory made into a database.
#![forbid(unsafe_code)]

use super::draft::{Draft, Stop, shown};
use crate::admission::{RuleTree, Writer, encode, escaped};
use crate::exit::{self, Unable as _};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes the rules of the directory `rules` to the file `database`, which is replaced in one step, with these permission bits.
///
/// A key is read as it is for a connection, so whatever would refuse a connection is an error here, and no record says more than
/// the directory did. Records are sorted by key: equal directories give equal files.
/// # Errors
/// 111 names what in the directory is not as it must be, or does not fit; nothing is written then.
pub(crate) fn compile(rules: &Path, database: &Path, mode: u32) -> exit::Result<()> {
    let stop = Stop::listen()?;
    let tree = RuleTree::open(rules).map_err(exit::system)?;
    let (draft, file) = Draft::file(database)?;
    let unable = format!("write {}", shown(database));
    let file = write(&tree, rules, file, &unable, &stop)?;
    let permissions = Permissions::from_mode(mode);
    file.set_permissions(permissions).unable(&unable)?;
    file.sync_all().unable(&unable)?;
    stop.check()?;
    draft.replace()
}

fn write(
    tree: &RuleTree,
    rules: &Path,
    file: File,
    unable: &str,
    stop: &Stop,
) -> exit::Result<File> {
    let mut writer = Writer::new(file).unable(unable)?;
    for key in tree.keys().map_err(exit::system)? {
        stop.check()?;
        let Some(record) = tree.record(&key).map_err(exit::system)? else {
            continue;
        };
        let value = encode(&record).map_err(|why| {
            let key = escaped(&key);
            exit::system(format!("{}/{key} {why}", shown(rules)))
        })?;
        writer.add(&key, &value).unable(unable)?;
    }
    writer.finish().unable(unable)
}

//! A database of rules made into a directory.
#![forbid(unsafe_code)]

use super::draft::{Draft, Stop, shown};
use crate::admission::{Change, Database, Record, escaped, value};
use crate::exit::{self, Unable as _};
use std::ffi::OsStr;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The longest name that a file may have.
const MAX_NAME: usize = 255;

/// Writes the rules of the file `database` to the directory `rules`, which must not exist.
/// # Errors
/// 111: the directory exists, or the file holds what no directory can say, or what would be written elsewhere. Nothing is written
/// before all of the file was looked through.
pub(crate) fn dump(database: &Path, rules: &Path) -> exit::Result<()> {
    let stop = Stop::listen()?;
    let records = Database::open(database).map_err(exit::system)?;
    if rules.symlink_metadata().is_ok() {
        let rules = shown(rules);
        return Err(exit::system(format!("unable to make {rules}: it exists")));
    }
    let mut failure = None;
    let mut each = |work: &mut dyn FnMut(&[u8], Record) -> exit::Result<()>| {
        let walked = records.each_record(|key, record| {
            let done = stop.check().and_then(|()| work(key, record));
            done.map_err(|why| {
                failure = Some(why);
                String::new()
            })
        });
        walked.map_err(|cause| failure.take().unwrap_or_else(|| exit::system(cause)))
    };
    each(&mut |key, record| Plan::of(key, record, database).map(drop))?;
    let draft = Draft::directory(rules)?;
    let top = draft.path();
    each(&mut |key, record| {
        let plan = Plan::of(key, record, database)?;
        let name = escaped(key);
        plan.carry_out(&top)
            .unable(format!("write {}/{name}", shown(rules)))
    })?;
    draft.settle()
}

/// The directory of one key, and the files in it.
struct Plan {
    directory: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Plan {
    fn of(key: &[u8], record: Record, database: &Path) -> exit::Result<Plan> {
        let refused = |why: String| {
            let (database, key) = (shown(database), escaped(key));
            exit::system(format!("{database}: the record of {key} {why}"))
        };
        let mut levels = key.split(|&byte| byte == b'/');
        let directory = match (levels.next(), levels.next(), levels.next()) {
            (Some(first), Some(second), None) if is_name(first) && is_name(second) => {
                Path::new(OsStr::from_bytes(first)).join(OsStr::from_bytes(second))
            }
            _ => {
                let why = "has a key that no directory can have: it must be two names, neither of them hidden";
                return Err(refused(why.to_owned()));
            }
        };
        let Record::Allow { env, exec } = record else {
            let files = vec![("deny".into(), Vec::new())];
            return Ok(Plan { directory, files });
        };
        let mut files = vec![("allow".into(), Vec::new())];
        for change in &env {
            let text = text_of(change).ok_or_else(|| {
                let name = escaped(&change.0);
                refused(format!("has a variable {name} that no file can say"))
            })?;
            files.push((Path::new("env").join(OsStr::from_bytes(&change.0)), text));
        }
        if !exec.is_empty() {
            files.push(("exec".into(), exec));
        }
        Ok(Plan { directory, files })
    }

    fn carry_out(self, top: &Path) -> io::Result<()> {
        let directory = top.join(&self.directory);
        // Not writable by a group even where the umask would let it: nobody would believe such rules.
        let mut builder = DirBuilder::new();
        builder.mode(0o755);
        if let Some(branch) = directory.parent() {
            builder.recursive(true).create(branch)?;
        }
        builder.recursive(false).create(&directory)?;
        if self.files.iter().any(|(name, _)| name.starts_with("env")) {
            builder.create(directory.join("env"))?;
        }
        for (name, text) in self.files {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            options.open(directory.join(name))?.write_all(&text)?;
        }
        Ok(())
    }
}

/// One name in a directory, and not hidden: hidden ones are not looked at.
fn is_name(name: &[u8]) -> bool {
    let plain = !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with(b".");
    plain && !name.iter().any(|byte| b"/\0".contains(byte))
}

/// The file that says a change: a line for a value, with zero bytes for its newlines; an empty one to remove. `None`: what is read
/// there again would be something else.
fn text_of((name, to): &Change) -> Option<Vec<u8>> {
    let text = match to {
        None => Vec::new(),
        Some(to) => {
            let zero_for_newline = |&byte: &u8| if byte == b'\n' { 0 } else { byte };
            to.iter().map(zero_for_newline).chain([b'\n']).collect()
        }
    };
    let is_said = is_name(name) && !name.contains(&b'=') && value(&text) == *to;
    is_said.then_some(text)
}

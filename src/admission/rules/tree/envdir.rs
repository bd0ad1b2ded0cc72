//! The `env` of a key: a directory with a file for each variable to set or to remove.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::Trouble;
use super::place::Site;
use super::text;
use crate::admission::rules::Change;
use crate::admission::trust::Fault;

/// How much all variables may take, each as NAME=VALUE or NAME and a zero byte.
const MAX_TOTAL: usize = 16 * 1024;
/// How many names are looked at, those included that are skipped.
const MAX_ENTRIES: usize = 4096;

/// Reads the `env` of the key whose directory `key` is, in no particular order. `None`: it is not there.
/// # Errors
/// Anything in it that is not to be trusted or cannot be read (a link that leads nowhere is no absence here, since
/// its name stands there), too much of it, or `Changed` while it was read.
pub(super) fn read(key: Site<'_>) -> Result<Option<Vec<Change>>, Trouble> {
    let Some(env) = key.find(b"env")? else {
        return Ok(None);
    };
    env.check_is_directory()?;
    let fd = env.open(OFlag::O_DIRECTORY)?;
    let mut entries = Dir::from_fd(fd).map_err(|errno| env.failed(errno))?;
    let names = list(&mut entries, &env.path);
    let changes = names.and_then(|names| {
        read_all(
            Site {
                dir: entries.as_fd(),
                path: &env.path,
                ..key
            },
            names,
        )
    });
    if !env.is_unchanged_as(&entries)? {
        return Err(Trouble::Changed);
    }
    Ok(Some(changes?))
}

/// The names that are variables: without `=`, and not hidden.
fn list(entries: &mut Dir, path: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let mut names = Vec::new();
    let mut total = 0;
    for (count, entry) in entries.iter().enumerate() {
        let entry = entry.map_err(|errno| Fault::system(path, errno))?;
        if count >= MAX_ENTRIES {
            return Err(Fault::unfit(
                path,
                format!("has more than {MAX_ENTRIES} entries"),
            ));
        }
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") || name.contains(&b'=') {
            continue;
        }
        total = grown(total, name.len() + 1, path)?;
        names.push(name.to_vec());
    }
    Ok(names)
}

fn read_all(env: Site<'_>, names: Vec<Vec<u8>>) -> Result<Vec<Change>, Fault> {
    let mut changes = Vec::with_capacity(names.len());
    let mut total = 0;
    for name in names {
        let Some(text) = text::read(env, &name)? else {
            return Err(Fault::system(env.path_of(&name), Errno::ENOENT));
        };
        let value = value(&text);
        let size = name.len() + 1 + value.as_ref().map_or(0, |value| value.len() + 1);
        total = grown(total, size, env.path)?;
        changes.push((name, value));
    }
    Ok(changes)
}

fn grown(total: usize, by: usize, path: &[u8]) -> Result<usize, Fault> {
    let total = total.saturating_add(by);
    if total > MAX_TOTAL {
        return Err(Fault::unfit(
            path,
            format!("holds more than {MAX_TOTAL} bytes of variables"),
        ));
    }
    Ok(total)
}

/// What a file says: its first line without trailing blanks, zero bytes as newlines; an empty file says "remove".
pub(crate) fn value(text: &[u8]) -> Option<Vec<u8>> {
    let line = text
        .split(|&byte| byte == b'\n')
        .next()
        .filter(|_| !text.is_empty())?;
    let kept = line
        .iter()
        .rposition(|byte| !b" \t\r".contains(byte))
        .map_or(0, |last| last + 1);
    let newline_for_zero = |&byte: &u8| if byte == 0 { b'\n' } else { byte };
    Some(line.iter().take(kept).map(newline_for_zero).collect())
}

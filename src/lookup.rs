//! A command, found as execvp(3) would find it.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::sys::stat::stat;
use nix::unistd::{AccessFlags, faccessat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What execvp(3) searches where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The answer of [`find`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    At(PathBuf),
    NotExecutable,
    Nowhere,
}

/// Finds a command as execvp(3) would: a word with a slash is a path, any other is searched in PATH.
pub(crate) fn find(word: &OsStr) -> Found {
    find_in(
        word,
        &std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
    )
}

fn find_in(word: &OsStr, path: &OsStr) -> Found {
    if word.is_empty() {
        return Found::Nowhere;
    }
    if word.as_bytes().contains(&b'/') {
        return look_at(Path::new(word));
    }
    let mut found = Found::Nowhere;
    for directory in path.as_bytes().split(|&byte| byte == b':') {
        // An empty element is the current directory.
        let directory = if directory.is_empty() {
            OsStr::new(".")
        } else {
            OsStr::from_bytes(directory)
        };
        match look_at(&Path::new(directory).join(word)) {
            Found::At(path) => return Found::At(path),
            Found::NotExecutable => found = Found::NotExecutable,
            Found::Nowhere => {}
        }
    }
    found
}

fn look_at(path: &Path) -> Found {
    match stat(path) {
        Ok(stat) if stat.st_mode & libc::S_IFMT != libc::S_IFREG => Found::NotExecutable,
        Ok(_) if faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok() => {
            Found::At(path.to_path_buf())
        }
        Ok(_) => Found::NotExecutable,
        Err(Errno::EACCES | Errno::EPERM) => Found::NotExecutable,
        Err(_) => Found::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_searched_and_a_path_is_not() {
        assert_eq!(
            find_in(OsStr::new("sh"), OsStr::new("/nowhere:/bin")),
            Found::At("/bin/sh".into())
        );
        assert_eq!(
            find_in(OsStr::new("/bin/sh"), OsStr::new("/nowhere")),
            Found::At("/bin/sh".into())
        );
        assert_eq!(
            find_in(OsStr::new("sh"), OsStr::new("/nowhere")),
            Found::Nowhere
        );
        assert_eq!(find_in(OsStr::new(""), OsStr::new("/bin")), Found::Nowhere);
    }

    #[test]
    fn a_directory_and_a_plain_file_are_not_executable() {
        assert_eq!(
            find_in(OsStr::new("/etc"), OsStr::new("")),
            Found::NotExecutable
        );
        assert_eq!(
            find_in(OsStr::new("passwd"), OsStr::new("/etc")),
            Found::NotExecutable
        );
    }
}

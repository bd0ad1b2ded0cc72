//! PROG: looked up once, before readiness.
#![forbid(unsafe_code)]

use crate::exit::{self, Failure};
use crate::report::Escaped;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What execvp(3) searches where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Program {
    /// As execve takes it.
    pub(crate) path: CString,
    /// argv[0] is the word that was typed.
    pub(crate) argv: Vec<OsString>,
}

impl Program {
    /// Looks `argv[0]` up.
    ///
    /// # Errors
    /// Exit code 127: not found. 126: found, and not executable for the user that doorward runs as.
    pub(crate) fn look_up(argv: Vec<OsString>) -> exit::Result<Program> {
        let word = argv.first().cloned().unwrap_or_default();
        let shown = Escaped(word.as_bytes()).to_string();
        let fail = |code, why: &str| Failure {
            code,
            error: anyhow::anyhow!("unable to run {shown}: {why}"),
        };
        match find(&word) {
            Found::At(path) => {
                let path = CString::new(path.into_os_string().into_vec())
                    .map_err(|_| fail(exit::NOT_FOUND, "not found"))?;
                Ok(Program { path, argv })
            }
            Found::NotExecutable => Err(fail(exit::NOT_EXECUTABLE, "Permission denied")),
            Found::Nowhere if word.as_bytes().contains(&b'/') => {
                Err(fail(exit::NOT_FOUND, "No such file or directory"))
            }
            Found::Nowhere => Err(fail(exit::NOT_FOUND, "not found in PATH")),
        }
    }
}

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
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Found::NotExecutable,
        Ok(_) if faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok() => {
            Found::At(path.to_path_buf())
        }
        Ok(_) => Found::NotExecutable,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Found::NotExecutable,
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

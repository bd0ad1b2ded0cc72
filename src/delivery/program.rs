//! PROG: looked up once, before readiness.
#![forbid(unsafe_code)]

use crate::exit::{self, Failure};
use crate::lookup::{Found, find};
use crate::report::Escaped;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// A program and its arguments.
#[derive(Debug)]
pub(crate) struct Program {
    /// As execve takes it.
    pub(crate) path: CString,
    /// argv[0] is the word that was typed.
    pub(crate) argv: Vec<OsString>,
}

impl Program {
    /// What runs a rule's script in place of the program; `None` without execlineb.
    pub(crate) fn script(text: Vec<u8>) -> Option<Program> {
        Some(Program {
            path: execlineb()?,
            argv: vec!["execlineb".into(), "-Pc".into(), OsString::from_vec(text)],
        })
    }

    /// Looks `argv[0]` up.
    ///
    /// # Errors
    /// Exit code 127: not found. 126: found, and not executable for the user that doorward runs as.
    pub(crate) fn look_up(argv: Vec<OsString>) -> exit::Result<Program> {
        let word = argv.first().cloned().unwrap_or_default();
        let fail = |code, why: &str| Failure {
            code,
            error: anyhow::anyhow!("unable to run {}: {why}", Escaped(word.as_bytes())),
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

/// Where execlineb is, in doorward's own PATH.
pub(crate) fn execlineb() -> Option<CString> {
    match find(OsStr::new("execlineb")) {
        Found::At(path) => CString::new(path.into_os_string().into_vec()).ok(),
        Found::NotExecutable | Found::Nowhere => None,
    }
}

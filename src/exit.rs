//! Exit codes, as the skarnet tools have them, and the error that carries one.
#![forbid(unsafe_code)]

use std::fmt::Display;

/// Who was asked said no.
pub(crate) const REFUSED: u8 = 1;
/// A deadline passed.
pub(crate) const DEADLINE: u8 = 99;
/// Wrong use: options, environment, an inherited descriptor that cannot be served.
pub(crate) const WRONG_USE: u8 = 100;
/// A system call failed; trying again may help.
pub(crate) const SYSTEM: u8 = 111;
/// The program was found and may not be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// An error that ends the process, with the code it ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The caller is at fault.
pub(crate) fn wrong_use(message: impl Display) -> Failure {
    Failure {
        code: WRONG_USE,
        error: anyhow::anyhow!("{message}"),
    }
}

/// The system is at fault, or what stands in it.
pub(crate) fn system(message: impl Display) -> Failure {
    Failure {
        code: SYSTEM,
        error: anyhow::anyhow!("{message}"),
    }
}

/// Adds what was tried to a system error: `unable to VERB OBJECT: CAUSE`.
pub(crate) trait Unable<T> {
    /// `what` is the phrase after "unable to".
    fn unable(self, what: impl Display) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Unable<T> for std::result::Result<T, E> {
    fn unable(self, what: impl Display) -> Result<T> {
        self.map_err(|error| Failure {
            code: SYSTEM,
            // nix's errors become std's here, so that all messages read alike.
            error: anyhow::Error::new(error.into()).context(format!("unable to {what}")),
        })
    }
}

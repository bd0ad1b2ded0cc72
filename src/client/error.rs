//! Why there is no service to talk to.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io;

/// Why a service was not reached, or not started.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The service closed the connection without a word: it refused, or it could not serve.
    Closed,
    /// The service sent something else than a greeting, as `--deny-text` does. The first kilobyte of it, with control characters escaped.
    Refused(String),
    /// The greeting is there, and not what came with it. What is wrong.
    Malformed(&'static str),
    /// No greeting came in time.
    TimedOut,
    /// There is no such command, or it is not executable.
    NoProgram(OsString),
    /// A system call failed. What was tried, and the cause.
    System(&'static str, io::Error),
}

impl Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed => formatter.write_str("the service closed the connection"),
            Error::Refused(text) => write!(formatter, "the service says: {text}"),
            Error::Malformed(what) => write!(formatter, "malformed greeting: {what}"),
            Error::TimedOut => formatter.write_str("no greeting came in time"),
            Error::NoProgram(word) => {
                write!(
                    formatter,
                    "unable to run {word:?}: not found or not executable"
                )
            }
            Error::System(what, cause) => write!(formatter, "unable to {what}: {cause}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System(_, cause) => Some(cause),
            _ => None,
        }
    }
}

/// Adds what was tried to a system error.
pub(super) trait Unable<T> {
    /// `what` is the phrase after "unable to".
    fn unable(self, what: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Unable<T> for Result<T, E> {
    fn unable(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error::System(what, error.into()))
    }
}

//! What can go wrong between doorward and a backend.
#![forbid(unsafe_code)]

use std::fmt::{self, Display};
use std::io;

/// Why there is no channel, or why one connection was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// This process was not given what it asked for: LISTEN_FDS, LISTEN_PID or LISTEN_FDNAMES say so. The reason.
    NotGiven(&'static str),
    /// The descriptor is there and is not what it must be. What it is not.
    WrongDescriptor(&'static str),
    /// Somebody who is neither root, nor this process's own effective user, nor one that was allowed wants to hand off.
    Untrusted {
        /// The effective uid of the process at the other end of the control connection.
        uid: u32,
    },
    /// A message does not follow the protocol. What is wrong with it.
    Malformed(&'static str),
    /// The payload names another user or group than the kernel does for the connection; the kernel is believed, so the message is not.
    Forged {
        /// `euid` or `egid`.
        what: &'static str,
        /// What the payload says.
        claimed: u32,
        /// What the connection's SO_PEERCRED says.
        actual: u32,
    },
    /// A message was larger than the protocol allows, or its descriptors did not fit into this process: that connection is lost.
    Truncated,
    /// A system call failed. What was tried, and the cause.
    System(&'static str, io::Error),
}

impl Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotGiven(why) => write!(formatter, "nothing to receive from was given: {why}"),
            Error::WrongDescriptor(what) => write!(formatter, "the descriptor is not {what}"),
            Error::Untrusted { uid } => {
                write!(
                    formatter,
                    "user {uid} may not hand connections to this backend"
                )
            }
            Error::Malformed(what) => write!(formatter, "malformed message: {what}"),
            Error::Forged {
                what,
                claimed,
                actual,
            } => write!(
                formatter,
                "the message says {what} {claimed}, the connection says {actual}"
            ),
            Error::Truncated => {
                formatter.write_str("a message was cut short, its connection is lost")
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

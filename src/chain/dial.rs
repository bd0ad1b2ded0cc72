//! The way to a server: connect(2), and who it is that serves there, before a byte is sent.
#![forbid(unsafe_code)]

use crate::admission::Servers;
use crate::exit::{self, Failure, Unable as _};
use crate::source::{Address, Type};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Where to, and on what terms.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) address: Address,
    pub(crate) kind: Type,
    /// Who must serve there; `None`: anybody.
    pub(crate) servers: Option<Servers>,
    /// How long it may take until the server is reached, and with a greeting until that is there.
    pub(crate) limit: Option<Duration>,
}

impl Dial {
    /// When the limit is over, counted from now. A deadline beyond the end of time is none.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let limit = self.limit?;
        Instant::now().checked_add(limit)
    }

    /// A blocking socket, not connected yet.
    pub(crate) fn socket(&self) -> exit::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, self.kind.of(), flags, None);
        socket.unable("create a socket")
    }

    /// Connects `socket`, and makes sure that whom it reaches is to be trusted. Nothing was sent or received then.
    ///
    /// # Errors
    /// Exit code 99: not before `end`. 1: the server is not who it must be. 111: the system's.
    pub(crate) fn connect(&self, socket: BorrowedFd<'_>, end: Option<Instant>) -> exit::Result<()> {
        // Held until connect is done, for a path that leads through it.
        let (_directory, address) = self
            .address
            .reach()
            .unable(format!("connect to {}", self.address))?;
        loop {
            // The wait for room in the server's queue is what connect(2) takes time for.
            limit_wait(socket, end).map_err(|_| self.too_late())?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if end.is_some() => return Err(self.too_late()),
                Err(error @ Errno::EPROTOTYPE) => {
                    return Err(error).unable(format!(
                        "connect to {} as --type {}",
                        self.address, self.kind
                    ));
                }
                Err(error) => return Err(error).unable(format!("connect to {}", self.address)),
            }
        }
        // What is written later has no limit.
        setsockopt(&socket, SendTimeout, &TimeVal::zero()).unable("change the connection")?;
        let Some(servers) = &self.servers else {
            return Ok(());
        };
        servers.check(socket.as_fd()).map_err(|error| Failure {
            code: match error.kind() {
                std::io::ErrorKind::PermissionDenied => exit::REFUSED,
                _ => exit::SYSTEM,
            },
            error: anyhow::Error::new(error).context(format!("unable to trust {}", self.address)),
        })
    }

    pub(crate) fn too_late(&self) -> Failure {
        let limit = self.limit.unwrap_or_default().as_secs_f64();
        Failure {
            code: exit::DEADLINE,
            error: anyhow::anyhow!(
                "unable to connect to {}: no answer within {limit} seconds",
                self.address
            ),
        }
    }
}

/// Lets connect(2) wait until `end` alone.
fn limit_wait(socket: BorrowedFd<'_>, end: Option<Instant>) -> nix::Result<()> {
    let Some(end) = end else { return Ok(()) };
    let left = end.saturating_duration_since(Instant::now());
    let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
    if left == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    setsockopt(&socket, SendTimeout, &TimeVal::microseconds(left))
}

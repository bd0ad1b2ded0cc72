//! The client's side of a service with notifications: a connection to talk on, and a second socket on which the service speaks by itself.
//!
//! The same code talks to a service that runs already, behind `doorward spawn --notify` or `doorward handoff`, and to one that it starts
//! itself and ends with the value:
//!
//! ```no_run
//! use doorward::client::{Error, Service};
//! use std::io::{BufRead as _, BufReader, Write as _};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut service = match Service::connect("/run/watch") {
//!         Ok(service) => service,
//!         Err(Error::System(..)) => Service::spawn(["watch-one"])?,
//!         Err(error) => return Err(error.into()),
//!     };
//!     writeln!(service.connection, "watch lamp")?;
//!     for event in BufReader::new(&service.notification).lines() {
//!         println!("{}", event?);
//!     }
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

mod dial;
mod environment;
mod error;
mod process;
#[cfg(test)]
mod tests;
pub(crate) mod welcome;

pub use error::Error;

use process::Process;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// A service, and the two sockets to it: owned, close-on-exec, blocking.
///
/// Dropping it closes both sockets. One that was started by [`Service::spawn`] is then ended: it has 1 second to see the end of file and
/// exit; then SIGTERM goes to its process group, and SIGKILL 5 seconds later. So dropping may block for 6 seconds; [`Service::end`] does
/// the same and tells how it ended.
#[derive(Debug)]
pub struct Service {
    // Closed in this order, the process last.
    /// To talk on, an AF_UNIX stream.
    pub connection: UnixStream,
    /// The second socket, an AF_UNIX stream: what the service sends without being asked comes here.
    pub notification: UnixStream,
    process: Option<Process>,
}

impl Service {
    /// Connects to a service that runs, and takes its greeting with the notification socket. `path` is a path, or `@name` for the
    /// abstract namespace; a path may be of any length as long as its last component has at most 88 bytes.
    ///
    /// Waits without limit: a full service lets its clients wait. Nothing behind the greeting is read.
    ///
    /// # Errors
    /// `System` with `NotFound` or `ConnectionRefused`: no service there; with `PermissionDenied`: not for us. `Closed`, `Refused`: the
    /// service does not want us (or is none with notifications). `Malformed`: it greets otherwise than docs/PROTOCOL.md says.
    ///
    /// # Limitations
    /// Stream sockets only.
    pub fn connect(path: impl AsRef<Path>) -> Result<Service, Error> {
        Service::greeted(path.as_ref(), None)
    }

    /// The same, with a limit on the wait for the greeting.
    ///
    /// # Errors
    /// As [`Service::connect`], and `TimedOut`. connect(2) itself, which waits while the kernel's queue is full, is not limited.
    pub fn connect_within(path: impl AsRef<Path>, limit: Duration) -> Result<Service, Error> {
        // A limit beyond the end of time is none.
        Service::greeted(path.as_ref(), Instant::now().checked_add(limit))
    }

    fn greeted(path: &Path, end: Option<Instant>) -> Result<Service, Error> {
        let connection = dial::connect(path)?;
        let notification = welcome::take(connection.as_fd(), end)?;
        Ok(Service {
            connection,
            notification,
            process: None,
        })
    }

    /// Starts a command (its name, looked up in PATH as execvp(3) does, and its arguments) as `doorward spawn --notify` starts a child,
    /// with this process as its client: the connection on 6 and 7, its end of the notification socket on 8, /dev/null on 0, this process's
    /// 1 and 2, no other descriptor; `PROTO=IPC`, `IPCREMOTEEUID` and so on (this process's own credentials; `IPCLOCALPATH` is empty),
    /// `NOTIFYFD=8`; in a process group of its own; all signals at their defaults, none blocked.
    ///
    /// # Errors
    /// `NoProgram`: there is no such command. `System`: it could not be started.
    pub fn spawn<W: AsRef<OsStr>>(command: impl IntoIterator<Item = W>) -> Result<Service, Error> {
        process::start(command)
    }

    /// The process id of a service that was started here; it is this process's unreaped child as long as the value lives.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Closes both sockets and ends a service that was started here, as dropping does; tells how it ended (`None`: not started here).
    ///
    /// # Errors
    /// `System`: it cannot be waited for, as when SIGCHLD is ignored or somebody else reaps this process's children.
    pub fn end(self) -> Result<Option<ExitStatus>, Error> {
        let Service {
            connection,
            notification,
            process,
        } = self;
        drop((connection, notification));
        process.map(Process::end).transpose()
    }
}

//! The one connection that this process was started for: where it stands, and whether it is one.
#![forbid(unsafe_code)]

use crate::delivery::Layout;
use crate::exit::{self, wrong_use};
use crate::report::Escaped;
use crate::source::{Activation, FIRST, decimal, meant_for_us};
use crate::sys;
use nix::libc;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

/// Where inetd and UCSPI servers put a connection, and where UCSPI clients and `spawn` do.
const STANDARD: RawFd = 0;
const UCSPI: RawFd = 6;

/// A socket that should be the connection.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) socket: BorrowedFd<'static>,
    pub(crate) number: RawFd,
    /// The layout that has a connection there.
    pub(crate) layout: Layout,
}

/// Why a socket is not the connection of a client that could be asked for.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// Nobody's connection.
    NoConnection(String),
    /// A client of whom the kernel knows no user.
    Stranger(String),
}

impl Given {
    /// Finds it: what LISTEN_FDS passes, else descriptor 0, else descriptor 6. The first that is a socket is taken, fit or not: what a
    /// client speaks on must never be passed over for something else.
    ///
    /// # Errors
    /// Exit code 100: there is none, or LISTEN_FDS is not about one connection.
    pub(crate) fn find(activation: &Activation) -> exit::Result<Given> {
        let why_not = match meant_for_us(activation) {
            Ok(count) => {
                let shown = Escaped(count.as_bytes());
                if decimal(count) != Some(1) {
                    return Err(wrong_use(format!(
                        "LISTEN_FDS={shown}, but admit takes one connection"
                    )));
                }
                return at(FIRST, Layout::Systemd).ok_or_else(|| {
                    wrong_use(format!(
                        "LISTEN_FDS={shown}, but descriptor {FIRST} is not a socket"
                    ))
                });
            }
            Err(why_not) => why_not,
        };
        if activation.stdin.is_some() {
            return Err(wrong_use(listening(STANDARD)));
        }
        let found = at(STANDARD, Layout::Inetd).or_else(|| at(UCSPI, Layout::Ucspi));
        found.ok_or_else(|| {
            wrong_use(format!(
                "no connection: neither LISTEN_FDS nor descriptor {STANDARD} nor {UCSPI} has a socket{why_not}"
            ))
        })
    }

    /// Whether it is a client's connection.
    pub(crate) fn check(&self) -> Result<(), Unfit> {
        let number = self.number;
        if getsockopt(&self.socket, sockopt::AcceptConn).unwrap_or(false) {
            return Err(Unfit::NoConnection(listening(number)));
        }
        let family = sys::socket::domain(self.socket).unwrap_or(0);
        if family != libc::AF_UNIX {
            return Err(Unfit::Stranger(format!(
                "descriptor {number} is a socket of address family {family}, not a Unix socket"
            )));
        }
        match getsockopt(&self.socket, sockopt::SockType) {
            Ok(SockType::Stream | SockType::SeqPacket) => Ok(()),
            _ => Err(Unfit::NoConnection(format!(
                "descriptor {number} is a Unix datagram socket, which has no connections"
            ))),
        }
    }
}

fn listening(number: RawFd) -> String {
    format!("descriptor {number} is a listening socket, not a connection: doorward spawn serves it")
}

/// The socket at `number`, if there is one.
fn at(number: RawFd, layout: Layout) -> Option<Given> {
    let socket = sys::fd::inherited(number)?;
    identity(socket).map(|_| Given {
        socket,
        number,
        layout,
    })
}

/// Whether standard error is one of the places where the connection may stand, so that log lines would reach the client.
pub(crate) fn is_stderr() -> bool {
    socket_at(2).is_some_and(|stderr| {
        [STANDARD, FIRST, UCSPI]
            .into_iter()
            .any(|number| socket_at(number) == Some(stderr))
    })
}

/// Whether `number` is the same socket, however it got there.
pub(crate) fn is_same_socket(socket: BorrowedFd<'_>, number: RawFd) -> bool {
    identity(socket).is_some_and(|socket| socket_at(number) == Some(socket))
}

/// What tells one socket from another.
type Identity = (libc::dev_t, libc::ino_t);

fn socket_at(number: RawFd) -> Option<Identity> {
    identity(sys::fd::inherited(number)?)
}

/// `None`: no socket.
fn identity(fd: BorrowedFd<'_>) -> Option<Identity> {
    let stat = fstat(fd).ok()?;
    let is_socket = stat.st_mode & libc::S_IFMT == libc::S_IFSOCK;
    is_socket.then_some((stat.st_dev, stat.st_ino))
}

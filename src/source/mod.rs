//! Where the listening socket comes from: socket activation, descriptor 0, or a path of our own. In this order.
#![forbid(unsafe_code)]

mod address;
mod bind;
mod inherit;
mod local;
mod lock;
mod node;
mod stale;

pub(crate) use address::Address;
pub(crate) use inherit::{Activation, FIRST, decimal, meant_for_us, take_standard};
pub(crate) use local::bind_client;

use crate::exit::{self, Unable as _};
use crate::sys;
use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockname, getsockopt, sockopt};
use std::fmt::{self, Display};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// The socket types of doorward, by the words of `--type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Type {
    Stream,
    Seqpacket,
    Dgram,
}

impl Type {
    pub(crate) fn of(self) -> SockType {
        match self {
            Type::Stream => SockType::Stream,
            Type::Seqpacket => SockType::SeqPacket,
            Type::Dgram => SockType::Datagram,
        }
    }

    fn from(kind: SockType) -> Option<Type> {
        match kind {
            SockType::Stream => Some(Type::Stream),
            SockType::SeqPacket => Some(Type::Seqpacket),
            SockType::Datagram => Some(Type::Dgram),
            _ => None,
        }
    }

    /// As `--type` takes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Type::Stream => "stream",
            Type::Seqpacket => "seqpacket",
            Type::Dgram => "dgram",
        }
    }
}

impl Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// Which types of sockets a command serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Kinds {
    /// Those that have connections to accept.
    #[default]
    Connected,
    /// Datagram sockets too: whoever reads them is another program.
    All,
}

/// What the command line says about the listening sockets.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// `--bind`, in order.
    pub(crate) binds: Vec<Address>,
    /// `--name`: which of the inherited ones; empty: all.
    pub(crate) names: Vec<String>,
    /// `--mode`, permission bits.
    pub(crate) mode: Option<u32>,
    /// `--owner`, resolved.
    pub(crate) owner: Option<Owner>,
    /// `--backlog`; `None`: the system's maximum.
    pub(crate) backlog: Option<i32>,
    pub(crate) kind: Option<Type>,
    /// What may be inherited.
    pub(crate) kinds: Kinds,
    pub(crate) relisten: bool,
    /// doorward's own descriptors stand at this number and above.
    pub(crate) low: RawFd,
}

impl Wanted {
    fn backlog(&self) -> i32 {
        self.backlog.unwrap_or(i32::MAX)
    }
}

/// `--owner USER[:GROUP]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
}

/// A listening socket that is served, or will be once [`Sockets::listen`] was called.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: OwnedFd,
    kind: Type,
    /// Its name in LISTEN_FDNAMES, if it came with one.
    pub(crate) name: Option<String>,
    pub(crate) address: Address,
    /// Owner and mode of the bound node, where one is to be seen.
    pub(crate) access: Option<node::Access>,
    /// Set if doorward bound it itself.
    own: Option<bind::Own>,
}

impl Listening {
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether doorward bound it (and may shut it down and unlink it).
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Says once if a socket of our own cannot be unlinked at the end; to be called when privileges are dropped.
    pub(crate) fn warn_if_it_stays(&self) {
        if let Some(own) = &self.own {
            own.warn_if_it_stays(&self.address);
        }
    }

    /// Makes room for a successor: unlink, lock released. The socket itself is left alone, because somebody else may use it still. Does
    /// nothing to an inherited socket.
    pub(crate) fn vacate(&self) {
        if let Some(own) = &self.own {
            own.vacate();
        }
    }

    /// Whether a path of our own no longer leads to the socket: no client will find it.
    pub(crate) fn is_lost(&self) -> bool {
        self.own.as_ref().is_some_and(bind::Own::is_lost)
    }

    /// Stops new connections to a socket of our own and makes room for a successor: shutdown, unlink, lock released. What is queued can
    /// still be accepted. Does nothing to an inherited socket, which is shared with its manager.
    pub(crate) fn retire(&self) {
        if let Some(own) = &self.own {
            own.retire(self.socket.as_fd(), &self.address);
        }
    }
}

/// All sockets of this process, before they listen.
#[derive(Debug)]
pub(crate) struct Sockets {
    sockets: Vec<Listening>,
    relisten: bool,
    backlog: i32,
}

/// Gets the sockets: inherited ones or, where there are none, bound ones (not listening yet).
///
/// # Errors
/// Exit code 100 where the command line and what was inherited disagree or nothing was named, 111 where the system refused.
pub(crate) fn obtain(wanted: &Wanted, activation: Activation) -> exit::Result<Sockets> {
    let relisten = wanted.relisten;
    let backlog = wanted.backlog();
    let (inherited, why_not) = inherit::take(wanted, activation)?;
    let sockets = if let Some(inherited) = inherited {
        inherited
    } else if !wanted.names.is_empty() {
        return Err(exit::wrong_use(format!(
            "--name {} picks nothing: no sockets were inherited{why_not}",
            wanted.names.join(" --name ")
        )));
    } else if wanted.binds.is_empty() {
        return Err(exit::wrong_use(format!(
            "no listening socket: give --bind PATH, or start under socket activation{why_not}"
        )));
    } else {
        wanted
            .binds
            .iter()
            .map(|address| bind::bind(address, wanted))
            .collect::<exit::Result<Vec<_>>>()?
    };
    Ok(Sockets {
        sockets,
        relisten,
        backlog,
    })
}

impl Sockets {
    /// Makes bound sockets listen (from here on clients get in), and inherited ones again if `--relisten` says so.
    pub(crate) fn listen(self) -> exit::Result<Vec<Listening>> {
        for listening in &self.sockets {
            let listens = listening.is_own() || self.relisten;
            if listens && listening.kind != Type::Dgram {
                sys::socket::listen(listening.socket(), self.backlog)
                    .unable(format!("listen to {}", listening.address))?;
            }
        }
        Ok(self.sockets)
    }

    /// Moves the sockets to numbers of at least `low`.
    pub(crate) fn lift(mut self, low: RawFd) -> exit::Result<Sockets> {
        let lift = |listening: Listening| -> std::io::Result<Listening> {
            let socket = sys::fd::lift(listening.socket, low)?;
            Ok(Listening {
                socket,
                ..listening
            })
        };
        let lifted = self.sockets.into_iter().map(lift);
        self.sockets = lifted
            .collect::<std::io::Result<_>>()
            .unable("move an inherited descriptor")?;
        Ok(self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Listening> {
        self.sockets.iter()
    }
}

/// Whether a descriptor is a socket that somebody is to serve: a listening one or, where `kinds` has them, a datagram one with a name.
fn is_to_be_served(socket: BorrowedFd<'_>, kinds: Kinds) -> bool {
    getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false)
        || kinds == Kinds::All && check_listening(socket, kinds).is_ok()
}

/// What is known of a descriptor that should be a listening Unix socket; the error says what it is instead.
fn check_listening(socket: BorrowedFd<'_>, kinds: Kinds) -> Result<Type, String> {
    let Ok(domain) = sys::socket::domain(socket) else {
        return Err("is not a socket".into());
    };
    if domain != nix::libc::AF_UNIX {
        return Err(format!(
            "is a socket of address family {domain}, not a Unix socket"
        ));
    }
    let kind = getsockopt(&socket, sockopt::SockType)
        .map_err(|error| format!("does not tell its type: {error}"))?;
    let Some(kind) = Type::from(kind) else {
        return Err("is a Unix socket of no type that is known here".into());
    };
    if kind == Type::Dgram {
        return check_datagram(socket, kinds).map(|()| kind);
    }
    match getsockopt(&socket, sockopt::AcceptConn) {
        Ok(true) => Ok(kind),
        Ok(false) => Err("is a Unix socket that is not listening".into()),
        Err(error) => Err(format!("does not tell whether it is listening: {error}")),
    }
}

/// A datagram socket has nothing to listen with: it must be one that anybody can send to.
fn check_datagram(socket: BorrowedFd<'_>, kinds: Kinds) -> Result<(), String> {
    if kinds == Kinds::Connected {
        return Err("is a Unix datagram socket, which has no connections".into());
    }
    if getpeername::<UnixAddr>(socket.as_raw_fd()).is_ok() {
        return Err("is a Unix datagram socket that is connected to one sender".into());
    }
    match getsockname::<UnixAddr>(socket.as_raw_fd()).map(|name| Address::from_kernel(&name)) {
        Ok(Address::Unnamed) => Err("is a Unix datagram socket without a name".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("does not tell its name: {error}")),
    }
}

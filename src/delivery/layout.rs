//! Which descriptors a child gets.
#![forbid(unsafe_code)]

use std::os::fd::RawFd;

/// Where a child finds its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Layout {
    /// 6 to read, 7 to write
    Ucspi,
    /// 0 and 1, as inetd and UCSPI servers have it
    Inetd,
    /// 3, with LISTEN_FDS=1
    Systemd,
}

impl Layout {
    /// The numbers that are the connection.
    pub(crate) fn connection(self) -> &'static [RawFd] {
        match self {
            Layout::Ucspi => &[6, 7],
            Layout::Inetd => &[0, 1],
            Layout::Systemd => &[3],
        }
    }

    /// As `--layout` takes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Layout::Ucspi => "ucspi",
            Layout::Inetd => "inetd",
            Layout::Systemd => "systemd",
        }
    }

    /// In words, for the start line.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Layout::Ucspi => "connection on 6 and 7 (--inetd: 0 and 1)",
            Layout::Inetd => "connection on 0 and 1",
            Layout::Systemd => "connection on 3 (LISTEN_FDS)",
        }
    }
}

/// Where a program finds a listening socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum SocketLayout {
    /// 0
    Inetd,
    /// 3 and up, with LISTEN_FDS
    Systemd,
}

impl SocketLayout {
    /// The number of the first socket.
    pub(crate) fn first(self) -> RawFd {
        match self {
            SocketLayout::Inetd => 0,
            SocketLayout::Systemd => 3,
        }
    }

    /// As `--layout` takes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            SocketLayout::Inetd => "inetd",
            SocketLayout::Systemd => "systemd",
        }
    }

    /// In words, for the start line.
    pub(crate) fn words(self) -> &'static str {
        match self {
            SocketLayout::Inetd => "the socket itself on 0",
            SocketLayout::Systemd => "the socket itself on 3 and up (LISTEN_FDS)",
        }
    }
}

/// The child's end of the notification socketpair.
pub(crate) const NOTIFY: RawFd = 8;
/// The peer's pidfd.
pub(crate) const PIDFD: RawFd = 9;
/// Every number that some layout uses is below this.
pub(crate) const LAYOUTS_END: RawFd = 10;

/// The layout and what goes beside the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Channels {
    pub(crate) layout: Layout,
    pub(crate) notify: bool,
    pub(crate) pidfd: bool,
}

impl Channels {
    /// Whether a child finds something of doorward's on `number`.
    pub(crate) fn uses(self, number: RawFd) -> bool {
        self.layout.connection().contains(&number)
            || (self.notify && number == NOTIFY)
            || (self.pidfd && number == PIDFD)
    }
}

//! Descriptor 3, if it was passed to this process: the LISTEN_* protocol, for the one descriptor that a backend is given.
#![forbid(unsafe_code)]

use super::error::{Error, Unable as _};
use crate::sys;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// Whether descriptor 3 has an owner in this process already.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What a SEQPACKET socket must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Connected: messages come out of it.
    Channel,
    /// Listening: control connections come out of it.
    Listener,
}

/// The variables, as they stand in the environment.
struct Variables {
    fds: Option<OsString>,
    pid: Option<OsString>,
    pidfdid: Option<OsString>,
    names: Option<OsString>,
}

/// Takes descriptor 3, close-on-exec, if the environment gives it to this process and it is what `role` says. On any error it is left
/// alone, so that another role may be tried.
pub(super) fn take(role: Role) -> Result<OwnedFd, Error> {
    let var = |name| std::env::var_os(name);
    let variables = Variables {
        fds: var("LISTEN_FDS"),
        pid: var("LISTEN_PID"),
        pidfdid: var("LISTEN_PIDFDID"),
        names: var("LISTEN_FDNAMES"),
    };
    let inode = || Some(fstat(sys::fd::pidfd_of_self().ok()?).ok()?.st_ino);
    for_this_process(&variables, std::process::id(), inode)?;
    if role == Role::Channel && variables.names.as_deref() != Some(OsStr::new("handoff")) {
        return Err(Error::NotGiven("LISTEN_FDNAMES is not handoff"));
    }
    let look = sys::fd::inherited(FIRST).ok_or(Error::NotGiven("descriptor 3 is not open"))?;
    check(look, role)?;
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(Error::NotGiven("it was taken already"));
    }
    let taken =
        sys::fd::take_inherited(FIRST).ok_or(Error::NotGiven("descriptor 3 is not open"))?;
    fcntl(&taken, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unable("set close-on-exec")?;
    Ok(taken)
}

/// One descriptor, and meant for the process `pid`; `inode` is that of its pidfd.
fn for_this_process(
    variables: &Variables,
    pid: u32,
    inode: impl FnOnce() -> Option<u64>,
) -> Result<(), Error> {
    let is = |value: &Option<OsString>, expected: u64| {
        value.as_deref().and_then(decimal) == Some(expected)
    };
    if variables.fds.is_none() {
        return Err(Error::NotGiven("there is no LISTEN_FDS"));
    }
    if !is(&variables.pid, pid.into()) {
        return Err(Error::NotGiven("LISTEN_PID is not this process"));
    }
    if variables.pidfdid.is_some() && !inode().is_some_and(|inode| is(&variables.pidfdid, inode)) {
        return Err(Error::NotGiven("LISTEN_PIDFDID is not this process"));
    }
    if !is(&variables.fds, 1) {
        return Err(Error::NotGiven("LISTEN_FDS is not 1"));
    }
    Ok(())
}

/// Digits and nothing else.
fn decimal(text: &OsStr) -> Option<u64> {
    let text = text.to_str()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// A Unix SEQPACKET socket, listening or not as `role` has it.
pub(super) fn check(socket: BorrowedFd<'_>, role: Role) -> Result<(), Error> {
    let unix = sys::socket::domain(socket).ok() == Some(libc::AF_UNIX);
    let kind = getsockopt(&socket.as_fd(), sockopt::SockType).ok();
    if !unix || kind != Some(SockType::SeqPacket) {
        return Err(Error::WrongDescriptor("a Unix SEQPACKET socket"));
    }
    let listening = getsockopt(&socket, sockopt::AcceptConn).unable("ask whether it listens")?;
    match role {
        Role::Channel if listening => Err(Error::WrongDescriptor("a channel: it listens")),
        Role::Listener if !listening => Err(Error::WrongDescriptor("a listening socket")),
        Role::Channel | Role::Listener => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(fds: &str, pid: &str, pidfdid: Option<&str>) -> Variables {
        Variables {
            fds: Some(fds.into()),
            pid: Some(pid.into()),
            pidfdid: pidfdid.map(OsString::from),
            names: None,
        }
    }

    #[test]
    fn one_descriptor_for_this_very_process_is_taken_and_nothing_else() {
        let ours = |variables: &Variables| for_this_process(variables, 77, || Some(5)).is_ok();
        assert!(ours(&variables("1", "77", None)));
        assert!(ours(&variables("1", "77", Some("5"))));
        for (fds, pid, pidfdid) in [
            ("2", "77", None),
            ("0", "77", None),
            ("", "77", None),
            ("+1", "77", None),
            ("1", "78", None),
            ("1", "", None),
            ("1", " 77", None),
            ("1", "77", Some("6")),
            ("1", "77", Some("")),
        ] {
            assert!(!ours(&variables(fds, pid, pidfdid)), "{fds} {pid}");
        }
        let mut none = variables("1", "77", None);
        none.pid = None;
        assert!(!ours(&none));
    }

    #[test]
    fn a_channel_is_a_connected_seqpacket_socket() {
        use nix::sys::socket::{AddressFamily, SockFlag, socketpair};
        let pair = |kind| {
            socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
                .unwrap()
                .0
        };
        let packets = pair(SockType::SeqPacket);
        assert!(check(packets.as_fd(), Role::Channel).is_ok());
        assert!(check(packets.as_fd(), Role::Listener).is_err());
        for kind in [SockType::Stream, SockType::Datagram] {
            assert!(check(pair(kind).as_fd(), Role::Channel).is_err());
        }
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(check(null.as_fd(), Role::Channel).is_err());
        let internet = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(check(internet.as_fd(), Role::Channel).is_err());
    }
}

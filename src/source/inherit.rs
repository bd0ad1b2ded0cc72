//! Sockets that came through exec: LISTEN_FDS, or descriptor 0. Each is checked before it is believed.
#![forbid(unsafe_code)]

use super::{Address, Kinds, Listening, Type, Wanted, check_listening, is_to_be_served, node};
use crate::exit::{self, Unable as _};
use crate::report::Escaped;
use crate::sys;
use listenfd::ListenFd;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::socket::{UnixAddr, getsockname, getsockopt, sockopt};
use nix::sys::stat::{Mode, fstat, stat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The first descriptor of LISTEN_FDS.
pub(crate) const FIRST: RawFd = 3;

/// What the parent says of inherited sockets: the variables as they stood, and descriptor 0 if it is a listening socket.
#[derive(Debug, Default)]
pub(crate) struct Activation {
    pub(crate) fds: Option<OsString>,
    pub(crate) pid: Option<OsString>,
    pub(crate) pidfdid: Option<OsString>,
    pub(crate) names: Option<OsString>,
    pub(crate) stdin: Option<OwnedFd>,
}

/// Replaces those of 0, 1, 2 that are listening sockets by /dev/null (inetd puts its socket on all three) and gives the one of 0.
///
/// To be called before the first line is logged: the second value says whether 2 still is where log lines go.
pub(crate) fn take_standard(low: RawFd, kinds: Kinds) -> std::io::Result<(Option<OwnedFd>, bool)> {
    let mut stdin = None;
    let mut stderr_is_ours = true;
    for number in 0..=2 {
        let Some(standard) = sys::fd::standard(number) else {
            continue;
        };
        if !is_to_be_served(standard, kinds) {
            continue;
        }
        if number == 0 {
            stdin = Some(sys::fd::copy_above(standard, low)?);
        }
        stderr_is_ours &= number != 2;
        sys::fd::replace_standard(crate::report::open_null()?.as_fd(), number)?;
    }
    Ok((stdin, stderr_is_ours))
}

/// The inherited sockets, or none with the reason why a LISTEN_FDS was not taken (for the message, with its leading blank).
///
/// # Errors
/// Exit code 100: what was inherited is not what the environment or the command line says. 111: `--mode` or `--owner` failed.
pub(super) fn take(
    wanted: &Wanted,
    activation: Activation,
) -> exit::Result<(Option<Vec<Listening>>, String)> {
    let (sockets, why_not) = match meant_for_us(&activation) {
        Ok(count) => (
            Some(from_environment(wanted, &activation, count)?),
            String::new(),
        ),
        Err(why_not) => (
            from_stdin(wanted, activation.stdin)?.map(|socket| vec![socket]),
            why_not,
        ),
    };
    let Some(sockets) = sockets else {
        return Ok((None, why_not));
    };
    let sockets = if wanted.binds.is_empty() {
        sockets
    } else {
        match_with_binds(wanted, sockets)?
    };
    sockets
        .into_iter()
        .map(|socket| set_access(wanted, socket))
        .collect::<exit::Result<Vec<_>>>()
        .map(|sockets| (Some(sockets), why_not))
}

/// Whether LISTEN_FDS is there and meant for this very process; the error is the reason why not.
pub(crate) fn meant_for_us(activation: &Activation) -> Result<&OsStr, String> {
    let Some(count) = &activation.fds else {
        return Err(String::new());
    };
    let shown = Escaped(count.as_bytes());
    let Some(pid) = &activation.pid else {
        return Err(format!(
            " (LISTEN_FDS={shown} was not taken: there is no LISTEN_PID)"
        ));
    };
    let own = std::process::id();
    if decimal(pid) != Some(u64::from(own)) {
        return Err(format!(
            " (LISTEN_FDS={shown} was not taken: LISTEN_PID={} is not our pid {own})",
            Escaped(pid.as_bytes())
        ));
    }
    if let Some(id) = &activation.pidfdid {
        let ours = sys::fd::pidfd_of_self()
            .and_then(|pidfd| Ok(fstat(&pidfd)?.st_ino))
            .ok();
        if ours.is_none() || decimal(id) != ours {
            return Err(format!(
                " (LISTEN_FDS={shown} was not taken: LISTEN_PIDFDID={} is not ours)",
                Escaped(id.as_bytes())
            ));
        }
    }
    Ok(count)
}

/// Digits and nothing else: no sign, no blank, no empty text.
pub(crate) fn decimal(text: &OsStr) -> Option<u64> {
    let text = text.to_str()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        None
    } else {
        text.parse().ok()
    }
}

fn from_environment(
    wanted: &Wanted,
    activation: &Activation,
    count: &OsStr,
) -> exit::Result<Vec<Listening>> {
    let shown = Escaped(count.as_bytes());
    let number = decimal(count).filter(|&number| number > 0);
    let Some(number) = number.and_then(|number| RawFd::try_from(number).ok()) else {
        return Err(exit::wrong_use(format!(
            "LISTEN_FDS={shown} is not a count of descriptors"
        )));
    };
    // Ends at the first closed one, so a huge count costs nothing.
    if let Some(closed) =
        (FIRST..=FIRST.saturating_add(number - 1)).find(|&fd| !sys::fd::is_open(fd))
    {
        return Err(exit::wrong_use(format!(
            "LISTEN_FDS={shown}, but descriptor {closed} is not open"
        )));
    }
    let names = names(activation, number)?;
    // The crate finds its count in the environment and nothing else of the protocol, which was checked above.
    sys::env::put("LISTEN_FDS", count);
    let mut fds = ListenFd::from_env();
    let mut sockets = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let fd = FIRST.saturating_add(RawFd::try_from(index).unwrap_or(RawFd::MAX));
        if !wanted.names.is_empty() && !wanted.names.contains(name) {
            close_listening(fd);
            continue;
        }
        let what = format!(
            "descriptor {fd} (inherited through LISTEN_FDS, name {})",
            Escaped(name.as_bytes())
        );
        let kind = match sys::fd::inherited(fd) {
            Some(socket) => of_wanted_type(socket, wanted, &what)?,
            None => return Err(exit::wrong_use(format!("{what} is not open"))),
        };
        let taken: Option<OwnedFd> = fds
            .take_custom(
                index,
                libc::AF_UNIX,
                kind.of() as libc::c_int,
                "Unix socket to be served",
            )
            .unable(format!("take {what}"))?;
        let Some(taken) = taken else {
            return Err(exit::wrong_use(format!("{what} cannot be taken")));
        };
        let name = activation.names.is_some().then(|| name.clone());
        sockets.push(listening(taken, kind, name, wanted.low)?);
    }
    if sockets.is_empty() {
        return Err(exit::wrong_use(format!(
            "--name {} picks nothing: the names in LISTEN_FDNAMES are {}",
            wanted.names.join(" --name "),
            Escaped(names.join(":").as_bytes())
        )));
    }
    Ok(sockets)
}

/// Closes a listening socket that was inherited and is not served: its clients would hang here when its manager has closed it. Other
/// descriptors stay for `--keep-fd`.
fn close_listening(fd: RawFd) {
    let listening = sys::fd::inherited(fd)
        .is_some_and(|socket| getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false));
    if listening {
        drop(sys::fd::take_inherited(fd));
    }
}

fn names(activation: &Activation, count: RawFd) -> exit::Result<Vec<String>> {
    let count = usize::try_from(count).unwrap_or(0);
    let Some(text) = &activation.names else {
        return Ok(vec!["unknown".to_owned(); count]);
    };
    let names: Vec<String> = text
        .as_bytes()
        .split(|&byte| byte == b':')
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    if names.len() != count {
        return Err(exit::wrong_use(format!(
            "LISTEN_FDNAMES has {} names for LISTEN_FDS={count}",
            names.len()
        )));
    }
    Ok(names)
}

fn from_stdin(wanted: &Wanted, stdin: Option<OwnedFd>) -> exit::Result<Option<Listening>> {
    let Some(stdin) = stdin else { return Ok(None) };
    let family = sys::socket::domain(stdin.as_fd()).unwrap_or(0);
    if family != libc::AF_UNIX && !wanted.binds.is_empty() {
        return Ok(None);
    }
    if !wanted.names.is_empty() {
        return Err(exit::wrong_use(format!(
            "--name {} picks nothing: descriptor 0 has no name",
            wanted.names.join(" --name ")
        )));
    }
    let kind = of_wanted_type(stdin.as_fd(), wanted, "descriptor 0")?;
    listening(stdin, kind, None, wanted.low).map(Some)
}

fn of_wanted_type(socket: BorrowedFd<'_>, wanted: &Wanted, what: &str) -> exit::Result<Type> {
    let kind = check_listening(socket, wanted.kinds)
        .map_err(|is| exit::wrong_use(format!("{what} {is}")))?;
    match wanted.kind {
        Some(other) if other != kind => Err(exit::wrong_use(format!(
            "{what} is a {kind} socket, but --type {other} was given"
        ))),
        _ => Ok(kind),
    }
}

fn listening(
    socket: OwnedFd,
    kind: Type,
    name: Option<String>,
    low: RawFd,
) -> exit::Result<Listening> {
    let socket = sys::fd::lift(socket, low).unable("move an inherited descriptor")?;
    let address = getsockname::<UnixAddr>(socket.as_raw_fd())
        .unable("ask an inherited socket for its name")?;
    let address = Address::from_kernel(&address);
    let by_name = || match &address {
        // Where a relative path began is not known.
        Address::Path(path) if path.is_absolute() => node_of(socket.as_fd(), path, &address).ok(),
        _ => None,
    };
    let access = sys::socket::bound_node(socket.as_fd())
        .ok()
        .or_else(by_name)
        .and_then(|node| fstat(&node).ok())
        .map(|stat| node::Access::of(&stat));
    Ok(Listening {
        socket,
        kind,
        name,
        address,
        access,
        own: None,
    })
}

/// Never serve what the command line did not name: each inherited socket is one of `--bind`, and each `--bind` is inherited.
fn match_with_binds(wanted: &Wanted, sockets: Vec<Listening>) -> exit::Result<Vec<Listening>> {
    let mut open: Vec<&Address> = wanted.binds.iter().collect();
    let mut matched = Vec::new();
    for mut socket in sockets {
        let Some(position) = open
            .iter()
            .position(|bind| same_place(bind, &socket.address))
        else {
            let binds: Vec<String> = wanted.binds.iter().map(ToString::to_string).collect();
            return Err(exit::wrong_use(format!(
                "the inherited socket {} is not among --bind {}",
                socket.address,
                binds.join(" --bind ")
            )));
        };
        // The user's own words for it, for IPCLOCALPATH.
        socket.address = open.remove(position).clone();
        matched.push(socket);
    }
    match open.first() {
        None => Ok(matched),
        Some(missing) => {
            let inherited: Vec<String> = matched
                .iter()
                .map(|socket| socket.address.to_string())
                .collect();
            Err(exit::wrong_use(format!(
                "--bind {missing} is not among the inherited sockets: {}",
                inherited.join(", ")
            )))
        }
    }
}

/// Paths are compared by the directory's device and inode and the last name, not as text.
fn same_place(one: &Address, other: &Address) -> bool {
    let (Address::Path(one), Address::Path(other)) = (one, other) else {
        return one == other && *one != Address::Unnamed;
    };
    let ((one_parent, one_name), (other_parent, other_name)) =
        (Address::split(one), Address::split(other));
    let identity = |directory: &Path| stat(directory).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    one_name == other_name
        && identity(one_parent).is_some_and(|id| identity(other_parent) == Some(id))
}

/// The node that an inherited socket is bound to.
fn node_of(socket: BorrowedFd<'_>, path: &Path, address: &Address) -> exit::Result<OwnedFd> {
    // Needs no directory, and holds when that was renamed.
    if let Ok(node) = sys::socket::bound_node(socket) {
        return Ok(node);
    }
    let (parent, name) = Address::split(path);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory =
        open(parent, flags, Mode::empty()).unable(format!("open the directory of {address}"))?;
    node::find(socket, directory.as_fd(), name, address)
}

/// `--mode` and `--owner` act on an inherited socket's node only if they were given.
fn set_access(wanted: &Wanted, mut socket: Listening) -> exit::Result<Listening> {
    if wanted.mode.is_none() && wanted.owner.is_none() {
        return Ok(socket);
    }
    let Address::Path(path) = &socket.address else {
        return Err(exit::wrong_use(format!(
            "--mode and --owner need a path, but the inherited socket is {}",
            socket.address
        )));
    };
    let node = node_of(socket.socket.as_fd(), path, &socket.address)?;
    socket.access = Some(node::set(
        &node,
        wanted.owner,
        wanted.mode,
        &socket.address,
    )?);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_digits_alone() {
        for text in ["", "+1", "-1", " 1", "1 ", "0x1", "99999999999999999999999"] {
            assert_eq!(decimal(OsStr::new(text)), None, "{text:?}");
        }
        assert_eq!(decimal(OsStr::new("12")), Some(12));
    }

    #[test]
    fn another_spelling_of_a_directory_is_the_same_place() {
        let path = |text: &str| Address::Path(text.into());
        assert!(same_place(&path("/proc/self/../../tmp/x"), &path("/tmp/x")));
        assert!(!same_place(&path("/tmp/x"), &path("/tmp/y")));
        assert!(!same_place(
            &path("/nowhere-at-all/x"),
            &path("/nowhere-at-all/x")
        ));
        assert!(same_place(
            &Address::Abstract(b"a".to_vec()),
            &Address::Abstract(b"a".to_vec())
        ));
    }
}

//! Owner and mode of the node that a socket is bound to: changed on the node itself, never by its name.
#![forbid(unsafe_code)]

use super::{Address, Owner};
use crate::exit::{self, Unable as _};
use crate::sys;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstat};
use nix::unistd::{Gid, Uid, fchownat, geteuid};
use std::fmt::{self, Display};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// Who may connect, by the node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Access {
    pub(super) fn of(stat: &FileStat) -> Access {
        Access {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }
}

impl Display for Access {
    /// `mode 0600: only root may connect`. To connect is to write: only the w bits count.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "mode {:04o}: ", self.mode)?;
        if self.mode & 0o222 == 0o222 {
            return formatter.write_str("everybody may connect");
        }
        let name = |id: u32| {
            if id == 0 {
                "root".to_owned()
            } else {
                id.to_string()
            }
        };
        let mut who = Vec::new();
        if self.mode & 0o200 != 0 && self.uid != 0 {
            who.push(format!("user {}", name(self.uid)));
        }
        if self.mode & 0o020 != 0 {
            who.push(format!("group {}", name(self.gid)));
        }
        if self.mode & 0o002 != 0 {
            who.push("everybody else".to_owned());
        }
        match who.len() {
            // Root passes every mode.
            0 => formatter.write_str("only root may connect"),
            _ => write!(formatter, "root and {} may connect", who.join(" and ")),
        }
    }
}

/// Finds the node behind a bound socket: the kernel's word (it holds after a rename too), else by `name` in `directory`.
///
/// The second way, for processes without CAP_NET_ADMIN, takes only what can be the right node: a socket of root's or ours with one link.
pub(super) fn find(
    socket: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &std::ffi::OsStr,
    address: &Address,
) -> exit::Result<OwnedFd> {
    if let Ok(node) = sys::socket::bound_node(socket) {
        return Ok(node);
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let node = openat(directory, name, flags, Mode::empty())
        .unable(format!("find the node of {address}"))?;
    let stat = fstat(&node).unable(format!("look at the node of {address}"))?;
    let ours = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    if stat.st_mode & libc::S_IFMT != libc::S_IFSOCK || !ours || stat.st_nlink != 1 {
        return Err(exit::system(format!(
            "unable to find the node of {address}: what stands there is no socket of root's or ours with one link"
        )));
    }
    Ok(node)
}

/// Sets owner, then mode (chown may clear mode bits), and gives what then holds.
pub(super) fn set(
    node: &OwnedFd,
    owner: Option<Owner>,
    mode: Option<u32>,
    address: &Address,
) -> exit::Result<Access> {
    if let Some(owner) = owner {
        let (uid, gid) = (Some(Uid::from_raw(owner.uid)), owner.gid.map(Gid::from_raw));
        fchownat(node.as_fd(), "", uid, gid, AtFlags::AT_EMPTY_PATH)
            .unable(format!("set the owner of {address}"))?;
    }
    if let Some(mode) = mode {
        set_mode(node, Mode::from_bits_truncate(mode))
            .unable(format!("set the mode of {address}"))?;
    }
    let stat = fstat(node).unable(format!("look at {address}"))?;
    Ok(Access::of(&stat))
}

/// Sets the mode of a node behind an O_PATH descriptor, which takes no fchmod; its entry in /proc leads to the very same node.
pub(super) fn set_mode(node: &OwnedFd, mode: Mode) -> Result<(), nix::Error> {
    let entry = format!("/proc/self/fd/{}", node.as_raw_fd());
    fchmodat(
        nix::fcntl::AT_FDCWD,
        entry.as_str(),
        mode,
        FchmodatFlags::FollowSymlink,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_told_in_words() {
        let text = |mode, uid, gid| Access { mode, uid, gid }.to_string();
        assert_eq!(text(0o600, 0, 0), "mode 0600: only root may connect");
        assert_eq!(
            text(0o420, 0, 27),
            "mode 0420: root and group 27 may connect"
        );
        assert_eq!(
            text(0o660, 5, 27),
            "mode 0660: root and user 5 and group 27 may connect"
        );
        assert_eq!(text(0o666, 5, 27), "mode 0666: everybody may connect");
        assert_eq!(text(0o444, 5, 27), "mode 0444: only root may connect");
    }
}

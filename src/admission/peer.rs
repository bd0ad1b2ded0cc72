//! The peer: what the kernel says of the process at the other end. Never the environment's word, nor the peer's.
#![forbid(unsafe_code)]

use super::Asker;
use crate::report::OrDash;
use crate::sys;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::read;
use std::fmt::{self, Display};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// A user as the limits count it; all unmapped ones are one.
pub(crate) type User = Option<u32>;

/// The user namespace that the system booted with: its number is the same on every Linux, and no other has it.
const FIRST_NAMESPACE: &str = "user:[4026531837]";

/// Where the ids are that stand for whom a user namespace does not map.
const OVERFLOW_UID: &str = "/proc/sys/kernel/overflowuid";
const OVERFLOW_GID: &str = "/proc/sys/kernel/overflowgid";

/// Which ids of this user namespace stand for nobody in particular.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mapping {
    unmapped_uid: Option<u32>,
    unmapped_gid: Option<u32>,
}

impl Mapping {
    /// Reads /proc/self/uid_map and gid_map: where they do not map everything, the overflow id is everybody else's.
    pub(crate) fn read() -> Mapping {
        // The first user namespace maps everything. One call tells it, where two files take six.
        if std::fs::read_link("/proc/self/ns/user").is_ok_and(|to| to == Path::new(FIRST_NAMESPACE))
        {
            return Mapping::default();
        }
        let unmapped = |map: &str, overflow: &str| {
            if std::fs::read_to_string(map).is_ok_and(|text| maps_everything(&text)) {
                return None;
            }
            Some(number_in(overflow).unwrap_or(65534))
        };
        Mapping {
            unmapped_uid: unmapped("/proc/self/uid_map", OVERFLOW_UID),
            unmapped_gid: unmapped("/proc/self/gid_map", OVERFLOW_GID),
        }
    }
}

/// The number that a file of /proc/sys holds.
fn number_in(path: &str) -> Option<u32> {
    // 4294967295 and a newline have 11 bytes.
    let mut text = [0; 16];
    let file = open(path, OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let length = read(&file, &mut text).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    text.trim_ascii_end().parse().ok()
}

fn maps_everything(map: &str) -> bool {
    map.lines()
        .any(|line| line.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

/// The credentials of one connection's client, as they were when it connected.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Effective uid; `None`: unmapped.
    pub(crate) uid: User,
    /// Effective gid; `None`: unmapped.
    pub(crate) gid: Option<u32>,
    /// `None`: in a pid namespace that is not ours.
    pub(crate) pid: Option<i32>,
    /// Supplementary groups, the unmapped ones left out.
    pub(crate) groups: Vec<u32>,
}

impl Peer {
    /// Asks the kernel about `connection`; the memory of the groups is used again.
    ///
    /// # Errors
    /// The system's; the peer is then nobody, and must be refused.
    pub(crate) fn identify(
        &mut self,
        connection: BorrowedFd<'_>,
        mapping: &Mapping,
    ) -> std::io::Result<()> {
        let credentials = getsockopt(&connection, sockopt::PeerCredentials)?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        // (uid_t)-1 is what a socket without credentials has.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(std::io::Error::from_raw_os_error(nix::libc::ENODATA));
        }
        sys::peer::groups(connection, &mut self.groups)?;
        self.groups
            .retain(|group| Some(*group) != mapping.unmapped_gid);
        self.uid = Some(uid).filter(|_| mapping.unmapped_uid != Some(uid));
        self.gid = Some(gid).filter(|_| mapping.unmapped_gid != Some(gid));
        self.pid = Some(credentials.pid()).filter(|pid| *pid > 0);
        Ok(())
    }

    /// The same in a process that asks once. The map is read only where it has a say: the kernel makes a process's own part of /proc anew for
    /// each, and that cost a link of a chain a fiftieth of its life, while the overflow ids are the whole system's and at hand.
    pub(crate) fn identify_once(&mut self, connection: BorrowedFd<'_>) -> std::io::Result<()> {
        self.identify(connection, &Mapping::default())?;
        if self.may_be_unmapped() {
            self.identify(connection, &Mapping::read())?;
        }
        Ok(())
    }

    /// Whether one of the ids is the overflow id, or that is not to be found out.
    fn may_be_unmapped(&self) -> bool {
        let (Some(uid), Some(gid)) = (number_in(OVERFLOW_UID), number_in(OVERFLOW_GID)) else {
            return true;
        };
        self.uid == Some(uid) || self.gid == Some(gid) || self.groups.contains(&gid)
    }

    /// As the rules see it.
    pub(crate) fn asker(&self) -> Asker {
        Asker {
            uid: self.uid,
            gid: self.gid,
        }
    }

    /// Forgets the last one, so that a failed [`Peer::identify`] leaves nobody behind.
    pub(crate) fn forget(&mut self) {
        (self.uid, self.gid, self.pid) = (None, None, None);
        self.groups.clear();
    }
}

/// `user=1000 group=1000 pid=4242`, the words of every line about a connection.
impl Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} group={} pid={}",
            UserIs(self.uid),
            OrUnmapped(self.gid),
            OrDash(self.pid)
        )
    }
}

/// `user=1000`.
pub(crate) struct UserIs(pub(crate) User);

impl Display for UserIs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "user={}", OrUnmapped(self.0))
    }
}

struct OrUnmapped(Option<u32>);

impl Display for OrUnmapped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => id.fmt(formatter),
            None => formatter.write_str("unmapped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_identity_map_maps_everything() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0       1000          1\n"));
        assert!(!maps_everything("         0          0      65536\n"));
        assert!(!maps_everything(""));
    }

    #[test]
    fn who_has_an_overflow_id_may_be_unmapped_and_nobody_else() {
        let overflow = (number_in(OVERFLOW_UID), number_in(OVERFLOW_GID));
        let (Some(uid), Some(gid)) = overflow else {
            panic!("no overflow ids: {overflow:?}")
        };
        let may_be = |is_uid, is_gid, groups: &[u32]| {
            let peer = Peer {
                uid: Some(if is_uid { uid } else { uid - 1 }),
                gid: Some(if is_gid { gid } else { gid - 1 }),
                pid: None,
                groups: groups.to_vec(),
            };
            peer.may_be_unmapped()
        };
        assert!(!may_be(false, false, &[0, gid + 1]));
        assert!(may_be(true, false, &[]));
        assert!(may_be(false, true, &[]));
        assert!(may_be(false, false, &[0, gid]));
        assert_eq!(number_in("/nowhere"), None);
        assert_eq!(number_in("/proc/sys/kernel/ostype"), None);
    }

    #[test]
    fn an_unknown_pid_is_a_dash_and_an_unmapped_user_is_named_so() {
        let peer = Peer {
            uid: None,
            gid: Some(5),
            pid: None,
            groups: vec![],
        };
        assert_eq!(peer.to_string(), "user=unmapped group=5 pid=-");
    }
}

//! Who a client connects as.

use std::sync::atomic::{AtomicU32, Ordering};

/// Ids that need not be known to the system: the kernel reports them as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Real, effective and saved uid.
    pub uid: u32,
    /// Real, effective and saved gid.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl User {
    /// A user without supplementary groups.
    pub fn new(uid: u32, gid: u32) -> User {
        User {
            uid,
            gid,
            groups: Vec::new(),
        }
    }

    /// The same with supplementary groups.
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> User {
        self.groups = groups.into_iter().collect();
        self
    }

    /// `nobody:nogroup` of Debian.
    pub fn nobody() -> User {
        User::new(65534, 65534)
    }

    /// A user that no other test has, on this machine or in this process: the kernel counts some things by user.
    pub fn unique() -> User {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = 1_000_000 + std::process::id() * 64 + COUNT.fetch_add(1, Ordering::Relaxed);
        User::new(id, id)
    }

    /// Who runs the tests.
    pub fn me() -> User {
        User::new(
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        )
    }
}

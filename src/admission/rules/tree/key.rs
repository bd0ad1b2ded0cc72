//! One key of the tree, such as uid/1000: is there an `allow` or a `deny`, and what does an `allow` give.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::AccessFlags;

use super::memory::Seen;
use super::place::{Place, Site};
use super::root::Root;
use super::{Trouble, envdir, text};
use crate::admission::rules::Record;
use crate::admission::trust::{Fault, Trust};

/// To look up names in a directory, and nothing else.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// One reading of the tree, for one peer.
pub(super) struct Scan<'a> {
    site: Site<'a>,
    uid: Option<Branch>,
    gid: Option<Branch>,
}

/// `uid` or `gid` below the root, looked at once a reading.
enum Branch {
    Absent,
    /// A directory of the root's own: its keys are reached by their path from the root.
    Plain,
    /// A link to this directory.
    Linked(OwnedFd),
}

impl<'a> Scan<'a> {
    pub(super) fn new(trust: Trust, root: &'a Root, seen: Option<&'a Seen>) -> Scan<'a> {
        Scan {
            site: Site {
                seen,
                ..root.site(trust)
            },
            uid: None,
            gid: None,
        }
    }

    /// May our effective ids list and search `uid` and `gid`, where they are, and are they to be trusted?
    pub(super) fn check_readable(&self) -> Result<(), Fault> {
        for name in [b"uid", b"gid"] {
            if !matches!(branch(self.site, name)?, Branch::Absent) {
                let readable = self
                    .site
                    .check_access(name, AccessFlags::R_OK | AccessFlags::X_OK);
                readable.map_err(|errno| Fault::system(self.site.path_of(name), errno))?;
            }
        }
        Ok(())
    }

    /// What `key` holds; `None` if it is not there or has neither `allow` nor `deny`.
    pub(super) fn ask(&mut self, key: &str) -> Result<Option<Record>, Trouble> {
        let Some((branch_name, leaf)) = key.split_once('/') else {
            return Ok(None);
        };
        let seen = if branch_name == "uid" {
            &mut self.uid
        } else {
            &mut self.gid
        };
        let known = match seen.take() {
            Some(known) => known,
            None => branch(self.site, branch_name.as_bytes())?,
        };
        seen.insert(known)
            .record(self.site, branch_name.as_bytes(), leaf.as_bytes())
    }
}

/// What `key` holds, whatever its name; asked once, where a [`Scan`] asks for several.
pub(super) fn record(site: Site<'_>, key: &[u8]) -> Result<Option<Record>, Trouble> {
    let mut parts = key.splitn(2, |&byte| byte == b'/');
    match (parts.next(), parts.next()) {
        (Some(name), Some(leaf)) => branch(site, name)?.record(site, name, leaf),
        _ => Ok(None),
    }
}

impl Branch {
    /// What the key `leaf` holds in this branch, which stands at `name` in `site`.
    fn record(&self, site: Site<'_>, name: &[u8], leaf: &[u8]) -> Result<Option<Record>, Trouble> {
        match self {
            Branch::Absent => Ok(None),
            Branch::Plain => record_at(site, &[name, b"/", leaf].concat()),
            Branch::Linked(dir) => {
                let path = site.path_of(name);
                let site = Site {
                    dir: dir.as_fd(),
                    path: &path,
                    ..site
                };
                record_at(site, leaf)
            }
        }
    }
}

fn branch(site: Site<'_>, name: &[u8]) -> Result<Branch, Fault> {
    let Some(place) = site.find(name)? else {
        return Ok(Branch::Absent);
    };
    place.check_is_directory()?;
    if place.is_linked() {
        Ok(Branch::Linked(place.open(DIRECTORY)?))
    } else {
        Ok(Branch::Plain)
    }
}

/// What the key holds that is found at `path` in `site`.
fn record_at(site: Site<'_>, path: &[u8]) -> Result<Option<Record>, Trouble> {
    let Some(place) = site.find(path)? else {
        return Ok(None);
    };
    place.check_is_directory()?;
    let dir = place.open(DIRECTORY)?;
    // The path that the rule was asked by, not the one that a link led to.
    let shown = site.path_of(path);
    let key = Key {
        place: &place,
        site: Site {
            dir: dir.as_fd(),
            path: &shown,
            ..site
        },
    };
    key.record()
}

/// The directory of a key, trusted and open.
struct Key<'a> {
    place: &'a Place<'a>,
    site: Site<'a>,
}

impl Key<'_> {
    fn record(&self) -> Result<Option<Record>, Trouble> {
        if self.stands(b"allow")? {
            // A grant must not lack what was being removed, nor what was being put there.
            let grant = self.grant();
            self.check_unchanged()?;
            return grant.map(Some);
        }
        if self.stands(b"deny")? {
            return Ok(Some(Record::Deny));
        }
        // `deny` may have become `allow` between the two looks: never pass over such a key.
        self.check_unchanged()?;
        Ok(None)
    }

    /// Does `name` stand here, to be trusted and readable to us? Its type and contents say nothing.
    fn stands(&self, name: &[u8]) -> Result<bool, Trouble> {
        if self.site.find(name)?.is_none() {
            return Ok(false);
        }
        let readable = self.site.check_access(name, AccessFlags::R_OK);
        match readable.map_err(|errno| Fault::system(self.site.path_of(name), errno)) {
            Ok(()) => Ok(true),
            Err(fault) if fault.is_absence() => Err(Trouble::Changed),
            Err(fault) => Err(fault.into()),
        }
    }

    fn grant(&self) -> Result<Record, Trouble> {
        let env = envdir::read(self.site)?.unwrap_or_default();
        let exec = text::read(self.site, b"exec")?.unwrap_or_default();
        Ok(Record::Allow { env, exec })
    }

    fn check_unchanged(&self) -> Result<(), Trouble> {
        if self.place.is_unchanged_as(self.site.dir)? {
            Ok(())
        } else {
            Err(Trouble::Changed)
        }
    }
}

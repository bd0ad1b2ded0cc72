//! One key of the tree, such as uid/1000: is there an `allow` or a `deny`, and what does an `allow` give.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::AccessFlags;

use super::super::trust::{Fault, Trust};
use super::place::{Place, Site};
use super::root::Root;
use super::{Answer, Grant, Trouble, envdir, text};

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
    pub(super) fn new(trust: Trust, root: &'a Root) -> Scan<'a> {
        Scan {
            site: root.site(trust),
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

    /// What `key` answers; `None` if it is not there or has neither `allow` nor `deny`.
    pub(super) fn ask(&mut self, key: &str) -> Result<Option<Answer>, Trouble> {
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
        match seen.insert(known) {
            Branch::Absent => Ok(None),
            Branch::Plain => answer(self.site, key.as_bytes(), key),
            Branch::Linked(dir) => {
                let path = self.site.path_of(branch_name.as_bytes());
                let site = Site {
                    trust: self.site.trust,
                    dir: dir.as_fd(),
                    path: &path,
                };
                answer(site, leaf.as_bytes(), key)
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

/// What the key answers that is found at `path` in `site`.
fn answer(site: Site<'_>, path: &[u8], name: &str) -> Result<Option<Answer>, Trouble> {
    let Some(place) = site.find(path)? else {
        return Ok(None);
    };
    place.check_is_directory()?;
    let dir = place.open(DIRECTORY)?;
    // The path that the rule was asked by, not the one that a link led to.
    let shown = site.path_of(path);
    let key = Key {
        name,
        place: &place,
        site: Site {
            trust: site.trust,
            dir: dir.as_fd(),
            path: &shown,
        },
    };
    key.answer()
}

/// The directory of a key, trusted and open.
struct Key<'a> {
    name: &'a str,
    place: &'a Place<'a>,
    site: Site<'a>,
}

impl Key<'_> {
    fn answer(&self) -> Result<Option<Answer>, Trouble> {
        if self.stands(b"allow")? {
            // A grant must not lack what was being removed, nor what was being put there.
            let grant = self.grant();
            self.check_unchanged()?;
            return Ok(Some(Answer::Allow(grant?)));
        }
        if self.stands(b"deny")? {
            return Ok(Some(Answer::Deny(self.name.to_owned())));
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

    fn grant(&self) -> Result<Grant, Trouble> {
        let env = envdir::read(self.site)?.unwrap_or_default();
        let exec = text::read(self.site, b"exec")?.and_then(program);
        Ok(Grant {
            key: self.name.to_owned(),
            env,
            exec,
        })
    }

    fn check_unchanged(&self) -> Result<(), Trouble> {
        if self.place.is_unchanged_as(self.site.dir)? {
            Ok(())
        } else {
            Err(Trouble::Changed)
        }
    }
}

/// The text to run: up to its first zero byte, as an argument of execlineb. An empty file is none at all.
fn program(mut text: Vec<u8>) -> Option<Vec<u8>> {
    if text.is_empty() {
        return None;
    }
    if let Some(end) = text.iter().position(|&byte| byte == 0) {
        text.truncate(end);
    }
    Some(text)
}

//! All keys of a tree, for making a database of it.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::place::Site;
use crate::admission::trust::{Fault, uninterrupted};

/// `A/B` for every entry B of every directory A, sorted. Hidden names are skipped at both levels, and so is a link that
/// leads nowhere. What B is, its reading tells.
pub(super) fn keys(root: Site<'_>) -> Result<Vec<Vec<u8>>, Fault> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = uninterrupted(|| openat(root.dir, b".".as_slice(), flags, Mode::empty()));
    let own = own.map_err(|errno| Fault::system(root.path, errno))?;
    let mut keys = Vec::new();
    for branch in names(own, root.path)? {
        let Some(place) = root.find(&branch)? else {
            continue;
        };
        place.check_is_directory()?;
        let path = root.path_of(&branch);
        for leaf in names(place.open(OFlag::O_DIRECTORY)?, &path)? {
            keys.push([&*branch, b"/", &*leaf].concat());
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

fn names(dir: OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let failed = |errno: Errno| Fault::system(path, errno);
    let mut names = Vec::new();
    for entry in Dir::from_fd(dir).map_err(failed)?.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

//! The small files of a key, `exec` and those in `env`: read whole, or not at all.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::read as read_some;

use super::place::{Place, Site};
use crate::admission::trust::{Fault, kind, uninterrupted};

/// How long such a file may be, in bytes.
const MAX_TEXT: usize = 4095;

/// Reads `name`, following links. `None`: it is not there.
/// # Errors
/// Others can write it or replace it, it is no regular file, longer than 4,095 bytes, or cannot be read.
pub(super) fn read(site: Site<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let Some(place) = site.find(name)? else {
        return Ok(None);
    };
    let check_type = |stat| match kind(stat) {
        SFlag::S_IFREG => Ok(()),
        _ => Err(Fault::unfit(place.path.as_slice(), "is no regular file")),
    };
    // Before it is open, since an open alone can do things to a device; and after, since only then it is certain
    // what is open (a FIFO does not hold up one that does not block).
    check_type(&place.stat)?;
    let fd = place.open(OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    let stat = uninterrupted(|| fstat(&fd)).map_err(|errno| place.failed(errno))?;
    site.trust.check(&stat, || place.path.clone())?;
    check_type(&stat)?;
    contents(&place, &fd).map(Some)
}

/// On its own, because its buffer is a page of the stack, and most keys have no such file.
#[inline(never)]
fn contents(place: &Place<'_>, fd: &OwnedFd) -> Result<Vec<u8>, Fault> {
    // One byte more than is allowed, to see that there is more.
    let mut buffer = [0; MAX_TEXT + 1];
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match uninterrupted(|| read_some(fd, rest)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(errno) => return Err(place.failed(errno)),
        }
    }
    match buffer.get(..filled) {
        Some(text) if filled <= MAX_TEXT => Ok(text.to_vec()),
        _ => Err(Fault::unfit(
            place.path.as_slice(),
            format!("is longer than {MAX_TEXT} bytes"),
        )),
    }
}

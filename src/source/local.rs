//! The name of a client's own socket: what the server is told in IPCREMOTEPATH.
#![forbid(unsafe_code)]

use super::bind::Place;
use super::{Address, lock, stale};
use crate::exit::{self, Unable as _};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{UnixAddr, bind};
use nix::sys::stat::{Mode, fchmod};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

/// The node of a client's name. Dropped, it goes; a process that becomes another program leaves it.
#[derive(Debug)]
pub(crate) struct Local {
    _place: Place,
}

/// Binds `socket`, which is not connected yet. A node that a dead process has left is replaced; a live one and anything else are not.
/// An abstract name has no node.
///
/// # Errors
/// Exit code 111.
pub(crate) fn bind_client(
    socket: BorrowedFd<'_>,
    address: &Address,
) -> exit::Result<Option<Local>> {
    let unable = || format!("bind to {address}");
    let (path, reach) = match address {
        Address::Path(path) => (path, Address::short(path).ok_or(Errno::ENAMETOOLONG)),
        Address::Abstract(name) => {
            let name = UnixAddr::new_abstract(name).unable(unable())?;
            bind(socket.as_raw_fd(), &name).unable(unable())?;
            return Ok(None);
        }
        Address::Unnamed => return Err(Errno::EINVAL).unable(unable()),
    };
    let reach = reach.unable(unable())?;
    // The node is created with the mode of the socket's own inode, less the umask: it is a name, for nobody to connect to.
    fchmod(socket, Mode::S_IRUSR | Mode::S_IWUSR).unable("set the mode of a socket")?;
    let (parent, name) = Address::split(path);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(parent, flags, Mode::empty()).unable(unable())?;
    match bind(socket.as_raw_fd(), &reach) {
        // Only now is a lock needed (and its file): what is there may have to be removed, by one at a time.
        Err(Errno::EADDRINUSE) => {
            let _lock = lock::take(directory.as_fd(), name, address, 0)?;
            stale::clear(directory.as_fd(), name, &reach, address)?;
            bind(socket.as_raw_fd(), &reach).unable(unable())?;
        }
        result => result.unable(unable())?,
    }
    let place = Place::found(directory, name).unable(unable())?;
    Ok(Some(Local { _place: place }))
}

//! The name of a client's own socket: what the server is told in IPCREMOTEPATH.
#![forbid(unsafe_code)]

use super::{Address, lock, stale};
use crate::exit::{self, Unable as _};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::socket::{UnixAddr, bind};
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// The node of a client's name. Dropped, it goes; a process that becomes another program leaves it.
#[derive(Debug)]
pub(crate) struct Local {
    directory: OwnedFd,
    name: OsString,
    stat: FileStat,
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
    let name = name.to_owned();
    let stat = look(&directory, &name).unable(unable())?;
    Ok(Some(Local {
        directory,
        name,
        stat,
    }))
}

fn look(directory: &OwnedFd, name: &OsString) -> nix::Result<FileStat> {
    fstatat(directory, Path::new(name), AtFlags::AT_SYMLINK_NOFOLLOW)
}

impl Drop for Local {
    fn drop(&mut self) {
        let same = look(&self.directory, &self.name)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (self.stat.st_dev, self.stat.st_ino));
        if same {
            // That it stays after all is no failure of what was done.
            let _ = unlinkat(
                &self.directory,
                self.name.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}

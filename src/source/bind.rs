//! A socket of our own: lock, make way, permissions before existence, bind; listen comes after the privileges are dropped.
#![forbid(unsafe_code)]

use super::{Address, Listening, Type, Wanted, lock, node, stale};
use crate::exit::{self, Unable as _};
use crate::report::{info, warning};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, UnixAddr, bind as bind_socket, shutdown, socket,
};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;

/// What a socket of our own needs beside the descriptor: where its node is, and the lock.
#[derive(Debug)]
pub(super) struct Own {
    /// `None` for an abstract name, which has no node and needs no lock.
    place: Option<Place>,
}

/// A node that this process has bound. Dropped, it goes.
#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    name: OsString,
    device: u64,
    inode: u64,
    /// Taken out to release the lock.
    lock: Mutex<Option<OwnedFd>>,
}

/// Binds one address of `--bind`. Nobody can connect until `listen`.
pub(super) fn bind(address: &Address, wanted: &Wanted) -> exit::Result<Listening> {
    let kind = wanted.kind.unwrap_or(Type::Stream);
    let socket = socket(AddressFamily::Unix, kind.of(), SockFlag::SOCK_CLOEXEC, None)
        .unable("create a socket")?;
    let socket = sys::fd::lift(socket, wanted.low).unable("move a descriptor")?;
    match address {
        Address::Path(path) => bind_path(socket, kind, path, address, wanted),
        Address::Abstract(name) => {
            let name = UnixAddr::new_abstract(name).unable(format!("bind to {address}"))?;
            bind_socket(socket.as_raw_fd(), &name).unable(format!("bind to {address}"))?;
            Ok(Listening {
                socket,
                kind,
                name: None,
                address: address.clone(),
                access: None,
                own: Some(Own { place: None }),
            })
        }
        Address::Unnamed => Err(exit::wrong_use("--bind needs a name")),
    }
}

fn bind_path(
    socket: OwnedFd,
    kind: Type,
    path: &Path,
    address: &Address,
    wanted: &Wanted,
) -> exit::Result<Listening> {
    let (parent, name) = Address::split(path);
    let directory = match open(
        parent,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Err(Errno::ENOENT) => {
            let parent =
                crate::report::Escaped(std::os::unix::ffi::OsStrExt::as_bytes(parent.as_os_str()))
                    .to_string();
            return Err(exit::system(format!(
                "unable to bind to {address}: parent directory {parent} does not exist"
            )));
        }
        directory => sys::fd::lift(directory.unable(format!("bind to {address}"))?, wanted.low)
            .unable("move a descriptor")?,
    };
    // A path too long for a socket address is reached through the descriptor of its directory.
    let through = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    let reach = match Address::short(path) {
        Some(short) => short,
        None => UnixAddr::new(&through).unable(format!("bind to {address}"))?,
    };
    let lock = lock::take(directory.as_fd(), name, address, wanted.low)?;
    stale::clear(directory.as_fd(), name, &reach, address)?;
    // The node is created with the mode of the socket's own inode, so nobody gets in before chmod, and no umask matters.
    fchmod(&socket, Mode::empty()).unable("set the mode of a socket")?;
    bind_socket(socket.as_raw_fd(), &reach).unable(format!("bind to {address}"))?;
    let node = node::find(socket.as_fd(), directory.as_fd(), name, address)?;
    let access = node::set(
        &node,
        wanted.owner,
        Some(wanted.mode.unwrap_or(0o600)),
        address,
    )?;
    let stat = fstat(&node).unable(format!("look at {address}"))?;
    let place = Place {
        directory,
        name: name.to_owned(),
        device: stat.st_dev,
        inode: stat.st_ino,
        lock: Mutex::new(Some(lock)),
    };
    if !place.is_there() {
        return Err(exit::system(format!(
            "unable to bind to {address}: its directory was replaced meanwhile"
        )));
    }
    Ok(Listening {
        socket,
        kind,
        name: None,
        address: address.clone(),
        access: Some(access),
        own: Some(Own { place: Some(place) }),
    })
}

impl Place {
    /// What stands at `name` now, without a lock.
    pub(super) fn found(directory: OwnedFd, name: &OsStr) -> nix::Result<Place> {
        let stat = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Place {
            directory,
            name: name.to_owned(),
            device: stat.st_dev,
            inode: stat.st_ino,
            lock: Mutex::new(None),
        })
    }

    /// Whether the name still leads to the node that we bound.
    fn is_there(&self) -> bool {
        fstatat(
            &self.directory,
            self.name.as_os_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .is_ok_and(|stat| stat.st_dev == self.device && stat.st_ino == self.inode)
    }
}

impl Place {
    fn unlink(&self) {
        if self.is_there() {
            // Failing is no surprise here: it was said at the start.
            let _ = unlinkat(
                &self.directory,
                self.name.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}

impl Drop for Place {
    /// A start that fails after the bind leaves no socket behind (a service that ran has retired it).
    fn drop(&mut self) {
        self.unlink();
    }
}

impl Own {
    /// Says once if the socket cannot be unlinked at exit (after the privileges were dropped).
    pub(super) fn warn_if_it_stays(&self, address: &Address) {
        let Some(place) = &self.place else { return };
        if faccessat(
            &place.directory,
            ".",
            AccessFlags::W_OK | AccessFlags::X_OK,
            AtFlags::AT_EACCESS,
        )
        .is_err()
        {
            info!(
                "{address} will stay when doorward ends: its directory is not writable for the user it runs as"
            );
        }
    }

    pub(super) fn retire(&self, socket: BorrowedFd<'_>, address: &Address) {
        if let Err(error) = shutdown(socket.as_raw_fd(), Shutdown::Read) {
            warning!("unable to shut down {address}: {}", error.desc());
        }
        self.vacate();
    }

    pub(super) fn vacate(&self) {
        let Some(place) = &self.place else { return };
        place.unlink();
        // Only now may a successor bind.
        if let Ok(mut lock) = place.lock.lock() {
            lock.take();
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.place.as_ref().is_some_and(|place| !place.is_there())
    }
}

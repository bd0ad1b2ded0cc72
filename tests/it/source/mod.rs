//! Where the listening socket comes from: inherited through LISTEN_FDS or as descriptor 0, or bound by `--bind`.

mod access;
mod activation;
mod bind;
mod hostile;
mod lock;
mod mismatch;
mod run_as;
mod stale;
mod standard;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType};

use crate::support::{Report, client::with_address, probe};

/// A Unix socket of any type, bound to `path` and not listening.
fn bound(kind: SockType, path: &Path) -> OwnedFd {
    let socket = socket::socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    with_address(path, |address| socket::bind(socket.as_raw_fd(), address)).unwrap();
    socket
}

/// The same, listening.
pub(crate) fn listening(kind: SockType, path: &Path) -> OwnedFd {
    let socket = bound(kind, path);
    socket::listen(&socket, Backlog::MAXCONN).unwrap();
    socket
}

/// A listening stream socket.
pub(crate) fn stream(path: &Path) -> OwnedFd {
    listening(SockType::Stream, path)
}

/// The program that reports what it was given, on the connection.
fn reporter() -> [String; 3] {
    [
        probe().to_str().unwrap().to_owned(),
        "report".to_owned(),
        "7".to_owned(),
    ]
}

/// The program that keeps the connection until its client ends it.
fn holder() -> [String; 3] {
    [
        probe().to_str().unwrap().to_owned(),
        "hold".to_owned(),
        "6".to_owned(),
    ]
}

/// Permission bits of a node.
fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Owner and group of a node.
fn owner(path: &Path) -> (u32, u32) {
    let node = std::fs::symlink_metadata(path).unwrap();
    (node.uid(), node.gid())
}

/// What every child must hold: the connection on 6 and 7, its three standard ones, and no listening socket at all.
#[track_caller]
fn assert_plain_child(report: &Report) {
    let fds = report.fds();
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7], "{fds:?}");
    assert!(fds.values().all(|fd| !fd.listening), "{fds:?}");
    assert_eq!(fds[&0].link, "/dev/null");
    let left: Vec<String> = report
        .env_names()
        .into_iter()
        .filter(|name| name.starts_with("LISTEN_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

//! connect(2) by a name of any length.
#![forbid(unsafe_code)]

use super::error::{Error, Unable as _};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

/// The longest path that fits into a socket address as it is.
const LONGEST_ADDRESS: usize = 107;

pub(super) fn connect(path: &Path) -> Result<UnixStream, Error> {
    loop {
        match once(path) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.unable("connect"),
        }
    }
}

fn once(path: &Path) -> io::Result<UnixStream> {
    let bytes = path.as_os_str().as_bytes();
    if let Some(name) = bytes.strip_prefix(b"@") {
        return UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?);
    }
    if bytes.len() <= LONGEST_ADDRESS {
        return UnixStream::connect(path);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    let by_number = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    UnixStream::connect(by_number.join(name))
}

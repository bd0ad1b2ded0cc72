//! Socket calls that nix does not have, or has with a limit that we cannot use.

use super::cvt;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The name that a peer bound its socket to: its own claim, any bytes, up to 108 of them.
pub(crate) struct PeerName {
    address: libc::sockaddr_un,
    length: usize,
}

impl PeerName {
    fn of(address: libc::sockaddr_un, length: libc::socklen_t) -> PeerName {
        // The kernel may report one byte more than it wrote (a full path without its zero): never trust it beyond the buffer.
        let length = (length as usize)
            .saturating_sub(offset_of!(libc::sockaddr_un, sun_path))
            .min(address.sun_path.len());
        PeerName { address, length }
    }

    /// The bytes after the family: empty when unbound, with a leading zero byte when abstract.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `length` is at most the size of `sun_path`, all of which is initialised; c_char and u8 have the same layout.
        unsafe { std::slice::from_raw_parts(self.address.sun_path.as_ptr().cast(), self.length) }
    }
}

/// `accept4(listening, SOCK_CLOEXEC)`: waits for one connection and says what the peer calls itself.
///
/// # Errors
/// `Interrupted` when a signal came; the rest as accept(2) has it.
pub(crate) fn accept(listening: BorrowedFd<'_>) -> io::Result<(OwnedFd, PeerName)> {
    // SAFETY: an all-zero sockaddr_un is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `address`; the result is a new descriptor that nobody else owns.
    let connection = unsafe {
        let fd = cvt(libc::accept4(
            listening.as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut length,
            libc::SOCK_CLOEXEC,
        ))?;
        OwnedFd::from_raw_fd(fd)
    };
    Ok((connection, PeerName::of(address, length)))
}

/// `getpeername(connection)`: what the peer calls itself.
///
/// # Errors
/// `NotConnected`; the rest as getpeername(2) has it.
pub(crate) fn peer_name(connection: BorrowedFd<'_>) -> io::Result<PeerName> {
    // SAFETY: an all-zero sockaddr_un is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `address`.
    cvt(unsafe {
        libc::getpeername(
            connection.as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut length,
        )
    })?;
    Ok(PeerName::of(address, length))
}

/// `getpeername(socket)`, of which the address family alone is asked for.
///
/// # Errors
/// `NotConnected`: a listening socket too; the rest as getpeername(2) has it.
pub(crate) fn peer_family(socket: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut family: libc::sa_family_t = 0;
    let mut length = size_of::<libc::sa_family_t>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `family`, with which every address begins.
    cvt(unsafe {
        libc::getpeername(
            socket.as_raw_fd(),
            (&raw mut family).cast(),
            &raw mut length,
        )
    })?;
    Ok(family.into())
}

/// `listen(socket, backlog)`; the kernel cuts the number to net.core.somaxconn. On a socket that listens already it changes the
/// credentials that clients see to ours.
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    cvt(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// `SO_DOMAIN`: the address family of a socket.
pub(crate) fn domain(socket: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the buffer is a whole int and `length` says so.
    cvt(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

/// `ioctl(SIOCUNIXFILE)`: an O_PATH descriptor of the node that the socket is bound to, even after a rename; needs CAP_NET_ADMIN.
pub(crate) fn bound_node(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SIOCUNIXFILE: libc::Ioctl = 0x89E0u32 as libc::Ioctl;
    // SAFETY: the request takes no argument and returns a new close-on-exec descriptor that nobody else owns.
    unsafe {
        cvt(libc::ioctl(socket.as_raw_fd(), SIOCUNIXFILE, 0)).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// `ioctl(SIOCOUTQ)`: bytes of memory held by what was sent and not yet received by the peer; 0 when it has read everything.
pub(crate) fn unread_by_peer(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut held: libc::c_int = 0;
    // SAFETY: the request writes one int.
    cvt(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut held) })?;
    Ok(u32::try_from(held).unwrap_or(0))
}

//! Messages with descriptors (SCM_RIGHTS), of which none is ever lost or leaked.
//!
//! nix's recvmsg hands out bare numbers that nobody closes, and at the descriptor limit cannot even name them; so this is ours.

use super::cvt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors that one message of ours carries.
pub(crate) const MOST_SENT: usize = 8;
/// Room for a header and [`MOST_SENT`] descriptors.
const CONTROL_SENT: usize = 64;
/// Room for the 253 descriptors that the kernel passes at most, and the sender's credentials.
const CONTROL_RECEIVED: usize = 16 + 253 * size_of::<RawFd>() + 64;

/// A buffer for control messages, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct Control<const SIZE: usize>([u8; SIZE]);

/// `sendmsg(MSG_NOSIGNAL | MSG_DONTWAIT)`: one message with `descriptors`, which are lent: the receiver gets copies.
///
/// # Errors
/// `WouldBlock`: no room. `InvalidInput`: more than [`MOST_SENT`]. Else as sendmsg(2) has it (ETOOMANYREFS: too many are under way).
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if descriptors.len() > MOST_SENT {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut part = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    let mut control = Control([0; CONTROL_SENT]);
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let bytes = size_of_val(descriptors) as libc::c_uint;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: `control` has room for a header and MOST_SENT numbers, so header and data of this length lie inside of it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (index, descriptor) in descriptors.iter().enumerate() {
                data.add(index).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    // SAFETY: `message` points to `part` (which points to `payload`, only read) and `control`, all of which outlive the call.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What one message brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes of the payload; 0 is the end of the connection.
    pub(crate) length: usize,
    /// All of them, close-on-exec, in the order in which they were sent.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The payload did not fit, or descriptors were lost (this process is at its limit): what is here is not the whole message.
    pub(crate) truncated: bool,
    /// The sender's process, where SO_PASSCRED is set on the socket.
    pub(crate) sender: Option<libc::pid_t>,
}

/// `recvmsg(MSG_CMSG_CLOEXEC)`: one message into `payload`; `flags` may hold MSG_DONTWAIT. Every descriptor that came is owned by the
/// result, so dropping it leaks nothing.
///
/// # Errors
/// `Interrupted`, `WouldBlock`, else as recvmsg(2) has it.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    payload: &mut [u8],
    flags: libc::c_int,
) -> io::Result<Received> {
    let mut part = part_of(payload);
    let mut control = Control([0; CONTROL_RECEIVED]);
    let mut message = message_of(&mut part, &mut control);
    // SAFETY: `message` points to `payload` and `control` with their lengths; both outlive the call.
    let length = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            flags | libc::MSG_CMSG_CLOEXEC,
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has just filled `message`, whose control buffer is still there, and nothing has taken its descriptors.
    Ok(unsafe { taken(&message, length) })
}

/// The most messages that one call of [`Batch::receive`] takes.
pub(crate) const MOST_RECEIVED: usize = 32;

/// Room for several messages, used again for each batch.
pub(crate) struct Batch {
    /// `size` bytes for each.
    payloads: Vec<u8>,
    size: usize,
    /// One for each.
    controls: Vec<Control<CONTROL_RECEIVED>>,
}

impl Batch {
    /// For up to `most` messages (1 to [`MOST_RECEIVED`]), each with a payload of up to `size` bytes.
    pub(crate) fn new(most: usize, size: usize) -> Batch {
        let most = most.clamp(1, MOST_RECEIVED);
        let mut controls = Vec::new();
        controls.resize_with(most, || Control([0; CONTROL_RECEIVED]));
        Batch {
            payloads: vec![0; most * size],
            size,
            controls,
        }
    }

    /// For how many messages there is room.
    pub(crate) fn most(&self) -> usize {
        self.controls.len()
    }

    /// `recvmmsg(MSG_CMSG_CLOEXEC | MSG_DONTWAIT)`: takes what is there of up to `most` messages, in order, each with all its descriptors. A
    /// payload that was cut short, or descriptors that were, show in `truncated`; an end of file is a message without bytes and descriptors.
    ///
    /// # Errors
    /// `WouldBlock`: there is nothing. Else as recvmmsg(2) has it.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<Vec<Received>> {
        // SAFETY: all-zero values of both are valid.
        let (mut parts, mut messages): (
            [libc::iovec; MOST_RECEIVED],
            [libc::mmsghdr; MOST_RECEIVED],
        ) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let most = most.min(self.most());
        let buffers = self.payloads.chunks_exact_mut(self.size);
        for (((message, part), payload), control) in messages
            .iter_mut()
            .zip(&mut parts)
            .zip(buffers)
            .zip(&mut self.controls)
            .take(most)
        {
            *part = part_of(payload);
            message.msg_hdr = message_of(part, control);
        }
        // SAFETY: each of the first `most` messages points to its own part (of its own payload) and its own control buffer, all of which
        // outlive the call and are not moved.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                most as libc::c_uint,
                (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let filled = messages.iter().take(count);
        // SAFETY: the kernel has just filled the first `count`, whose control buffers are still there, and each is looked at once.
        Ok(filled
            .map(|message| unsafe { taken(&message.msg_hdr, message.msg_len as usize) })
            .collect())
    }

    /// The payload of the message with this index of the last batch; `length` is what its [`Received`] says.
    pub(crate) fn payload(&self, index: usize, length: usize) -> &[u8] {
        let start = index * self.size;
        let payload = self.payloads.get(start..start + self.size);
        payload
            .and_then(|payload| payload.get(..length))
            .unwrap_or_default()
    }
}

fn part_of(payload: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    }
}

fn message_of(part: &mut libc::iovec, control: &mut Control<CONTROL_RECEIVED>) -> libc::msghdr {
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = (control as *mut Control<CONTROL_RECEIVED>).cast();
    message.msg_controllen = CONTROL_RECEIVED as _;
    message
}

/// Takes what came with a message.
///
/// # Safety
/// The kernel has filled `message`, its control buffer is still alive and as the kernel left it, and nobody else takes descriptors of it.
unsafe fn taken(message: &libc::msghdr, length: usize) -> Received {
    let mut received = Received {
        length,
        descriptors: Vec::new(),
        truncated: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        sender: None,
    };
    // SAFETY: the kernel filled the buffer with whole headers up to `msg_controllen`, and the CMSG functions stay inside that.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a whole header inside the buffer.
        let (level, kind, bytes) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len as usize,
            )
        };
        // SAFETY: CMSG_LEN and CMSG_DATA compute from the header alone.
        let (data, bytes) = unsafe {
            (
                libc::CMSG_DATA(header),
                bytes.saturating_sub(libc::CMSG_LEN(0) as usize),
            )
        };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            let count = bytes / size_of::<RawFd>();
            received.descriptors.reserve(count);
            for index in 0..count {
                // SAFETY: the kernel put that many numbers there, each of a new descriptor that nobody else owns.
                received.descriptors.push(unsafe {
                    OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned())
                });
            }
        } else if level == libc::SOL_SOCKET
            && kind == libc::SCM_CREDENTIALS
            && bytes >= size_of::<libc::ucred>()
        {
            // SAFETY: the kernel put a whole ucred there.
            received.sender = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() }.pid);
        }
        // SAFETY: as for the first header.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    received
}

/// `ioctl(FIONREAD)`: on a SEQPACKET socket the bytes of all messages that are queued together.
pub(crate) fn queued(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int.
    cvt(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_in_order_and_close_on_exec() {
        let (near, far) = UnixStream::pair().unwrap();
        let (a, b) = (
            std::fs::File::open("/dev/null").unwrap(),
            std::fs::File::open("/dev/zero").unwrap(),
        );
        assert_eq!(
            send(near.as_fd(), b"two", &[a.as_fd(), b.as_fd()]).unwrap(),
            3
        );
        let mut payload = [0; 16];
        let received = receive(far.as_fd(), &mut payload, 0).unwrap();
        assert_eq!((received.length, received.truncated), (3, false));
        let rdev = |fd: &OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_rdev;
        let expected = [&a, &b].map(|file| nix::sys::stat::fstat(file).unwrap().st_rdev);
        assert_eq!(
            received.descriptors.iter().map(rdev).collect::<Vec<_>>(),
            expected
        );
        for descriptor in &received.descriptors {
            let flags = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn a_payload_that_does_not_fit_is_said_to_be_truncated_and_leaks_nothing() {
        let (near, far) = nix::sys::socket::socketpair(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::SeqPacket,
            None,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let inode = nix::sys::stat::fstat(&near).unwrap().st_ino;
        send(near.as_fd(), b"long", &[near.as_fd(), null.as_fd()]).unwrap();
        let received = receive(far.as_fd(), &mut [0; 2], 0).unwrap();
        assert!(received.truncated && received.descriptors.len() == 2);
        drop(received);
        // Nothing else in this process refers to that socket.
        let links = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok());
        assert_eq!(
            links
                .filter(|link| link.to_string_lossy() == format!("socket:[{inode}]"))
                .count(),
            1
        );
    }

    #[test]
    fn what_is_queued_is_counted_in_bytes() {
        let (near, far) = UnixStream::pair().unwrap();
        send(near.as_fd(), b"12345", &[]).unwrap();
        assert_eq!(queued(far.as_fd()).unwrap(), 5);
    }
}

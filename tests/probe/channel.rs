//! The channel of a hand-off, by plain system calls: what is received is shown as it came.

use std::ffi::c_int;
use std::fmt::Write as _;
use std::os::fd::RawFd;

use crate::report;

/// One message: nothing of it is believed, all of it is kept.
pub struct Message {
    payload: Vec<u8>,
    descriptors: Vec<RawFd>,
    truncated: bool,
}

impl Message {
    /// The descriptor that HANDOFF_FDS calls `name`.
    pub fn descriptor(&self, name: &str) -> Option<RawFd> {
        let at = self.names().iter().position(|this| this == name)?;
        self.descriptors.get(at).copied()
    }

    fn names(&self) -> Vec<String> {
        let entry = self
            .payload
            .split(|&byte| byte == 0)
            .find_map(|entry| entry.strip_prefix(b"HANDOFF_FDS="));
        let names = String::from_utf8_lossy(entry.unwrap_or_default()).into_owned();
        names.split(':').map(str::to_owned).collect()
    }

    /// Lines: `payload HEX`, `truncated 0`, one `descriptor NUMBER ...` each in the order in which they came (with the pid of a pidfd and
    /// the access mode behind).
    pub fn describe(&self) -> String {
        let mut text = "payload ".to_owned();
        for byte in &self.payload {
            write!(text, "{byte:02x}").expect("memory");
        }
        write!(text, "\ntruncated {}\n", c_int::from(self.truncated)).expect("memory");
        for &fd in &self.descriptors {
            // SAFETY: fcntl with numbers only.
            let mode = unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_ACCMODE;
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
            let info = info.unwrap_or_default();
            let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
            writeln!(
                text,
                "descriptor {} mode={mode} pid={}",
                report::describe(fd).unwrap_or_default(),
                pid.unwrap_or("-").trim()
            )
            .expect("memory");
        }
        text
    }

    /// Closes all but the one of that name.
    pub fn close_all_but(&self, name: &str) {
        let kept = self.descriptor(name);
        for &fd in self.descriptors.iter().filter(|fd| Some(**fd) != kept) {
            // SAFETY: a descriptor that this message brought, closed once.
            unsafe { libc::close(fd) };
        }
    }
}

/// One message, waiting for it; None at the end of file.
pub fn receive(channel: RawFd) -> Option<Message> {
    let mut payload = vec![0u8; 32 * 1024];
    let mut control = [0u64; 64];
    let mut part = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: an all-zero msghdr is valid; it then points to buffers that outlive the call, with their sizes, and the CMSG functions
    // stay inside of what the kernel filled.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of_val(&control);
        let count = libc::recvmsg(channel, &raw mut header, libc::MSG_CMSG_CLOEXEC);
        if count <= 0 {
            return None;
        }
        payload.truncate(count as usize);
        let mut descriptors = Vec::new();
        let mut entry = libc::CMSG_FIRSTHDR(&raw const header);
        while !entry.is_null() {
            if (*entry).cmsg_level == libc::SOL_SOCKET && (*entry).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*entry).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(entry).cast::<RawFd>();
                descriptors
                    .extend((0..bytes / size_of::<RawFd>()).map(|i| data.add(i).read_unaligned()));
            }
            entry = libc::CMSG_NXTHDR(&raw const header, entry);
        }
        Some(Message {
            payload,
            descriptors,
            truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        })
    }
}

/// Sends what goes, and a descriptor; failures are the other side's.
pub fn send(fd: RawFd, bytes: &[u8], descriptor: Option<RawFd>) {
    let mut control = [0u64; 4];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: as in `receive`; the control buffer has room for a header and one number.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if let Some(descriptor) = descriptor {
            header.msg_control = (&raw mut control).cast();
            header.msg_controllen = libc::CMSG_SPACE(4) as usize;
            let entry = libc::CMSG_FIRSTHDR(&raw const header);
            (*entry).cmsg_level = libc::SOL_SOCKET;
            (*entry).cmsg_type = libc::SCM_RIGHTS;
            (*entry).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(entry)
                .cast::<RawFd>()
                .write_unaligned(descriptor);
        }
        let flags = libc::MSG_NOSIGNAL
            | if descriptor.is_some() {
                libc::MSG_DONTWAIT
            } else {
                0
            };
        libc::sendmsg(fd, &raw const header, flags);
    }
}

/// `@name` is abstract.
fn address(name: &[u8]) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: an all-zero address is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    if name.first() == Some(&b'@') {
        address.sun_path[0] = 0;
    }
    (address, 2 + name.len() as libc::socklen_t)
}

/// One datagram to a path or `@name`.
pub fn send_datagram(to: &[u8], bytes: &[u8]) {
    let (address, length) = address(to);
    // SAFETY: buffers and address outlive the calls, their lengths are right.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let sent = libc::sendto(
            socket,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
            (&raw const address).cast(),
            length,
        );
        assert!(sent >= 0, "send to NOTIFY_SOCKET");
        libc::close(socket);
    }
}

/// A listening SEQPACKET socket at `path`, in place of what stands there.
pub fn listen(path: &str) -> RawFd {
    let (address, length) = address(path.as_bytes());
    let _ = std::fs::remove_file(path);
    // SAFETY: the address outlives the calls, its length is right.
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0);
        assert!(
            libc::bind(socket, (&raw const address).cast(), length) == 0,
            "bind"
        );
        assert!(libc::listen(socket, 16) == 0, "listen");
        socket
    }
}

/// The next control connection and the channel that comes on it. One that brings none, of a doorward that ended, is passed over.
pub fn accept(listener: RawFd) -> (RawFd, RawFd) {
    loop {
        // SAFETY: no address is asked for.
        let control = unsafe {
            libc::accept4(
                listener,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_CLOEXEC,
            )
        };
        let Some(message) = receive(control) else {
            // SAFETY: the number accept4 gave, closed once.
            unsafe { libc::close(control) };
            continue;
        };
        assert!(
            message.payload == b"HANDOFF=1\0HANDOFF_FDS=channel\0"
                && message.descriptors.len() == 1,
            "an odd first message"
        );
        return (control, message.descriptors[0]);
    }
}

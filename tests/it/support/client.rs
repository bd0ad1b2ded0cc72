//! Clients: connect as anybody, from anywhere, and say exactly what came back.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr,
};
use nix::sys::time::TimeVal;

use super::{DEADLINE, User, raw};

/// How to connect: `Dial::to(path).user(&nobody).connect()`.
#[derive(Debug, Clone)]
pub struct Dial {
    path: PathBuf,
    kind: SockType,
    bound: Option<PathBuf>,
    bound_bytes: Option<Vec<u8>>,
    takes_rights: bool,
    user: Option<User>,
}

impl Dial {
    /// To a path, or with a leading `@` to an abstract name.
    pub fn to(path: impl Into<PathBuf>) -> Dial {
        Dial {
            path: path.into(),
            kind: SockType::Stream,
            bound: None,
            bound_bytes: None,
            takes_rights: true,
            user: None,
        }
    }

    /// With a SEQPACKET socket.
    pub fn seqpacket(mut self) -> Dial {
        self.kind = SockType::SeqPacket;
        self
    }

    /// Bound to an address of its own before it connects; `@` means abstract.
    pub fn bound_to(mut self, path: impl Into<PathBuf>) -> Dial {
        self.bound = Some(path.into());
        self
    }

    /// Bound to an address that is exactly these bytes, at most 108; none: one of the kernel's choice.
    pub fn bound_to_bytes(mut self, address: impl Into<Vec<u8>>) -> Dial {
        self.bound_bytes = Some(address.into());
        self
    }

    /// Takes no descriptors (SO_PASSRIGHTS=0, Linux 6.16): whoever sends some is told so.
    pub fn without_rights(mut self) -> Dial {
        self.takes_rights = false;
        self
    }

    /// As another user: a thread takes the credentials, connects and hands the socket back.
    pub fn user(mut self, user: &User) -> Dial {
        self.user = Some(user.clone());
        self
    }

    /// Connects; panics if that fails.
    #[track_caller]
    pub fn connect(self) -> Client {
        let path = self.path.clone();
        self.try_connect()
            .unwrap_or_else(|e| panic!("unable to connect to {path:?}: {e}"))
    }

    /// Connects, or says why not: `ConnectionRefused`, `PermissionDenied`, `WouldBlock` after the deadline.
    pub fn try_connect(self) -> io::Result<Client> {
        let Some(user) = self.user.clone() else {
            return self.here();
        };
        // Below /proc/PID/root, which is root's to enter, the directory is opened before root is given up.
        let mut dial = self;
        let mut entered = None;
        if let (true, Some(dir), Some(name)) = (
            dial.path.starts_with("/proc"),
            dial.path.parent(),
            dial.path.file_name(),
        ) {
            let dir = std::fs::File::open(dir)?;
            dial.path = through(&dir).join(name);
            entered = Some(dir);
        }
        let connect = move || {
            raw::become_user(&user)?;
            dial.here()
        };
        let result = std::thread::spawn(connect)
            .join()
            .expect("the connecting thread");
        drop(entered);
        result
    }

    fn here(self) -> io::Result<Client> {
        let socket = socket::socket(AddressFamily::Unix, self.kind, SockFlag::SOCK_CLOEXEC, None)?;
        let patience = TimeVal::new(DEADLINE.as_secs() as i64, 0);
        socket::setsockopt(&socket, SendTimeout, &patience)?;
        socket::setsockopt(&socket, ReceiveTimeout, &patience)?;
        if let Some(bound) = &self.bound {
            with_address(bound, |address| socket::bind(socket.as_raw_fd(), address))?;
        }
        if let Some(address) = &self.bound_bytes {
            raw::bind_bytes(&socket, address)?;
        }
        if !self.takes_rights {
            raw::refuse_rights(&socket)?;
        }
        with_address(&self.path, |address| {
            socket::connect(socket.as_raw_fd(), address)
        })?;
        Ok(Client {
            stream: UnixStream::from(socket),
        })
    }
}

/// Calls `act` with the address that `path` stands for, however long its directory is.
pub fn with_address<T>(
    path: &Path,
    act: impl FnOnce(&UnixAddr) -> nix::Result<T>,
) -> io::Result<T> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if let Some(name) = bytes.strip_prefix(b"@") {
        return Ok(act(&UnixAddr::new_abstract(name)?)?);
    }
    if bytes.len() <= 107 {
        return Ok(act(&UnixAddr::new(path)?)?);
    }
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let dir = std::fs::File::open(parent)?;
    Ok(act(&UnixAddr::new(&through(&dir).join(name))?)?)
}

/// A short path to an open directory.
fn through(dir: &std::fs::File) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string())
}

/// A connection; everything it waits for has the deadline.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Sends all of `bytes`.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    /// Sends, or says why not.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// No more from here; the other direction stays.
    pub fn shutdown_write(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Everything up to the end of file.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        self.try_read_to_end().expect("read to the end")
    }

    /// Everything up to the end of file, or the error: `ConnectionReset`, `WouldBlock` at the deadline.
    pub fn try_read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The same as text.
    #[track_caller]
    pub fn read_text(&mut self) -> String {
        String::from_utf8(self.read_to_end()).expect("text")
    }

    /// Sends `bytes`, ends the direction, and reads the whole answer.
    #[track_caller]
    pub fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.shutdown_write();
        self.read_to_end()
    }

    /// One line without its newline; what follows stays unread. Panics at the end of file.
    #[track_caller]
    pub fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            assert_eq!(
                self.stream.read(&mut byte).expect("read a line"),
                1,
                "end of file after {line:?}"
            );
            if byte == *b"\n" {
                return String::from_utf8(line).expect("text");
            }
            line.extend(byte);
        }
    }

    /// Exactly `count` bytes.
    #[track_caller]
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("read");
        bytes
    }

    /// The same, or why not: `UnexpectedEof`.
    pub fn try_read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// One record of a SEQPACKET connection (empty at the end of file).
    #[track_caller]
    pub fn read_record(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 65536];
        let n = self.stream.read(&mut bytes).expect("read a record");
        bytes.truncate(n);
        bytes
    }

    /// The server closed without a byte, and cleanly.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let came = self.try_read_to_end().expect("a clean end of file");
        assert!(
            came.is_empty(),
            "expected the end of file, got {:?}",
            String::from_utf8_lossy(&came)
        );
    }

    /// The server closed with something unread.
    #[track_caller]
    pub fn assert_reset(&mut self) {
        match self.try_read_to_end() {
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("expected a reset, got {other:?}"),
        }
    }

    /// Whether there is something to read, or the end.
    pub fn is_readable(&self) -> bool {
        let mut byte = [0];
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        socket::recv(self.stream.as_raw_fd(), &mut byte, peek) != Err(nix::Error::EAGAIN)
    }

    /// Still open, with nothing to read.
    #[track_caller]
    pub fn assert_open(&self) {
        let mut byte = [0];
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        assert_eq!(
            socket::recv(self.stream.as_raw_fd(), &mut byte, peek),
            Err(nix::Error::EAGAIN),
            "not open and idle"
        );
    }

    /// The first message: its bytes and the descriptors that came along, all close-on-exec.
    #[track_caller]
    pub fn recv_greeting(&mut self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut bytes = [0; 256];
        let mut space = nix::cmsg_space!([RawFd; 16]);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = self.stream.as_raw_fd();
        let message = socket::recvmsg::<()>(fd, &mut buffers, Some(&mut space), flags)
            .expect("receive a message");
        let descriptors = message
            .cmsgs()
            .expect("room for the descriptors")
            .flat_map(|control| match control {
                ControlMessageOwned::ScmRights(numbers) => raw::own(numbers),
                _ => Vec::new(),
            });
        let descriptors = descriptors.collect();
        let length = message.bytes;
        (bytes[..length].to_vec(), descriptors)
    }

    /// One message with descriptors.
    #[track_caller]
    pub fn send_fds(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let control = [ControlMessage::ScmRights(&numbers)];
        let fd = self.stream.as_raw_fd();
        socket::sendmsg::<()>(
            fd,
            &[IoSlice::new(bytes)],
            &control,
            MsgFlags::empty(),
            None,
        )
        .expect("send descriptors");
    }

    /// What the server's kernel side says of its listener: pid, uid, gid.
    pub fn server(&self) -> (i32, u32, u32) {
        let peer = socket::getsockopt(&self.stream, socket::sockopt::PeerCredentials)
            .expect("SO_PEERCRED");
        (peer.pid(), peer.uid(), peer.gid())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl From<OwnedFd> for Client {
    /// For the client's end of a socketpair, such as the notification socket.
    fn from(socket: OwnedFd) -> Client {
        let stream = UnixStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Client { stream }
    }
}

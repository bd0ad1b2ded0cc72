//! The tests play doorward's part at the other end of a channel.
#![forbid(unsafe_code)]

use super::*;
use crate::sys;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::fstat;
use nix::unistd::{getegid, geteuid};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

fn packets() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap()
}

/// doorward's end, and a backend with what it has dropped.
struct Channel {
    sender: OwnedFd,
    backend: Backend,
    dropped: Arc<Mutex<Vec<String>>>,
}

impl Channel {
    fn new() -> Channel {
        let (sender, receiver) = packets();
        let dropped = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&dropped);
        let backend = Backend::new(receiver, None)
            .on_drop(move |why| told.lock().unwrap().push(why.to_string()));
        Channel {
            sender,
            backend,
            dropped,
        }
    }

    fn send(&self, payload: &[u8], descriptors: &[BorrowedFd<'_>]) {
        assert_eq!(
            sys::scm::send(self.sender.as_fd(), payload, descriptors).unwrap(),
            payload.len()
        );
    }

    /// Sends one connection as doorward does; gives the client.
    fn send_connection(&self) -> UnixStream {
        let (client, server) = UnixStream::pair().unwrap();
        self.send(&payload("connection", ""), &[server.as_fd()]);
        client
    }

    #[track_caller]
    fn recv(&mut self) -> Handoff {
        match self.backend.try_recv().unwrap() {
            Next::Handoff(handoff) => *handoff,
            other => panic!("{other:?}, dropped: {:?}", self.dropped.lock().unwrap()),
        }
    }

    /// The message was dropped, for this reason, everything with it is closed, and the next one is served.
    #[track_caller]
    fn assert_dropped(&mut self, mut client: UnixStream, reason: &str) {
        assert!(matches!(self.backend.try_recv().unwrap(), Next::Nothing));
        let told: Vec<String> = std::mem::take(&mut self.dropped.lock().unwrap());
        assert!(
            told.len() == 1 && told.iter().all(|why| why.contains(reason)),
            "{told:?} is not {reason}"
        );
        assert_eq!(
            client.read(&mut [0]).unwrap(),
            0,
            "the client is not closed"
        );
        let _client = self.send_connection();
        self.recv();
    }
}

fn payload(names: &str, more: &str) -> Vec<u8> {
    let (uid, gid) = (geteuid(), getegid());
    let text = format!(
        "HANDOFF=1\0HANDOFF_FDS={names}\0PROTO=IPC\0IPCREMOTEEUID={uid}\0IPCREMOTEEGID={gid}\0{more}"
    );
    text.into_bytes()
}

#[test]
fn a_connection_comes_with_its_peer_its_variables_and_descriptors_by_their_names() {
    let mut channel = Channel::new();
    let (client, server) = UnixStream::pair().unwrap();
    let (notify, notify_peer) = UnixStream::pair().unwrap();
    let (mut lease_watch, lease) = std::io::pipe().unwrap();
    let (mut unknown_watch, unknown) = std::io::pipe().unwrap();
    let inode = |fd: BorrowedFd<'_>| fstat(fd).unwrap().st_ino;
    let expected = [server.as_fd(), notify.as_fd(), notify_peer.as_fd()].map(inode);
    channel.send(
        &payload(
            "lease:later:notify-peer:connection:notify",
            "COLOUR=red\0GONE\0",
        ),
        &[
            lease.as_fd(),
            unknown.as_fd(),
            notify_peer.as_fd(),
            server.as_fd(),
            notify.as_fd(),
        ],
    );
    drop((server, notify, notify_peer, lease, unknown));
    let handoff = channel.recv();
    let ends = [
        handoff.connection.as_fd(),
        handoff.notify.as_ref().unwrap().as_fd(),
        handoff.notify_peer.as_ref().unwrap().as_fd(),
    ];
    assert_eq!(ends.map(inode), expected);
    assert!(handoff.pidfd.is_none());
    for end in ends {
        let flags = nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
    // The name that nobody knows is closed already; the lease is when the handoff is.
    assert_eq!(unknown_watch.read(&mut [0]).unwrap(), 0);
    assert_eq!(handoff.peer.uid, geteuid().as_raw());
    assert_eq!(handoff.peer.gid, getegid().as_raw());
    assert_eq!(
        handoff.peer.pid,
        Some(std::process::id().try_into().unwrap())
    );
    assert_eq!(handoff.env.get("COLOUR").unwrap(), "red");
    assert!(
        handoff
            .env
            .iter()
            .any(|pair| pair == ("GONE".as_ref(), None))
    );
    let lease = inode(handoff.lease.as_ref().unwrap().as_fd());
    assert_eq!(lease, inode(lease_watch.as_fd()));
    drop(handoff);
    assert_eq!(lease_watch.read(&mut [0]).unwrap(), 0);
    drop(client);
}

#[test]
fn a_forged_user_or_group_is_dropped_and_the_next_connection_served() {
    let mut channel = Channel::new();
    for (uid, gid, reason) in [
        (geteuid().as_raw() + 1, getegid().as_raw(), "euid"),
        (geteuid().as_raw(), getegid().as_raw() + 1, "egid"),
    ] {
        let (client, server) = UnixStream::pair().unwrap();
        let text = format!(
            "HANDOFF=1\0HANDOFF_FDS=connection\0PROTO=X\0XREMOTEEUID={uid}\0XREMOTEEGID={gid}\0"
        );
        channel.send(text.as_bytes(), &[server.as_fd()]);
        drop(server);
        channel.assert_dropped(client, reason);
    }
    assert_eq!(channel.backend.dropped(), 2);
}

#[test]
fn a_peer_that_the_payload_does_not_name_is_read_from_the_connection() {
    let mut channel = Channel::new();
    let (_client, server) = UnixStream::pair().unwrap();
    channel.send(
        b"HANDOFF=1\0HANDOFF_FDS=connection\0PROTO=IPC\0IPCREMOTEEUID\0",
        &[server.as_fd()],
    );
    assert_eq!(channel.recv().peer.uid, geteuid().as_raw());
}

#[test]
fn hostile_messages_cost_their_own_connection_alone() {
    let mut channel = Channel::new();
    let null = File::open("/dev/null").unwrap();
    let mut large = payload("connection", "A=");
    large.resize(message::LARGEST, b'x');
    large.push(0);
    let cases: Vec<(Vec<u8>, usize, &str)> = vec![
        (b"garbage".to_vec(), 0, "zero byte"),
        (b"\0\0\0\0".to_vec(), 0, "HANDOFF=1"),
        (
            b"HANDOFF=2\0HANDOFF_FDS=connection\0".to_vec(),
            0,
            "HANDOFF=1",
        ),
        (b"HANDOFF=1\0PROTO=IPC\0".to_vec(), 0, "HANDOFF_FDS"),
        (payload("connection:notify", ""), 0, "another number"),
        (payload("connection", ""), 1, "another number"),
        (payload("connection:connection", ""), 1, "repeated"),
        (payload("notify", ""), 0, "no connection"),
        (payload("channel", ""), 0, "no connection"),
        (payload("connection", "A=1\0A=2\0"), 0, "repeated"),
        (payload("connection:notify", ""), 1, "notification socket"),
        (
            payload("connection:notify-peer", ""),
            1,
            "notification socket",
        ),
        (b"HANDOFF=1\0HANDOFF_FDS=connection\0".to_vec(), 0, "PROTO"),
        (large, 0, "cut short"),
        (b"".to_vec(), 0, "zero byte"),
    ];
    for (payload, more, reason) in cases {
        let (client, server) = UnixStream::pair().unwrap();
        let mut descriptors = vec![server.as_fd()];
        descriptors.extend(std::iter::repeat_n(null.as_fd(), more));
        channel.send(&payload, &descriptors);
        drop(server);
        channel.assert_dropped(client, reason);
    }
    // No descriptor at all, and an empty message, which is not the end.
    for payload in [payload("connection", ""), Vec::new()] {
        channel.send(&payload, &[]);
        assert!(matches!(channel.backend.try_recv().unwrap(), Next::Nothing));
    }
}

#[test]
fn what_is_no_connected_unix_socket_is_no_connection() {
    let mut channel = Channel::new();
    let null = File::open("/dev/null").unwrap();
    let internet = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (pipe, _write) = std::io::pipe().unwrap();
    let name = format!("doorward-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            name,
        );
    let listening = UnixListener::bind_addr(&address.unwrap()).unwrap();
    let unconnected = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let nobody = [
        null.as_fd(),
        internet.as_fd(),
        pipe.as_fd(),
        listening.as_fd(),
        unconnected.as_fd(),
    ];
    for (count, descriptor) in nobody.into_iter().enumerate() {
        channel.send(&payload("connection", ""), &[descriptor]);
        assert!(matches!(channel.backend.try_recv().unwrap(), Next::Nothing));
        assert_eq!(channel.backend.dropped(), count as u64 + 1);
    }
}

#[test]
fn what_was_sent_before_the_end_is_received_and_then_the_end() {
    let mut channel = Channel::new();
    let _clients = [channel.send_connection(), channel.send_connection()];
    channel.sender = packets().0;
    assert!(channel.backend.recv().unwrap().is_some());
    assert!(channel.backend.recv().unwrap().is_some());
    assert!(channel.backend.recv().unwrap().is_none());
    assert!(channel.backend.recv().unwrap().is_none());
    assert_eq!(channel.backend.dropped(), 0);
}

#[test]
fn a_channel_that_was_shut_down_is_at_its_end_without_a_busy_loop() {
    let mut channel = Channel::new();
    nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(&channel.sender),
        nix::sys::socket::Shutdown::Write,
    )
    .unwrap();
    assert!(channel.backend.recv().unwrap().is_none());
    assert_eq!(channel.backend.dropped(), 0);
}

#[test]
fn the_hang_up_of_the_control_connection_ends_after_what_is_queued() {
    let (sender, receiver) = packets();
    let (control, ours) = packets();
    let mut backend = Backend::new(receiver, Some(ours));
    assert!(matches!(backend.try_recv().unwrap(), Next::Nothing));
    let (_client, server) = UnixStream::pair().unwrap();
    sys::scm::send(
        sender.as_fd(),
        &payload("connection", ""),
        &[server.as_fd()],
    )
    .unwrap();
    drop(control);
    // The channel itself stays open: somebody else may hold its other end.
    assert!(backend.recv().unwrap().is_some());
    assert!(backend.recv().unwrap().is_none());
    drop(sender);
}

#[test]
fn one_is_received_at_a_time_unless_a_batch_is_asked_for() {
    for (batch, left) in [(1, 4), (3, 2), (32, 0)] {
        let mut channel = Channel::new();
        let _clients: Vec<_> = (0..5).map(|_| channel.send_connection()).collect();
        channel.backend = channel.backend.batch(batch);
        channel.recv();
        let queued = sys::scm::queued(channel.backend.as_fd()).unwrap();
        assert_eq!(queued / payload("connection", "").len(), left);
        for _ in 0..4 {
            channel.recv();
        }
        assert!(matches!(channel.backend.try_recv().unwrap(), Next::Nothing));
    }
}

#[test]
fn workers_that_share_a_channel_get_each_connection_once() {
    const COUNT: usize = 60;
    let (sender, receiver) = packets();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let mut backend = Backend::new(receiver.try_clone().unwrap(), None);
            std::thread::spawn(move || {
                let mut inodes = Vec::new();
                while let Some(handoff) = backend.recv().unwrap() {
                    inodes.push(fstat(&handoff.connection).unwrap().st_ino);
                }
                inodes
            })
        })
        .collect();
    drop(receiver);
    let mut clients = Vec::new();
    let mut sent = Vec::new();
    while sent.len() < COUNT {
        let (client, server) = UnixStream::pair().unwrap();
        let message = payload("connection", "");
        match sys::scm::send(sender.as_fd(), &message, &[server.as_fd()]) {
            Ok(_) => {
                sent.push(fstat(&server).unwrap().st_ino);
                // Kept, so that no number is used twice.
                clients.push((client, server));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    drop(sender);
    let mut received: Vec<u64> = workers
        .into_iter()
        .flat_map(|worker| worker.join().unwrap())
        .collect();
    received.sort_unstable();
    sent.sort_unstable();
    assert_eq!(received, sent);
}

#[test]
fn the_greeting_brings_the_client_its_end_once() {
    let mut channel = Channel::new();
    let (client, server) = UnixStream::pair().unwrap();
    let (notify, notify_peer) = UnixStream::pair().unwrap();
    let fds = [server.as_fd(), notify.as_fd(), notify_peer.as_fd()];
    channel.send(&payload("connection:notify:notify-peer", ""), &fds);
    let mut handoff = channel.recv();
    handoff.greet().unwrap();
    assert!(handoff.notify_peer.is_none());
    handoff.greet().unwrap();
    let mut text = [0; 64];
    let received = sys::scm::receive(client.as_fd(), &mut text, libc::MSG_DONTWAIT).unwrap();
    assert_eq!(&text[..received.length], b"doorward 1\n");
    assert_eq!(received.descriptors.len(), 1);
    assert_eq!(
        fstat(&received.descriptors[0]).unwrap().st_ino,
        fstat(&notify_peer).unwrap().st_ino
    );
    let again = sys::scm::receive(client.as_fd(), &mut text, libc::MSG_DONTWAIT);
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_greeting_to_a_client_that_has_gone_says_so() {
    let mut channel = Channel::new();
    let (client, server) = UnixStream::pair().unwrap();
    let (_notify, notify_peer) = UnixStream::pair().unwrap();
    channel.send(
        &payload("connection:notify-peer", ""),
        &[server.as_fd(), notify_peer.as_fd()],
    );
    drop(client);
    let greeted = channel.recv().greet();
    assert!(
        matches!(greeted, Err(Error::System(_, cause)) if cause.kind() == io::ErrorKind::BrokenPipe)
    );
}

/// The limit is the whole process's, so this test has one of its own.
#[test]
fn at_the_descriptor_limit_messages_wait_in_the_channel() {
    let inner = "backend::tests::inner_at_the_descriptor_limit";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            inner,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run in a process of its own by the test before it"]
fn inner_at_the_descriptor_limit() {
    use nix::sys::resource::{Resource, setrlimit};
    let mut channel = Channel::new();
    let _client = channel.send_connection();
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let null = File::open("/dev/null").unwrap();
    let mut held = Vec::new();
    while let Ok(copy) = null.try_clone() {
        held.push(copy);
    }
    let before = sys::scm::queued(channel.backend.as_fd()).unwrap();
    assert!(before > 0);
    for _ in 0..sys::scm::MOST_SENT {
        assert!(matches!(channel.backend.try_recv().unwrap(), Next::NoRoom));
        assert_eq!(
            sys::scm::queued(channel.backend.as_fd()).unwrap(),
            before,
            "a message was taken without room"
        );
        held.pop();
    }
    channel.recv();
    assert_eq!(channel.backend.dropped(), 0);
    // The blocking call waits for room that another thread makes.
    while let Ok(copy) = null.try_clone() {
        held.push(copy);
    }
    let sent = channel.sender.as_fd();
    sys::scm::send(sent, &payload("connection", ""), &[channel.sender.as_fd()]).unwrap();
    let freeing = std::thread::spawn(move || {
        std::thread::sleep(PAUSE);
        drop(held);
    });
    assert!(channel.backend.recv().unwrap().is_some());
    freeing.join().unwrap();
    more_descriptors_than_fit_cost_their_connection_alone(&mut channel);
}

/// No doorward sends so many: the room that was looked for is not enough, and the kernel cuts the message short.
fn more_descriptors_than_fit_cost_their_connection_alone(channel: &mut Channel) {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::AsRawFd as _;
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let (client, server) = UnixStream::pair().unwrap();
    let many = [server.as_raw_fd(); 100];
    sendmsg::<()>(
        channel.sender.as_raw_fd(),
        &[io::IoSlice::new(&payload("connection", ""))],
        &[ControlMessage::ScmRights(&many)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    drop(server);
    channel.assert_dropped(client, "cut short");
    // Nor does anything of what was not taken stay open.
    for names in ["connection:later", "later", "connection:notify"] {
        let (client, server) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        channel.send(&payload(names, ""), &[server.as_fd(), null.as_fd()]);
        drop((server, null));
        if let Next::Handoff(handoff) = channel.backend.try_recv().unwrap() {
            drop(handoff);
        }
        drop(client);
    }
    assert_eq!(open(), before);
}

#[cfg(feature = "tokio")]
#[test]
fn an_async_backend_waits_receives_and_ends() {
    let channel = Channel::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let Channel {
            sender, backend, ..
        } = channel;
        let mut backend = AsyncBackend::new(backend).unwrap();
        let waiting = tokio::time::timeout(PAUSE, backend.recv()).await;
        assert!(waiting.is_err(), "received what was not sent");
        let mut clients = Vec::new();
        for _ in 0..3 {
            let (client, server) = UnixStream::pair().unwrap();
            let message = payload("connection", "");
            sys::scm::send(sender.as_fd(), &message, &[server.as_fd()]).unwrap();
            clients.push(client);
        }
        for _ in 0..2 {
            assert!(backend.recv().await.unwrap().is_some());
        }
        let ending = tokio::spawn(async move {
            let mut rest = 0;
            while backend.recv().await.unwrap().is_some() {
                rest += 1;
            }
            (rest, backend.dropped())
        });
        drop(sender);
        assert_eq!(ending.await.unwrap(), (1, 0));
    });
}

//! Backends that listen elsewhere: who they are, when they come, and what their end leaves.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use super::{NOBODY, ask, door, order, pid, serving};
use crate::support::neighbour::Neighbour;
use crate::support::{Door, Served, eventually, probe};

/// A SEQPACKET socket that listens at `path`.
pub fn listener(path: &Path) -> OwnedFd {
    let socket = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&socket, Backlog::new(16).unwrap()).unwrap();
    socket
}

/// A place for a listening backend, and the door that looks for it there.
struct Pair {
    host: Neighbour,
    path: PathBuf,
}

impl Pair {
    fn new() -> Pair {
        let host = Neighbour::new();
        let path = host.path("backend");
        Pair { host, path }
    }

    /// Starts the backend; gives its pid.
    fn start(&mut self, options: &[&str]) -> i32 {
        self.start_by(&[], options)
    }

    /// The same by a program that execs it.
    fn start_by(&mut self, wrap: &[&str], options: &[&str]) -> i32 {
        let probe = probe().to_str().unwrap().to_owned();
        let mut words: Vec<String> = wrap.iter().map(|&word| word.to_owned()).collect();
        words.extend([probe, "backend".to_owned(), "--listen".to_owned()]);
        words.push(self.path.to_str().unwrap().to_owned());
        words.extend(options.iter().map(|&word| word.to_owned()));
        let mut command = self.host.command(&words[0]);
        command.args(&words[1..]);
        self.host.start(&mut command)
    }

    fn kill(&mut self) {
        self.host.stop(Signal::SIGKILL);
    }

    fn door(&self, options: &[&str]) -> Door {
        let path = self.path.to_str().unwrap();
        door().args(["--backend", path]).args(options)
    }
}

fn wait_connected(door: &Served, count: usize) {
    eventually("the control connection", || {
        door.count_log("backend start path=") >= count
    });
}

#[test]
fn listening_backend_gets_the_channel_and_answers() {
    let mut pair = Pair::new();
    let backend = pair.start(&[]);
    let door = pair.door(&[]).serve(NOBODY);
    assert_eq!(serving(&door), backend);
    assert_eq!(ask(&door, "pair"), "there back\n");
    assert!(door.children().is_empty());
    assert!(
        door.wait_log("backend start")
            .contains(pair.path.to_str().unwrap())
    );
}

#[test]
fn backend_that_is_not_there_yet_is_waited_for_and_clients_with_it() {
    let mut pair = Pair::new();
    let door = pair.door(&[]).serve(NOBODY);
    let line = door.wait_log("backend wait path=");
    assert!(line.contains(" cause=No such file"), "{line}");
    let mut client = door.connect();
    order(&mut client, "pid");
    super::wait_allowed(&door, 1);
    client.assert_open();
    let backend = pair.start(&[]);
    assert_eq!(pid(&client.read_text()), backend);
}

#[test]
fn hang_up_is_the_backends_death_and_the_next_gets_what_it_had_not_received() {
    let mut pair = Pair::new();
    pair.start(&[]);
    let door = pair.door(&[]).serve(NOBODY);
    let mut taken = super::occupying(&door);
    let mut queued: Vec<_> = (0..3).map(|_| door.connect()).collect();
    queued.iter_mut().for_each(|client| order(client, "pid"));
    super::wait_allowed(&door, 4);

    pair.kill();
    taken.assert_closed();
    let line = door.wait_log("backend exit path=");
    assert!(line.contains("again=0.10"), "{line}");
    queued.iter().for_each(crate::support::Client::assert_open);
    let next = pair.start(&[]);
    for mut client in queued {
        assert_eq!(pid(&client.read_text()), next);
    }
}

#[test]
fn connecting_again_is_success_for_the_backoff() {
    let mut pair = Pair::new();
    pair.start(&[]);
    let door = pair.door(&[]).serve(NOBODY);
    for round in 1..=4 {
        wait_connected(&door, round);
        pair.kill();
        pair.start(&[]);
        let line = door.wait_log("backend exit path=");
        assert!(line.contains("again=0.10"), "round {round}: {line}");
    }
}

#[test]
fn pauses_between_attempts_double() {
    let pair = Pair::new();
    // One line a second at most: the third attempt is past the first second, or later ones are.
    let door = pair.door(&[]).serve(NOBODY);
    let first = door.wait_log("backend wait path=");
    assert!(first.contains("again=0.10"), "{first}");
    let later = door.wait_log("backend wait path=");
    let after = later.rsplit_once("again=").unwrap().1;
    let pause = after.split(' ').next().unwrap();
    assert!(["0.80", "1.60", "3.20"].contains(&pause), "{later}");
}

/// Who may serve: another uid than ours or root's is refused, told and tried again.
#[test]
fn server_of_another_uid_gets_nothing() {
    need!(root, "setpriv");
    let mut pair = Pair::new();
    let dir = pair.host.path("theirs");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(4321), Some(4321)).unwrap();
    pair.path = dir.join("backend");
    let theirs = [
        "setpriv",
        "--reuid",
        "4321",
        "--regid",
        "4321",
        "--clear-groups",
    ];
    pair.start_by(&theirs, &[]);
    eventually("the impostor's socket", || pair.path.exists());

    let door = pair.door(&[]).serve(NOBODY);
    let line = door.wait_log("backend wait path=");
    assert!(
        line.contains("--server") && line.contains("user=4321"),
        "{line}"
    );
    let mut client = door.connect();
    order(&mut client, "pid");
    super::wait_allowed(&door, 1);
    client.assert_open();
    assert_eq!(door.count_log("backend start"), 0);

    // Told to trust that uid, it does.
    let trusting = pair.door(&["--server", "user:4321"]).serve(NOBODY);
    wait_connected(&trusting, 1);
    let theirs = serving(&trusting);
    drop(trusting);
    pair.kill();

    let ours = pair.start(&[]);
    assert_ne!(ours, theirs);
    assert_eq!(pid(&client.read_text()), ours);
}

#[test]
fn doorward_of_another_user_takes_its_own_servers_and_roots() {
    need!(root, "setpriv");
    let mut pair = Pair::new();
    std::os::unix::fs::chown(pair.host.path(""), Some(4321), Some(4321)).unwrap();
    let theirs = [
        "setpriv",
        "--reuid",
        "4321",
        "--regid",
        "4321",
        "--clear-groups",
    ];
    let own = pair.start_by(&theirs, &[]);
    let door = pair.door(&["--run-as", "4321:4321"]).serve(NOBODY);
    assert_eq!(serving(&door), own);
    pair.kill();
    let roots = pair.start_by(&[], &["--mode", "0666"]);
    assert_eq!(serving(&door), roots);
}

#[test]
fn garbage_on_the_control_connection_is_not_heard() {
    let mut pair = Pair::new();
    let backend = pair.start(&[]);
    let door = pair.door(&[]).serve(NOBODY);
    assert_eq!(ask(&door, "garbage"), "sent\n");
    assert_eq!(serving(&door), backend);
    assert_eq!(door.count_log("backend exit"), 0);
    // What came along was closed.
    eventually("few descriptors", || {
        let sockets = door
            .fds()
            .values()
            .filter(|to| to.starts_with("socket:"))
            .count();
        sockets < 20
    });
}

#[test]
fn listening_backend_that_shuts_the_channel_down_loses_nothing_that_is_queued() {
    let mut pair = Pair::new();
    pair.start(&[]);
    let door = pair.door(&[]).serve(NOBODY);
    let mut bad = door.connect();
    let mut queued: Vec<_> = (0..3).map(|_| door.connect()).collect();
    queued.iter_mut().for_each(|client| order(client, "pid"));
    super::wait_allowed(&door, 4);
    order(&mut bad, "shutdown both");
    assert_eq!(bad.read_line(), "shut");
    let mut late = door.connect();
    order(&mut late, "pid");
    door.wait_log("shut the channel down");
    pair.kill();
    let next = pair.start(&[]);
    for mut client in queued.into_iter().chain([late]) {
        assert_eq!(pid(&client.read_text()), next);
    }
}

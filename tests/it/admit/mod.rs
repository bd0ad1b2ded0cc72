//! `doorward admit`: finds the one connection that it was given, asks the kernel who is there, and becomes its program or refuses.

mod found;
mod parents;
mod program;
mod refusal;
mod rules;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::support::{Client, Dial, Door, Report, Scratch, Served, User, probe};

/// `doorward admit OPTIONS`, to be given a connection and a program.
fn admit<const N: usize>(options: [&str; N]) -> Door {
    Door::new()
        .command("admit")
        .no_bind()
        .no_notify()
        .args(options)
}

/// A connection that a server has accepted, and its client.
struct Accepted {
    socket: OwnedFd,
    client: Client,
    scratch: Scratch,
}

impl Accepted {
    /// Of who runs the test.
    fn here() -> Accepted {
        Accepted::of(|dial| dial)
    }

    fn of_user(user: &User) -> Accepted {
        Accepted::of(|dial| dial.user(user))
    }

    fn of(change: impl FnOnce(Dial) -> Dial) -> Accepted {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        let listening = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let client = change(Dial::to(path)).connect();
        let (socket, _) = listening.accept().unwrap();
        Accepted {
            socket: socket.into(),
            client,
            scratch,
        }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path("s")
    }

    /// One more descriptor of it.
    fn copy(&self) -> OwnedFd {
        self.socket.try_clone().unwrap()
    }

    /// On 0 and 1, as s6-ipcserverd gives it; the client alone is left.
    fn on_0_and_1(self, door: Door) -> (Door, Client) {
        let door = door.fd0(self.copy()).fd1(self.socket);
        (door, self.client)
    }

    /// On 0, 1 and 2, as inetd gives it.
    fn on_0_to_2(self, door: Door) -> (Door, Client) {
        let door = door.fd0(self.copy()).fd1(self.copy()).fd2(self.socket);
        (door, self.client)
    }

    /// On 6 and 7.
    fn on_6_and_7(self, door: Door) -> (Door, Client) {
        let door = door.fd(6, self.copy()).fd(7, self.socket);
        (door, self.client)
    }

    /// On 3, with the variables.
    fn by_listen_fds(self, door: Door) -> (Door, Client) {
        (door.listen_fds([self.socket], &["connection"]), self.client)
    }
}

/// The program that writes its report to descriptor `fd`.
fn reporter(fd: &str) -> [String; 3] {
    [probe().to_str().unwrap().into(), "report".into(), fd.into()]
}

/// Starts `door` with the reporter, and gives what its program found.
#[track_caller]
fn report(door: Door, fd: &str, client: &mut Client) -> Report {
    let mut door = door.start(reporter(fd));
    let text = client.read_to_end();
    let status = door.wait_exit();
    assert!(status.success(), "{status}: {:?}", door.whole_log());
    Report::parse(text)
}

/// Starts `door` with a program that must not run, and gives its exit code and the rest of it.
#[track_caller]
fn refused(door: Door) -> (i32, Served) {
    let mut door = door.start(["echo", "it ran"]);
    let status = door.wait_exit();
    assert_eq!(door.output().whole(), [""; 0]);
    (status.code().expect("an exit code"), door)
}

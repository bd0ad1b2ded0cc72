//! `doorward relay`, and `doorward connect` without a program: one relay, two ways to start it.

mod ends;
mod idle;
mod interop;
mod kinds;
mod volume;
mod wrong_use;

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::connect::connect;
use crate::support::{DEADLINE, Door, Scratch, Served, eventually};

/// For `doorward connect`: no program.
const NOBODY: [&str; 0] = [];

/// A relay that runs between two pipes of the test's and a server that the test plays.
struct Relay {
    process: Served,
    /// Standard input; taken to close it.
    stdin: Option<Patient<PipeWriter>>,
    stdout: Option<Patient<PipeReader>>,
    /// The server's side of the connection.
    server: UnixStream,
    _scratch: Scratch,
}

impl Relay {
    /// `doorward connect PATH`.
    fn new() -> Relay {
        Relay::at(|scratch| {
            let listening = UnixListener::bind(scratch.path("s")).unwrap();
            let accept = move || listening.accept().unwrap().0;
            (connect(&scratch.path("s"), []), accept)
        })
    }

    /// `doorward relay OPTIONS`, with a connection on 6 and 7.
    fn on_descriptors<const N: usize>(options: [&str; N]) -> Relay {
        Relay::at(|_| {
            let (near, far) = UnixStream::pair().unwrap();
            let copy = near.try_clone().unwrap();
            let door = relay(options).fd(6, near).fd(7, copy);
            (door, move || far)
        })
    }

    fn at<A: FnOnce() -> UnixStream>(start: impl FnOnce(&Scratch) -> (Door, A)) -> Relay {
        let scratch = Scratch::new();
        let (door, server) = start(&scratch);
        let ((stdin, write), (read, stdout)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let process = door.fd0(stdin).fd1(stdout).start(NOBODY);
        let server = server();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        server.set_write_timeout(Some(DEADLINE)).unwrap();
        Relay {
            process,
            stdin: Some(Patient::new(write)),
            stdout: Some(Patient::new(read)),
            server,
            _scratch: scratch,
        }
    }

    /// Writes to its standard input.
    fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input");
        stdin.write_all(text.as_bytes()).unwrap();
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// All of its standard output, to the end.
    fn output(&mut self) -> String {
        let mut text = String::new();
        let mut stdout = self.stdout.take().expect("standard output");
        stdout.read_to_string(&mut text).unwrap();
        text
    }

    /// The next bytes on its standard output.
    fn hear(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        let stdout = self.stdout.as_mut().expect("standard output");
        stdout.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    /// The next bytes that the server gets.
    #[track_caller]
    fn server_gets(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        self.server.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    /// The server reads the end of file.
    #[track_caller]
    fn server_sees_the_end(&mut self) {
        assert_eq!(self.server.read(&mut [0; 64]).unwrap(), 0);
    }

    #[track_caller]
    fn ends_with(&mut self, code: i32) {
        let status = self.process.wait_exit();
        assert_eq!(status.code(), Some(code), "{:?}", self.process.whole_log());
    }

    /// Waits until it does nothing but wait.
    #[track_caller]
    fn wait_asleep(&self) {
        let pid = self.process.pid();
        let waits = |entry: std::fs::DirEntry| {
            let call = std::fs::read_to_string(entry.path().join("syscall"));
            let waiting = [libc::SYS_poll, libc::SYS_ppoll, libc::SYS_futex];
            call.is_ok_and(|call| {
                waiting
                    .iter()
                    .any(|number| call.starts_with(&format!("{number} ")))
            })
        };
        eventually("all threads to wait", || {
            let threads: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task"))
                .unwrap()
                .flatten()
                .collect();
            // The one that ends them all, and a direction at least.
            threads.len() >= 2 && threads.into_iter().all(waits)
        });
    }
}

/// The test's end of a pipe: it waits for the other as long as anything may take, and no longer.
struct Patient<T>(T);

impl<T: AsFd> Patient<T> {
    /// The flag is that of this end alone.
    fn new(end: T) -> Patient<T> {
        let flags = OFlag::from_bits_retain(fcntl(&end, FcntlArg::F_GETFL).unwrap());
        fcntl(&end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
        Patient(end)
    }

    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let limit = PollTimeout::try_from(DEADLINE).unwrap();
        match poll(&mut [PollFd::new(self.0.as_fd(), events)], limit)? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

impl<T: AsFd> AsFd for Patient<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd + Read> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLIN)?;
        self.0.read(buffer)
    }
}

impl<T: AsFd + Write> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLOUT)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `doorward relay OPTIONS`.
fn relay<const N: usize>(options: [&str; N]) -> Door {
    Door::new()
        .command("relay")
        .no_bind()
        .no_notify()
        .args(options)
}

/// Both ways to start it: what holds of one must hold of the other.
fn both() -> [Relay; 2] {
    [Relay::new(), Relay::on_descriptors([])]
}

#[track_caller]
fn assert_died_of_broken_pipe(status: ExitStatus) {
    assert_eq!(status.signal(), Some(libc::SIGPIPE), "{status}");
}

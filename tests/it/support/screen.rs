//! A user at a terminal: what is typed, what is shown, and the modes that a program leaves behind.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::{Gid, Pid, Uid, fchown, ttyname};

use super::mark::Mark;
use super::{DEADLINE, User, raw};

/// A terminal, and what is to be started in it.
pub struct Screen {
    outside: OwnedFd,
    inside: OwnedFd,
    user: Option<User>,
    standard: [Option<Stdio>; 3],
    background: bool,
}

impl Screen {
    /// 24 rows of 80 columns.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Screen {
        let (outside, inside) = raw::terminal();
        raw::set_window(&outside, 24, 80);
        Screen {
            outside,
            inside,
            user: None,
            standard: [None, None, None],
            background: false,
        }
    }

    /// Whose terminal it is, and who runs what is started.
    pub fn user(mut self, user: &User) -> Screen {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        fchown(&self.inside, Some(uid), Some(gid)).expect("chown of a terminal");
        fchmod(&self.inside, Mode::S_IRUSR | Mode::S_IWUSR).expect("chmod of a terminal");
        self.user = Some(user.clone());
        self
    }

    /// Another descriptor 0, 1 or 2 than the terminal.
    pub fn standard(mut self, number: usize, other: impl Into<Stdio>) -> Screen {
        self.standard[number] = Some(other.into());
        self
    }

    /// What is started does not have it as its controlling terminal.
    pub fn uncontrolled(mut self) -> Screen {
        self.background = true;
        self
    }

    /// Starts it, as the leader of the session in the terminal.
    #[track_caller]
    pub fn start<S: AsRef<OsStr>>(self, words: impl IntoIterator<Item = S>) -> Session {
        let mark = Mark::new();
        let mut all: Vec<OsString> = Vec::new();
        if let Some(user) = &self.user {
            all.extend(["setpriv".into(), format!("--reuid={}", user.uid).into()]);
            all.push(format!("--regid={}", user.gid).into());
            all.push("--clear-groups".into());
        }
        all.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("TERM", "dumb").env("PS1", "ready> ");
        mark.put_on(&mut command);
        let terminal = || Stdio::from(self.inside.try_clone().expect("a copy"));
        let [stdin, stdout, stderr] = self.standard;
        command.stdin(stdin.unwrap_or_else(terminal));
        command.stdout(stdout.unwrap_or_else(terminal));
        command.stderr(stderr.unwrap_or_else(terminal));
        let controlling = (!self.background).then(|| self.inside.try_clone().expect("a copy"));
        raw::lead_a_session(&mut command, controlling);
        let child = command.spawn().unwrap_or_else(|e| panic!("{all:?}: {e}"));
        raw::set_nonblocking(&self.outside);
        Session {
            outside: File::from(self.outside),
            inside: self.inside,
            child,
            mark,
            shown: Vec::new(),
            waited: 0,
        }
    }
}

/// What runs in a terminal. When dropped it is killed.
pub struct Session {
    outside: File,
    inside: OwnedFd,
    child: Child,
    mark: Mark,
    shown: Vec<u8>,
    waited: usize,
}

impl Session {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The terminal's name.
    pub fn name(&self) -> PathBuf {
        ttyname(&self.inside).expect("ttyname")
    }

    /// The terminal's device number.
    pub fn device(&self) -> u64 {
        fstat(&self.inside).expect("fstat").st_rdev
    }

    pub fn modes(&self) -> Termios {
        tcgetattr(&self.inside).expect("tcgetattr")
    }

    /// Whether keys come one by one, unshown.
    pub fn is_raw(&self) -> bool {
        let flags = self.modes().local_flags;
        !flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        raw::set_window(&self.outside, rows, columns);
    }

    /// Types.
    #[track_caller]
    pub fn type_in(&mut self, keys: &str) {
        self.outside.write_all(keys.as_bytes()).expect("typing");
    }

    /// What the next reader of the terminal finds, if it is at lines: bytes that nobody has read.
    pub fn unread(&self) -> usize {
        raw::queued(&self.inside).expect("FIONREAD")
    }

    /// Takes what is shown until now.
    fn look(&mut self) {
        let mut chunk = [0; 65536];
        while let Ok(length @ 1..) = self.outside.read(&mut chunk) {
            self.shown.extend_from_slice(&chunk[..length]);
        }
    }

    /// All that was shown so far.
    pub fn shown(&mut self) -> String {
        self.look();
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Waits until `text` is shown, behind all that was waited for before; gives what came with and before it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            self.look();
            let new = &self.shown[self.waited..];
            let mut windows = new.windows(text.len());
            if let Some(at) = windows.position(|window| window == text.as_bytes()) {
                let until = at + text.len();
                let found = String::from_utf8_lossy(&new[..until]).into_owned();
                self.waited += until;
                return found;
            }
            assert!(
                Instant::now() < end,
                "no (further) {text:?} on the screen:\n{:?}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal");
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; the screen is read meanwhile.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            let status = self.child.try_wait().expect("wait");
            self.look();
            if let Some(status) = status {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{:?}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The user closes the window.
    pub fn close(mut self) -> Closed {
        self.look();
        let name = self.name();
        let Session {
            outside, inside, ..
        } = &mut self;
        *outside = File::open("/dev/null").expect("/dev/null");
        *inside = OwnedFd::from(File::open("/dev/null").expect("/dev/null"));
        Closed {
            session: self,
            name,
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.inside.as_fd()
    }
}

/// A session whose terminal is gone.
pub struct Closed {
    session: Session,
    /// What its name was.
    pub name: PathBuf,
}

impl Closed {
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.session.wait_exit()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.mark.end_all(&mut self.child);
    }
}

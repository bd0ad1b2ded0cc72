//! A doorward that was started: what it says, what it has, and its end.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lines::Lines;
use super::mark::Mark;
use super::notices::{Notice, Notices};
use super::{Client, DEADLINE, Dial, Scratch, User, eventually, inspect};

/// A doorward that runs. When dropped it is killed, with all it started, and its directory goes.
pub struct Served {
    pub(super) child: Child,
    pub(super) log: Lines,
    pub(super) output: Lines,
    pub(super) notices: Option<Notices>,
    pub(super) socket: PathBuf,
    pub(super) mark: Mark,
    pub(super) scratch: Scratch,
}

impl Served {
    /// Where it listens by `--bind`, else `DIR/s`.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.scratch.dir()
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// A client of its socket, as who runs the test.
    #[track_caller]
    pub fn connect(&self) -> Client {
        self.dial().connect()
    }

    /// A client as another user.
    #[track_caller]
    pub fn connect_as(&self, user: &User) -> Client {
        self.dial().user(user).connect()
    }

    /// A client yet to be described.
    pub fn dial(&self) -> Dial {
        Dial::to(self.socket())
    }

    /// The lines on its stderr so far.
    pub fn log(&self) -> Vec<String> {
        self.log.all()
    }

    /// All lines up to its end: nothing is still on its way.
    pub fn whole_log(&self) -> Vec<String> {
        self.log.whole()
    }

    /// The first log line with `text` that no wait before has taken; waits for it, and shows the log if it never comes.
    #[track_caller]
    pub fn wait_log(&self, text: &str) -> String {
        self.log.take(text).unwrap_or_else(|| {
            panic!(
                "no (further) line with {text:?} in:\n{}",
                self.log().join("\n")
            )
        })
    }

    /// How many log lines so far contain `text`.
    pub fn count_log(&self, text: &str) -> usize {
        self.log.count(text)
    }

    /// The lines on its stdout, which children have too.
    pub fn output(&self) -> &Lines {
        &self.output
    }

    /// The service manager's side.
    #[track_caller]
    pub fn notices(&self) -> &Notices {
        self.notices.as_ref().expect("a NOTIFY_SOCKET")
    }

    /// Waits for a notification with `text`.
    #[track_caller]
    pub fn wait_notice(&self, text: &str) -> Notice {
        let notices = self.notices();
        notices
            .wait_for(text, DEADLINE)
            .unwrap_or_else(|| panic!("no {text:?} in {:#?}", notices.all()))
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(
                Instant::now() < end,
                "doorward does not end:\n{}",
                self.log().join("\n")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and the exit status.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its children that live.
    pub fn children(&self) -> Vec<i32> {
        inspect::children(self.pid())
    }

    /// Waits until it has exactly `count` children.
    #[track_caller]
    pub fn wait_children(&self, count: usize) -> Vec<i32> {
        eventually(&format!("{count} children"), || {
            self.children().len() == count
        });
        self.children()
    }

    /// How many slots are taken, by its own word.
    #[track_caller]
    pub fn slots(&self) -> u32 {
        self.signal(Signal::SIGUSR1);
        let line = self.wait_log("doorward: status ");
        let text = line.split("slots=").nth(1).expect("slots=");
        let taken = text.split('/').next().expect("a number");
        taken.parse().expect("a number")
    }

    /// Waits until exactly `count` slots are taken. The end of a child is not yet that of its slot: doorward must have noticed it.
    #[track_caller]
    pub fn wait_slots(&self, count: u32) {
        eventually(&format!("{count} slots taken"), || self.slots() == count);
    }

    /// Stops it, and waits until none of its threads runs: each of them stops for itself.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        eventually("doorward to stand still", || {
            inspect::stands_still(self.pid())
        });
    }

    /// Lets it go on.
    #[track_caller]
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Its open descriptors.
    pub fn fds(&self) -> std::collections::BTreeMap<i32, String> {
        inspect::fds(self.pid())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.mark.end_all(&mut self.child);
    }
}

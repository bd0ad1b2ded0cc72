//! A program that runs for a caller: signals go in, stops and the end come out, and it does not outlive its caller.
#![forbid(unsafe_code)]

use super::caller::{Caller, Word};
use super::descendants::{end_all, reap};
use super::frame::Reply;
use super::pty::Terminal;
use crate::admission::{Peer, UserIs};
use crate::report::{self, Escaped, Kind, Seconds, event};
use crate::sys;
use crate::sys::wait::{Change, End};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// From SIGTERM to SIGKILL, when the caller is gone.
const GRACE: Duration = Duration::from_secs(5);
/// The same when this process is told to end: who told it has five seconds of patience too, so all is over before.
const SHORT_GRACE: Duration = Duration::from_secs(4);

/// From the hang-up of a terminal to the end of the caller's connection, if it has died: the kernel closes both at once.
const MOMENT: Duration = Duration::from_millis(200);

/// What ends this process, and all below it.
const TOLD: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// Brings the signals into a known state and gives the descriptor of those that matter here.
pub(super) fn watched_signals() -> io::Result<SignalFd> {
    // Ignored, SIGCHLD would take every child's end with it.
    sys::signal::all_default()?;
    let mut watched: SigSet = TOLD.into_iter().collect();
    watched.add(Signal::SIGCHLD);
    let mut blocked = watched;
    // It comes of writing a log line, or to a caller that has gone.
    blocked.add(Signal::SIGPIPE);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&watched, flags)?)
}

/// Why the program is no longer attended to.
enum Over {
    Ended(End),
    /// All below is to be ended: the caller is gone.
    CallerGone,
    /// The caller broke the protocol.
    Nonsense,
    /// This process was told to end.
    Told,
}

pub(super) struct Supervision {
    /// `None`: gone, and the program goes on without it.
    caller: Option<Caller>,
    signals: SignalFd,
    /// The program: also the number of its process group, as long as it is not reaped.
    leader: Pid,
    detached: bool,
    /// The program's own.
    terminal: Option<Terminal>,
    hung_up: bool,
    /// How many SIGCONT the caller has sent: a stop that was before the last of them is over.
    continued: u32,
}

impl Supervision {
    pub(super) fn new(
        caller: Caller,
        signals: SignalFd,
        leader: Pid,
        detached: bool,
    ) -> Supervision {
        Supervision {
            caller: Some(caller),
            signals,
            leader,
            detached,
            terminal: None,
            hung_up: false,
            continued: 0,
        }
    }

    /// The program runs in a terminal of its own.
    pub(super) fn in_terminal(mut self, mut terminal: Option<Terminal>) -> Supervision {
        let early = terminal.as_mut().map(|own| std::mem::take(&mut own.early));
        for signal in early.unwrap_or_default() {
            self.pass(signal);
        }
        self.terminal = terminal;
        self
    }

    /// Comes back when the program has ended and its caller knows, or when nothing of it is left.
    pub(super) fn attend(mut self, peer: &Peer) {
        let start = Instant::now();
        let over = loop {
            if let Some(over) = self.turn() {
                break over;
            }
        };
        let (leader, signals) = (Some(self.leader), &self.signals);
        let end = match over {
            Over::Ended(end) => {
                if !self.detached && self.caller_has_died() {
                    // It was the first to go, and the program ended of that.
                    end_all(signals, None, GRACE);
                }
                Some(end)
            }
            Over::CallerGone => {
                report::line(Kind::Connection, format_args!("gone {peer}"));
                end_all(signals, leader, GRACE)
            }
            Over::Nonsense => {
                let cause = Escaped(b"words that no caller says");
                event!("deny {peer} reason=request cause={cause}");
                end_all(signals, leader, GRACE)
            }
            Over::Told => end_all(signals, leader, SHORT_GRACE),
        };
        let end = end.unwrap_or(End::Unknown);
        if let Some(caller) = &self.caller {
            match end {
                // What does not fit into a byte is no exit code.
                End::Code(code) => caller.tell(Reply::Exited(code as u8)),
                End::Signal(signal) => caller.tell(Reply::Killed(signal)),
                End::Unknown => {}
            }
        }
        let line = format_args!(
            "end child={} {} {end} seconds={}",
            self.leader,
            UserIs(peer.uid),
            Seconds(start.elapsed())
        );
        report::line(Kind::Connection, line);
    }

    /// Waits for what happens next.
    fn turn(&mut self) -> Option<Over> {
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let heard = match &self.caller {
            Some(caller) => {
                let caller = PollFd::new(caller.connection(), PollFlags::POLLIN);
                let mut watched = [signals, caller];
                poll(&mut watched, PollTimeout::NONE).map(|_| watched.map(|fd| fd.any()))
            }
            None => {
                let mut watched = [signals];
                poll(&mut watched, PollTimeout::NONE).map(|_| [watched[0].any(), Some(false)])
            }
        };
        let [signals, caller] = match heard {
            Ok(heard) => heard.map(|any| any != Some(false)),
            Err(Errno::EINTR) => return None,
            // Without poll nothing can be attended to.
            Err(_) => return Some(Over::Told),
        };
        if signals && let Some(over) = self.read_signals() {
            return Some(over);
        }
        if caller { self.listen() } else { None }
    }

    fn read_signals(&mut self) -> Option<Over> {
        let (mut told, mut hangs_up) = (false, false);
        while let Some(signal) = sys::signal::next(&self.signals) {
            if self.terminal.is_some() && signal == Signal::SIGHUP {
                hangs_up = true;
                continue;
            }
            told |= TOLD.contains(&signal);
        }
        self.hung_up |= hangs_up;
        let mut end = None;
        let mut stopped = None;
        reap(Some(self.leader), |change| match change {
            Change::Ended(how) => end = Some(how),
            Change::Stopped(signal) => stopped = Some(signal),
        });
        if let Some(end) = end {
            return Some(Over::Ended(end));
        }
        if let (Some(signal), Some(caller)) = (stopped, &self.caller) {
            let terminal = self.terminal.as_ref();
            let wanted = terminal.is_some_and(|own| own.is_wanted(signal, self.leader));
            caller.tell(if wanted {
                Reply::Foreground
            } else {
                Reply::Stopped(self.continued)
            });
        }
        if hangs_up {
            if self.caller_has_died() {
                return Some(Over::CallerGone);
            }
            self.hang_up();
        }
        told.then_some(Over::Told)
    }

    /// The hang-up of the program's terminal may come before the end of the connection.
    fn caller_has_died(&self) -> bool {
        let moment = if self.hung_up { MOMENT } else { Duration::ZERO };
        let caller = self.caller.as_ref();
        caller.is_some_and(|caller| caller.goes_within(moment))
    }

    /// The program's terminal has hung up, of which the kernel tells the leader of its session alone: this process.
    fn hang_up(&self) {
        for signal in [Signal::SIGHUP, Signal::SIGCONT] {
            // The leader is not reaped, so the number is its group's.
            let _ = killpg(self.leader, signal);
        }
    }

    fn listen(&mut self) -> Option<Over> {
        match self.caller.as_mut()?.hear()? {
            Word::Signal(signal) => {
                self.pass(signal);
                None
            }
            Word::Gone if self.detached => {
                self.caller = None;
                None
            }
            Word::Gone => Some(Over::CallerGone),
            Word::Prepared | Word::Nonsense => Some(Over::Nonsense),
        }
    }

    fn pass(&mut self, signal: Signal) {
        if signal == Signal::SIGCONT {
            self.continued = self.continued.wrapping_add(1);
        }
        // The leader is not reaped, so the number is its group's.
        let _ = killpg(self.leader, signal);
    }
}

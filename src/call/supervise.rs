//! A program that runs for a caller: signals go in, stops and the end come out, and it does not outlive its caller.
#![forbid(unsafe_code)]

use super::caller::{Caller, Word};
use super::descendants::{end_all, reap};
use super::frame::Reply;
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
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// From SIGTERM to SIGKILL, when the caller is gone.
const GRACE: Duration = Duration::from_secs(5);
/// The same when this process is told to end: who told it has five seconds of patience too, so all is over before.
const SHORT_GRACE: Duration = Duration::from_secs(4);

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
            continued: 0,
        }
    }

    /// Comes back when the program has ended and its caller knows, or when nothing of it is left. The program's terminal is held until its
    /// end, so that the caller finds no end of file there as long as the program might open it again.
    pub(super) fn attend(mut self, peer: &Peer, terminal: Option<OwnedFd>) {
        let start = Instant::now();
        let over = loop {
            if let Some(over) = self.turn() {
                break over;
            }
        };
        let (leader, signals) = (Some(self.leader), &self.signals);
        let end = match over {
            Over::Ended(end) => Some(end),
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
        drop(terminal);
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
        let mut told = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            told |= TOLD.iter().any(|signal| *signal as u32 == info.ssi_signo);
        }
        let mut end = None;
        let mut stopped = false;
        reap(Some(self.leader), |change| match change {
            Change::Ended(how) => end = Some(how),
            Change::Stopped => stopped = true,
        });
        if let Some(end) = end {
            return Some(Over::Ended(end));
        }
        if stopped && let Some(caller) = &self.caller {
            caller.tell(Reply::Stopped(self.continued));
        }
        told.then_some(Over::Told)
    }

    fn listen(&mut self) -> Option<Over> {
        match self.caller.as_mut()?.hear()? {
            Word::Signal(signal) => {
                if signal == Signal::SIGCONT {
                    self.continued = self.continued.wrapping_add(1);
                }
                // The leader is not reaped, so the number is its group's.
                let _ = killpg(self.leader, signal);
                None
            }
            Word::Gone if self.detached => {
                self.caller = None;
                None
            }
            Word::Gone => Some(Over::CallerGone),
            Word::Nonsense => Some(Over::Nonsense),
        }
    }
}

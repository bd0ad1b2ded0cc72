//! What `call` and the answering side say to each other, from the request to the end of the program; signals and the terminal meanwhile.
#![forbid(unsafe_code)]

use super::caller::Protocol;
use super::client::{Call, Descriptors};
use super::frame::{self, FORWARDED, Reply};
use super::pty::{self, Own, Relay};
use super::receive::is_passing;
use super::wire::Role;
use super::{patience, s6};
use crate::exit::{self, Failure, Unable as _};
use crate::sys::wait::End;
use crate::{report, sys};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a terminal that is not to be had is told by.
const SET: &str = "set up the terminal";
/// What else ends a process by its default. With a terminal to put in order before, they are read as those are that are passed on.
const DEADLY: [Signal; 7] = [
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGXCPU,
];
/// How long a signal may take to end a program of which nobody knows yet whether it runs.
const MOMENT: Duration = Duration::from_secs(1);

/// The signals that are passed on, none of which does anything here any more but be read. What the parent ignored stays ignored.
fn passed_signals(call: &Call) -> exit::Result<Option<SignalFd>> {
    if call.protocol == Protocol::S6 {
        // It has no words for signals: they act on this process, and its end is the program's.
        return Ok(None);
    }
    let mut passed = SigSet::empty();
    let deadly = DEADLY.iter().filter(|_| call.pty);
    for &signal in FORWARDED.iter().chain(deadly) {
        // Every stop ends with one, and an ignored one would not be heard of.
        if signal == Signal::SIGCONT
            || !sys::signal::is_ignored(signal).unable("ask for a signal")?
        {
            passed.add(signal);
        }
    }
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&passed), None).unable("block signals")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&passed, flags)
        .map(Some)
        .unable("read signals as a descriptor")
}

/// From the request to the end of the program.
pub(super) struct Conversation<'a> {
    call: &'a Call,
    connection: OwnedFd,
    signals: Option<SignalFd>,
    /// This process's terminal, until there is a relay.
    own: Option<Own>,
    /// Those of 0, 1 and 2 that are the program's own terminal.
    terminal: Vec<Role>,
    /// A descriptor that came with a message.
    arrived: Vec<OwnedFd>,
    /// The program runs.
    started: bool,
    /// A signal that came before that was known, and until when its effect is waited for.
    deadly: Option<(Signal, Instant)>,
    /// How many SIGCONT were passed on.
    continued: u32,
    /// Between this terminal and the program's, if it has one.
    relay: Option<Relay>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        call: &'a Call,
        connection: OwnedFd,
        terminal: Option<(Own, Vec<Role>)>,
    ) -> Conversation<'a> {
        let (own, terminal) = terminal.unzip();
        Conversation {
            call,
            connection,
            signals: None,
            own,
            terminal: terminal.unwrap_or_default(),
            arrived: Vec::new(),
            started: false,
            deadly: None,
            continued: 0,
            relay: None,
        }
    }

    /// Sends the request, and comes back with the exit code of the program.
    pub(super) fn hold(
        mut self,
        message: &[u8],
        descriptors: Descriptors,
        end: Option<Instant>,
    ) -> exit::Result<u8> {
        match self.ask(message, descriptors, end)? {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(self.call.too_late());
            }
            // It may have said why before it closed.
            Err(error) if is_end(&error) => {}
            Err(error) => return Err(self.call.unable(exit::SYSTEM, format!("sending: {error}"))),
        }
        let mut reply = self.next(end)?;
        if reply == Reply::Terminal {
            self.take_terminal()?;
            reply = self.next(end)?;
        }
        match reply {
            // Without the terminal that it was to have.
            Reply::Started if self.own.is_some() => return Err(self.nonsense()),
            Reply::Started => {}
            Reply::No(no) => return Err(self.call.refused(no)),
            Reply::NotStarted(errno) => return Err(self.call.not_started(errno)),
            _ => return Err(self.nonsense()),
        }
        // The program has them; who waits for the end of a pipe shall not wait for this process.
        let null = report::open_null().unable("open /dev/null")?;
        for number in [0, 1] {
            sys::fd::replace_standard(null.as_fd(), number).unable("close a descriptor")?;
        }
        self.started = true;
        if let Some(relay) = &mut self.relay {
            relay.begin(&self.terminal).unable(SET)?;
        }
        loop {
            let reply = self.next(None);
            // What the program has said before comes before.
            match (&mut self.relay, &reply) {
                (None, _) => {}
                (Some(relay), Ok(Reply::Stopped(_) | Reply::Foreground)) => {
                    relay.turn(PollFlags::empty());
                }
                (Some(relay), _) => relay.drain(self.signals.as_ref()),
            }
            match reply? {
                // A stop that a later SIGCONT has ended already is none.
                Reply::Stopped(continued) if continued == self.continued => self.stop(),
                Reply::Stopped(_) => {}
                Reply::Foreground => self.give_keyboard()?,
                Reply::Exited(code) => return Ok(code),
                Reply::Killed(signal) => {
                    self.relay = None;
                    sys::signal::die_of(signal);
                    // That signal does not end a process here.
                    return Ok(128u8.saturating_add(signal.unsigned_abs() as u8));
                }
                _ => return Err(self.nonsense()),
            }
        }
    }

    /// Sends the request. The program can run as soon as the last byte is there, so from then on signals are its; and not before, or a
    /// server that does not read would keep this process from ending.
    fn ask(
        &mut self,
        message: &[u8],
        descriptors: Descriptors,
        end: Option<Instant>,
    ) -> exit::Result<io::Result<()>> {
        let (most, last) = message.split_at(message.len().saturating_sub(1));
        let with = descriptors.0.iter().map(|fd| fd.as_fd()).collect();
        let room = self
            .send(most, with, end)
            .and_then(|()| patience::wait(self.connection.as_fd(), PollFlags::POLLOUT, end));
        self.signals = passed_signals(self.call)?;
        Ok(room.and_then(|()| self.send(last, Vec::new(), end)))
    }

    /// The descriptors go with the first bytes.
    fn send(
        &self,
        mut message: &[u8],
        mut with: Vec<BorrowedFd<'_>>,
        end: Option<Instant>,
    ) -> io::Result<()> {
        while !message.is_empty() {
            match sys::scm::send(self.connection.as_fd(), message, &with) {
                Ok(sent) => {
                    message = message.get(sent..).unwrap_or_default();
                    with.clear();
                }
                Err(error) if is_passing(&error) => {
                    patience::wait(self.connection.as_fd(), PollFlags::POLLOUT, end)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next message; signals are passed on meanwhile.
    fn next(&mut self, end: Option<Instant>) -> exit::Result<Reply> {
        let length = match (self.call.protocol, self.started) {
            (Protocol::Doorward, _) => frame::LENGTH,
            (Protocol::S6, false) => 1,
            (Protocol::S6, true) => 4,
        };
        let mut bytes = Vec::new();
        while bytes.len() < length {
            if !self.wait(end)? {
                continue;
            }
            let mut buffer = [0; frame::LENGTH];
            let room = buffer.get_mut(..length - bytes.len()).unwrap_or_default();
            match sys::scm::receive(self.connection.as_fd(), room, nix::libc::MSG_DONTWAIT) {
                Ok(received) if received.length > 0 && !received.truncated => {
                    bytes.extend_from_slice(room.get(..received.length).unwrap_or_default());
                    self.arrived.extend(received.descriptors);
                    if self.arrived.len() > usize::from(self.own.is_some()) {
                        return Err(self.nonsense());
                    }
                }
                Ok(received) if received.length > 0 => return Err(self.nonsense()),
                Err(error) if is_passing(&error) => {}
                Ok(_) | Err(_) => return Err(self.lost()),
            }
        }
        self.understood(&bytes).ok_or_else(|| self.nonsense())
    }

    fn understood(&self, bytes: &[u8]) -> Option<Reply> {
        match (self.call.protocol, bytes) {
            (Protocol::Doorward, bytes) => Reply::read(bytes.try_into().ok()?),
            (Protocol::S6, [0]) => Some(Reply::Started),
            (Protocol::S6, [errno]) => Some(Reply::NotStarted(i32::from(*errno))),
            (Protocol::S6, bytes) => match s6::end(bytes.try_into().ok()?)? {
                End::Code(code) => Some(Reply::Exited(u8::try_from(code).ok()?)),
                End::Signal(signal) => Some(Reply::Killed(signal)),
                End::Unknown => None,
            },
        }
    }

    /// Waits for the answering side; false: it was a signal, or nothing.
    fn wait(&mut self, end: Option<Instant>) -> exit::Result<bool> {
        let mut watched = vec![PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
        watched.extend(
            self.signals
                .iter()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
        );
        let at = watched.len();
        watched.extend(self.relay.iter().flat_map(Relay::interests));
        let deadly = self.deadly.filter(|_| !self.started);
        let first = [end, deadly.map(|(_, end)| end)];
        let timeout = patience::timeout(first.into_iter().flatten().min());
        match poll(&mut watched, timeout) {
            Ok(0) if end.is_some_and(|end| Instant::now() >= end) => {
                return Err(self.call.too_late());
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).unable("wait for an answer"),
        }
        if let Some((signal, end)) = deadly
            && Instant::now() >= end
        {
            sys::signal::die_of(signal as i32);
        }
        let answered = watched.first().and_then(PollFd::any) == Some(true);
        let heard = watched.get(at).and_then(PollFd::revents);
        // First: after a stop the terminal is to be set before it is read.
        self.pass_signals();
        if let Some(relay) = &mut self.relay {
            relay.turn(heard.unwrap_or(PollFlags::empty()));
        }
        Ok(answered)
    }

    fn pass_signals(&mut self) {
        while let Some(Ok(Some(info))) = self.signals.as_ref().map(SignalFd::read_signal) {
            let signal = FORWARDED
                .into_iter()
                .find(|signal| *signal as u32 == info.ssi_signo);
            match signal {
                None => {
                    // One of `DEADLY`.
                    (self.own, self.relay) = (None, None);
                    sys::signal::die_of(info.ssi_signo.cast_signed());
                }
                // It may run all the same, and then stops too.
                Some(signal @ Signal::SIGTSTP) if !self.started => {
                    self.pass(signal);
                    self.stop();
                }
                // The program's terminal tells it.
                Some(Signal::SIGWINCH) if self.relay.is_some() => {
                    self.relay.iter().for_each(Relay::resize);
                }
                Some(signal) => {
                    self.pass(signal);
                    self.mind(signal);
                }
            }
        }
    }

    /// It fails where the other side is gone, which the next look shows, or reads nothing: then it shall not stop this process.
    fn pass(&mut self, signal: Signal) {
        if signal == Signal::SIGCONT {
            self.continued = self.continued.wrapping_add(1);
            if let Some(relay) = &mut self.relay {
                // It fails where the terminal has gone, which the next look shows.
                let _ = relay.resume();
            }
        }
        let _ = sys::scm::send(self.connection.as_fd(), &frame::signal_bytes(signal), &[]);
    }

    /// A server that does not start the program must not keep this process from being ended: the first signal has a moment to act on the
    /// program, which may just have started, and the second acts here.
    fn mind(&mut self, signal: Signal) {
        if self.started || matches!(signal, Signal::SIGCONT | Signal::SIGWINCH) {
            return;
        }
        if self.deadly.is_some() {
            sys::signal::die_of(signal as i32);
        }
        self.deadly = Instant::now().checked_add(MOMENT).map(|end| (signal, end));
    }

    /// Sets up the other end of the program's terminal, and lets the program start.
    fn take_terminal(&mut self) -> exit::Result<()> {
        let (Some(own), Some(program)) = (self.own.take(), self.arrived.pop()) else {
            return Err(self.nonsense());
        };
        self.relay = Some(Relay::new(own, program, &self.terminal).unable(SET)?);
        // It fails where the other side is gone, which the next look shows.
        let _ = sys::scm::send(self.connection.as_fd(), &frame::PREPARED, &[]);
        Ok(())
    }

    /// The program has stopped for want of it, and is continued when it is the program's.
    fn give_keyboard(&mut self) -> exit::Result<()> {
        let Some(relay) = &mut self.relay else {
            return Err(self.nonsense());
        };
        relay.give_keyboard().unable(SET)?;
        // As if somebody else had sent it.
        raise(Signal::SIGCONT).unable("continue the program")
    }

    /// Stops this process as its program has stopped; the shell sees it, and continues both.
    fn stop(&mut self) {
        match &mut self.relay {
            // Cannot fail: a signal to this process itself.
            None => drop(raise(Signal::SIGSTOP)),
            Some(relay) => {
                relay.rest();
                pty::stop_with_group();
                // Also where nothing has stopped.
                let _ = raise(Signal::SIGCONT);
            }
        }
    }

    fn nonsense(&self) -> Failure {
        self.call.unable(exit::SYSTEM, "it says what is no answer")
    }

    fn lost(&self) -> Failure {
        let why = if self.started {
            "it has gone, and with it the word of how the program ended"
        } else {
            "it closed the connection in place of an answer"
        };
        self.call.unable(exit::SYSTEM, why)
    }
}

/// Whether the other side has closed.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

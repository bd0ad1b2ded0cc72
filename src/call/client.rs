//! `doorward call`: sends this process's words, variables and descriptors, passes signals on, and ends as the program does.
#![forbid(unsafe_code)]

use super::caller::Protocol;
use super::frame::{self, FORWARDED, No, Reply};
use super::receive::is_passing;
use super::server::exit_of;
use super::terminal::{Relay, Terminal};
use super::wire::{Malformed, Request, Role};
use super::{patience, s6, wire};
use crate::chain::Dial;
use crate::client::{Error, welcome};
use crate::exit::{self, Failure, Unable as _, wrong_use};
use crate::sys::scm::Received;
use crate::sys::terminal::Size;
use crate::sys::wait::End;
use crate::{report, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a signal may take to end a program of which nobody knows yet whether it runs.
const MOMENT: Duration = Duration::from_secs(1);

/// `doorward call`, understood.
#[derive(Debug)]
pub(crate) struct Call {
    /// Where to; its limit holds until the program runs.
    pub(crate) dial: Dial,
    pub(crate) protocol: Protocol,
    pub(crate) arguments: Vec<OsString>,
    /// Which of 0, 1 and 2 the program gets.
    pub(crate) standard: [bool; 3],
    pub(crate) environment: bool,
    /// The program goes on when this process dies.
    pub(crate) detach: bool,
    /// The program runs in this process's directory.
    pub(crate) directory: bool,
    /// The program has a terminal of its own.
    pub(crate) terminal: bool,
}

/// Has the program run; comes back with its exit code, unless this process dies of the same signal.
pub(crate) fn run(call: &Call) -> exit::Result<u8> {
    sys::fd::cloexec_from_three().unable("set close-on-exec")?;
    let variables = variables(call.environment);
    let descriptors = Descriptors::gather(call)?;
    let terminal = call.terminal.then(Terminal::of_standard).transpose()?;
    let window = terminal.as_ref().map(Terminal::size).transpose()?;
    let message = message(call, &variables, window)?;
    let end = call.dial.deadline();
    let connection = call.dial.socket()?;
    call.dial.connect(connection.as_fd(), end)?;
    let banner = call.protocol.banner();
    welcome::take_banner(connection.as_fd(), banner, end).map_err(|error| call.ungreeted(error))?;
    let conversation = Conversation {
        call,
        connection,
        signals: passed_signals(call.protocol)?,
        master: None,
        started: false,
        deadly: None,
        continued: 0,
        relay: None,
    };
    conversation.hold(&message, descriptors, terminal, end)
}

impl Call {
    fn unable(&self, code: u8, why: impl std::fmt::Display) -> Failure {
        let error = anyhow::anyhow!("unable to call {}: {why}", self.dial.address);
        Failure { code, error }
    }

    fn too_late(&self) -> Failure {
        self.dial.too_late()
    }

    fn ungreeted(&self, error: Error) -> Failure {
        match error {
            Error::TimedOut => self.too_late(),
            Error::Closed => {
                let why = "refused: it closed the connection without a word. Whoever serves it does not let you in, or is not doorward answer";
                self.unable(exit::REFUSED, why)
            }
            Error::Refused(_) | Error::Malformed(_) => self.unable(exit::REFUSED, error),
            Error::System(..) | Error::NoProgram(_) => self.unable(exit::SYSTEM, error),
        }
    }

    fn refused(&self, no: No) -> Failure {
        let (code, why) = match no {
            No::Detach => (exit::REFUSED, "it does not allow --detach"),
            No::Directory => (exit::REFUSED, "it does not allow --cwd"),
            No::Terminal => (exit::REFUSED, "it does not allow --pty"),
            No::TooLarge => (exit::WRONG_USE, "arguments and environment are too large"),
            No::Descriptors => (
                exit::WRONG_USE,
                "it does not take these descriptors as 0, 1 and 2",
            ),
            No::TooLate => (exit::DEADLINE, "the request did not reach it in time"),
            No::Malformed => (exit::SYSTEM, "it did not understand the request"),
        };
        self.unable(code, why)
    }

    fn not_started(&self, errno: i32) -> Failure {
        let cause = io::Error::from_raw_os_error(errno);
        self.unable(
            exit_of(errno),
            format!("the program does not start: {cause}"),
        )
    }
}

/// The environment as the program's side gets to see it, each `NAME=VALUE`.
fn variables(all: bool) -> Vec<OsString> {
    let entry = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    let own = std::env::vars_os().filter(|(name, _)| !name.is_empty());
    own.filter(|_| all).map(entry).collect()
}

fn message(call: &Call, variables: &[OsString], terminal: Option<Size>) -> exit::Result<Vec<u8>> {
    let request = Request {
        roles: call.roles(),
        detach: call.detach,
        terminal,
        arguments: call.arguments.iter().map(OsString::as_os_str).collect(),
        environment: variables.iter().map(OsString::as_os_str).collect(),
    };
    let encoded = match call.protocol {
        Protocol::Doorward => wire::encode(&request),
        Protocol::S6 => s6::encode(&request),
    };
    encoded.map_err(|why| match why {
        Malformed::TooLarge => wrong_use(format!(
            "unable to call {}: arguments and environment are more than {} bytes or {} entries",
            call.dial.address,
            wire::LARGEST,
            wire::MOST_ENTRIES
        )),
        _ => wrong_use(format!("unable to call {}: {why}", call.dial.address)),
    })
}

/// What is sent beside the words, in the order of the request's roles.
struct Descriptors(Vec<OwnedFd>);

impl Call {
    fn roles(&self) -> Vec<Role> {
        if self.protocol == Protocol::S6 {
            return s6::ROLES.to_vec();
        }
        let is_sent = |role: &Role| match self.standard.get(*role as usize) {
            None => self.directory,
            // What is not sent becomes the program's own terminal: that is for what is a terminal here.
            Some(wanted) if self.terminal => {
                let own = sys::fd::standard(*role as i32);
                !(*wanted && own.is_some_and(|own| own.is_terminal()))
            }
            Some(wanted) => *wanted,
        };
        Role::ALL.into_iter().filter(is_sent).collect()
    }
}

impl Descriptors {
    fn gather(call: &Call) -> exit::Result<Descriptors> {
        let get = |role: Role| -> io::Result<OwnedFd> {
            if role == Role::Directory {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                return Ok(open(".", flags, Mode::empty())?);
            }
            let number = role as usize;
            let wanted = call.standard.get(number).copied().unwrap_or(true);
            match sys::fd::standard(role as i32).filter(|_| wanted) {
                Some(own) => own.try_clone_to_owned(),
                None => report::open_null(),
            }
        };
        let all = call.roles().into_iter().map(get);
        let all = all.collect::<io::Result<Vec<OwnedFd>>>();
        all.map(Descriptors).unable("get the descriptors to send")
    }
}

/// The signals that are passed on, none of which does anything here any more but be read. What the parent ignored stays ignored.
fn passed_signals(protocol: Protocol) -> exit::Result<Option<SignalFd>> {
    if protocol == Protocol::S6 {
        // It has no words for signals: they act on this process, and its end is the program's.
        return Ok(None);
    }
    let mut passed = SigSet::empty();
    for signal in FORWARDED {
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
struct Conversation<'a> {
    call: &'a Call,
    connection: OwnedFd,
    signals: Option<SignalFd>,
    /// What drives the program's terminal, as it came.
    master: Option<OwnedFd>,
    /// The program runs.
    started: bool,
    /// A signal that came before that was known, and until when its effect is waited for.
    deadly: Option<(Signal, Instant)>,
    /// How many SIGCONT were passed on.
    continued: u32,
    /// Between this terminal and the program's, if it has one.
    relay: Option<Relay>,
}

impl Conversation<'_> {
    fn hold(
        mut self,
        message: &[u8],
        descriptors: Descriptors,
        terminal: Option<Terminal>,
        end: Option<Instant>,
    ) -> exit::Result<u8> {
        let sent = self.send(message, &descriptors, end);
        drop(descriptors);
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(self.call.too_late());
            }
            // It may have said why before it closed.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
            Err(error) => return Err(self.call.unable(exit::SYSTEM, format!("sending: {error}"))),
        }
        match self.next(end)? {
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
        match (terminal, self.master.take()) {
            (None, None) => {}
            (Some(terminal), Some(master)) => self.relay = Some(Relay::new(terminal, master)?),
            (Some(_), None) | (None, Some(_)) => return Err(self.nonsense()),
        }
        loop {
            match self.next(None)? {
                // A stop that a later SIGCONT has ended already is none.
                Reply::Stopped(continued) if continued == self.continued => self.stop(),
                Reply::Stopped(_) => {}
                Reply::Exited(code) => {
                    self.finish();
                    return Ok(code);
                }
                Reply::Killed(signal) => {
                    self.finish();
                    sys::signal::die_of(signal);
                    // That signal does not end a process here.
                    return Ok(128u8.saturating_add(signal.unsigned_abs() as u8));
                }
                _ => return Err(self.nonsense()),
            }
        }
    }

    /// The descriptors go with the first bytes.
    fn send(
        &self,
        mut message: &[u8],
        descriptors: &Descriptors,
        end: Option<Instant>,
    ) -> io::Result<()> {
        let mut with: Vec<BorrowedFd<'_>> = descriptors.0.iter().map(|fd| fd.as_fd()).collect();
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
                Ok(mut received) if received.length > 0 && self.may_bring(&received) => {
                    self.master = self.master.take().or(received.descriptors.pop());
                    bytes.extend_from_slice(room.get(..received.length).unwrap_or_default());
                }
                Ok(received) if received.length > 0 => return Err(self.nonsense()),
                Err(error) if is_passing(&error) => {}
                Ok(_) | Err(_) => return Err(self.lost()),
            }
        }
        self.understood(&bytes).ok_or_else(|| self.nonsense())
    }

    /// One descriptor, with the word that the program runs, where there is a terminal for it.
    fn may_bring(&self, received: &Received) -> bool {
        let awaited = self.call.terminal && !self.started && self.master.is_none();
        received.descriptors.len() <= usize::from(awaited)
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
        watched.extend(self.relay.iter().flat_map(Relay::watched));
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
        self.pass_signals();
        if let Some(relay) = &mut self.relay {
            relay.turn();
        }
        Ok(answered)
    }

    fn pass_signals(&mut self) {
        while let Some(Ok(Some(info))) = self.signals.as_ref().map(SignalFd::read_signal) {
            let signal = FORWARDED
                .into_iter()
                .find(|signal| *signal as u32 == info.ssi_signo);
            match signal {
                None => {}
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

    /// Stops this process as its program has stopped; the shell sees it, and continues it.
    fn stop(&mut self) {
        self.relay.iter_mut().for_each(Relay::pause);
        // Cannot fail: a signal to this process itself.
        let _ = raise(Signal::SIGSTOP);
        self.relay.iter_mut().for_each(Relay::resume);
    }

    /// The program has ended: the last that it said is shown, and the terminal is as it was.
    fn finish(&mut self) {
        self.relay.iter_mut().for_each(Relay::finish);
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

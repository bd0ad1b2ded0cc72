//! What goes between the caller's terminal and the program's, while the caller waits for the program's end.
#![forbid(unsafe_code)]

use super::is_interactive;
use super::own::Own;
use crate::call::wire::Role;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Copied at once, and the most that waits for either side.
const CHUNK: usize = 16 * 1024;
/// Shown at most of what the program has left when it ended: more than the kernel holds of a terminal, less than one who writes on could
/// fill for ever.
const MOST_LEFT: usize = 64 * 1024;

/// The caller's terminal, and the outer end of the program's.
pub(in crate::call) struct Relay {
    own: Own,
    /// `None`: one of the two has hung up, and nothing is copied any more.
    program: Option<OwnedFd>,
    /// The program runs.
    begun: bool,
    /// The keyboard is the program's.
    keyboard: bool,
    to_program: Vec<u8>,
    to_terminal: Vec<u8>,
}

impl Relay {
    /// Between `own` and `program`, which gets the modes and the size of `own`; `terminal`: which of the program's descriptors are it.
    pub(in crate::call) fn new(own: Own, program: OwnedFd, terminal: &[Role]) -> io::Result<Relay> {
        let flags = OFlag::from_bits_retain(fcntl(&program, FcntlArg::F_GETFL)?);
        fcntl(&program, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        own.pass_on_to(program.as_fd(), is_interactive(terminal))?;
        Ok(Relay {
            own,
            program: Some(program),
            begun: false,
            keyboard: false,
            to_program: Vec::new(),
            to_terminal: Vec::new(),
        })
    }

    /// The program runs.
    pub(in crate::call) fn begin(&mut self, terminal: &[Role]) -> io::Result<()> {
        self.begun = true;
        self.keyboard = is_interactive(terminal);
        self.resume()
    }

    /// From here on the program gets what is typed, and no key is a signal for this process.
    pub(in crate::call) fn give_keyboard(&mut self) -> io::Result<()> {
        self.own.wait_for_foreground()?;
        if let Some(program) = self.program.as_ref().filter(|_| !self.keyboard) {
            self.own.pass_output_on_to(program.as_fd())?;
        }
        self.keyboard = true;
        self.resume()
    }

    /// After a stop: the modes are somebody else's, and the size may be another.
    pub(in crate::call) fn resume(&mut self) -> io::Result<()> {
        if self.keyboard {
            self.own.make_raw()?;
        }
        self.resize();
        Ok(())
    }

    pub(in crate::call) fn resize(&self) {
        if let Some(program) = &self.program {
            // It fails where one of them has gone, which the next look shows.
            let _ = self.own.pass_size_to(program.as_fd());
        }
    }

    /// The terminal is as it was, before this process stops.
    pub(in crate::call) fn rest(&mut self) {
        self.own.restore();
    }

    /// What to wait for, beside other things: the terminal, then the program.
    pub(in crate::call) fn interests(&self) -> Vec<PollFd<'_>> {
        let Some(program) = self.program.as_ref().filter(|_| self.begun) else {
            return Vec::new();
        };
        let flags = |incoming: bool, outgoing: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, incoming);
            flags.set(PollFlags::POLLOUT, outgoing);
            flags
        };
        let (typed, shown) = (!self.to_program.is_empty(), !self.to_terminal.is_empty());
        vec![
            PollFd::new(self.own.as_fd(), flags(self.keyboard && !typed, shown)),
            PollFd::new(program.as_fd(), flags(!shown, typed)),
        ]
    }

    /// Copies what there is, as far as there is room. `heard`: what was told of the terminal.
    pub(in crate::call) fn turn(&mut self, heard: PollFlags) {
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        if !self.begun {
            return;
        }
        if heard.intersects(gone) || self.copy(heard).is_none() {
            // The program's terminal hangs up with this one.
            self.program = None;
        }
    }

    /// `None`: one of them has gone.
    fn copy(&mut self, heard: PollFlags) -> Option<()> {
        let Some(program) = &self.program else {
            return Some(());
        };
        // From the background a read would stop this process, so it is told first that there is something.
        if self.keyboard && self.to_program.is_empty() && heard.contains(PollFlags::POLLIN) {
            take(self.own.as_fd(), &mut self.to_program)?;
        }
        put(program.as_fd(), &mut self.to_program)?;
        if self.to_terminal.is_empty() {
            take(program.as_fd(), &mut self.to_terminal)?;
        }
        put(self.own.as_fd(), &mut self.to_terminal)
    }

    /// Shows what the program has said until now, unless a signal comes that ends processes. Who still has the program's terminal and
    /// writes on does not keep this one here.
    pub(in crate::call) fn drain(&mut self, signals: Option<&SignalFd>) {
        let mut left = MOST_LEFT;
        while let Some(program) = &self.program {
            if self.to_terminal.is_empty() {
                let taken = take(program.as_fd(), &mut self.to_terminal);
                if taken.is_none() || self.to_terminal.is_empty() || left == 0 {
                    return;
                }
                left = left.saturating_sub(self.to_terminal.len());
            }
            if put(self.own.as_fd(), &mut self.to_terminal).is_none() {
                self.program = None;
            }
            if !self.to_terminal.is_empty() && !self.has_room(signals) {
                return;
            }
        }
    }

    fn has_room(&self, signals: Option<&SignalFd>) -> bool {
        let mut watched = vec![PollFd::new(self.own.as_fd(), PollFlags::POLLOUT)];
        watched.extend(signals.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
        while let Some(Ok(Some(info))) = signals.map(SignalFd::read_signal) {
            let harmless = [libc::SIGCONT, libc::SIGWINCH].map(libc::c_int::unsigned_abs);
            if !harmless.contains(&info.ssi_signo) {
                return false;
            }
        }
        true
    }
}

/// Reads what there is; `None`: the end.
fn take(from: BorrowedFd<'_>, into: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; CHUNK];
    match read(from, &mut chunk) {
        Ok(0) => None,
        Ok(length) => {
            into.extend_from_slice(chunk.get(..length).unwrap_or_default());
            Some(())
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Some(()),
        Err(_) => None,
    }
}

/// Writes what there is room for; `None`: the end.
fn put(to: BorrowedFd<'_>, from: &mut Vec<u8>) -> Option<()> {
    while !from.is_empty() {
        match write(to, from) {
            Ok(length) => drop(from.drain(..length.min(from.len()))),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(_) => return None,
        }
    }
    Some(())
}

//! `call --pty`: the caller's terminal, in raw mode, and the one that the program has in its place.
//!
//! The program never has the caller's terminal, so it can neither push characters into it nor read from it later. What it says passes
//! through this process, which has the caller's rights alone.
#![forbid(unsafe_code)]

use super::receive::is_passing;
use crate::exit::{self, Unable as _, wrong_use};
use crate::sys;
use crate::sys::terminal::{Size, set_size, size};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// How long what a program has said last is waited for, once it has ended: others may still hold its terminal.
const LAST_WORDS: u16 = 200;
const CHUNK: usize = 4096;

/// The caller's terminal: what types, and what shows.
#[derive(Debug)]
pub(super) struct Terminal {
    input: OwnedFd,
    output: OwnedFd,
    /// How it was.
    before: Termios,
    raw: bool,
}

impl Terminal {
    /// Takes the terminal of 0; what the program says is shown on 1, or 2, or 0, whichever is a terminal.
    pub(super) fn of_standard() -> exit::Result<Terminal> {
        let all = [0, 1, 2].map(|number| sys::fd::standard(number).filter(BorrowedFd::is_terminal));
        let [Some(input), output, error] = all else {
            return Err(wrong_use("--pty: standard input is not a terminal"));
        };
        const WHAT: &str = "take the terminal";
        let output = output.or(error).unwrap_or(input);
        Ok(Terminal {
            before: tcgetattr(input).unable(WHAT)?,
            input: input.try_clone_to_owned().unable(WHAT)?,
            output: output.try_clone_to_owned().unable(WHAT)?,
            raw: false,
        })
    }

    pub(super) fn size(&self) -> exit::Result<Size> {
        size(self.input.as_fd()).unable("ask for the size of the terminal")
    }

    /// Every key goes to the program's terminal, which knows what to make of it.
    fn make_raw(&mut self) {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        // A terminal that is gone needs no mode.
        self.raw = tcsetattr(&self.input, SetArg::TCSADRAIN, &raw).is_ok();
    }

    pub(super) fn restore(&mut self) {
        if self.raw {
            self.raw = false;
            let _ = tcsetattr(&self.input, SetArg::TCSADRAIN, &self.before);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Both terminals, and what is on its way between them.
#[derive(Debug)]
pub(super) struct Relay {
    terminal: Terminal,
    /// The end that drives the program's terminal.
    master: OwnedFd,
    /// What was typed and not taken yet.
    typed: Vec<u8>,
    hung_up: bool,
    /// Nobody types any more.
    silent: bool,
}

impl Relay {
    pub(super) fn new(terminal: Terminal, master: OwnedFd) -> exit::Result<Relay> {
        // It came from the answering side, so nobody else has a flag of it.
        const WHAT: &str = "take over the program's terminal";
        let flags = fcntl(&master, FcntlArg::F_GETFL).unable(WHAT)?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&master, FcntlArg::F_SETFL(flags)).unable(WHAT)?;
        let mut relay = Relay {
            terminal,
            master,
            typed: Vec::new(),
            hung_up: false,
            silent: false,
        };
        relay.resume();
        Ok(relay)
    }

    /// What is to be watched: the program's terminal, then the caller's.
    pub(super) fn watched(&self) -> Vec<PollFd<'_>> {
        let mut wanted = PollFlags::POLLIN;
        if !self.typed.is_empty() {
            wanted |= PollFlags::POLLOUT;
        }
        let mut all = Vec::new();
        if !self.hung_up {
            all.push(PollFd::new(self.master.as_fd(), wanted));
        }
        if self.hears() {
            all.push(PollFd::new(self.terminal.input.as_fd(), PollFlags::POLLIN));
        }
        all
    }

    /// Keys are read only as fast as the program takes them.
    fn hears(&self) -> bool {
        !self.silent && !self.hung_up && self.typed.is_empty()
    }

    /// Passes on what is there.
    pub(super) fn turn(&mut self) {
        self.show();
        if self.hears() && is_readable(self.terminal.input.as_fd()) {
            let mut keys = [0; CHUNK];
            match read(&self.terminal.input, &mut keys) {
                Ok(0) => self.silent = true,
                Ok(count) => self
                    .typed
                    .extend_from_slice(keys.get(..count).unwrap_or_default()),
                Err(error) => self.silent = !is_passing(&error.into()),
            }
        }
        if !self.typed.is_empty() {
            match write(&self.master, &self.typed) {
                Ok(count) => drop(self.typed.drain(..count.min(self.typed.len()))),
                Err(error) if is_passing(&error.into()) => {}
                Err(_) => self.hung_up = true,
            }
        }
    }

    /// Shows what the program has said; false: there is nothing now.
    fn show(&mut self) -> bool {
        let mut said = [0; CHUNK];
        match read(&self.master, &mut said) {
            Ok(0) => self.hung_up = true,
            Ok(count) => {
                // A terminal that is gone shows nothing; the program learns of it by the caller's SIGHUP.
                let _ = write_all(&self.terminal.output, said.get(..count).unwrap_or_default());
                return true;
            }
            Err(error) => self.hung_up |= !is_passing(&error.into()),
        }
        false
    }

    /// Shows what a program that has ended has said last.
    pub(super) fn finish(&mut self) {
        loop {
            while self.show() {}
            if self.hung_up {
                break;
            }
            let mut watched = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, LAST_WORDS) {
                Ok(0) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        self.pause();
    }

    /// Before this process stops or ends.
    pub(super) fn pause(&mut self) {
        self.terminal.restore();
    }

    /// When it goes on; the window may be another.
    pub(super) fn resume(&mut self) {
        self.terminal.make_raw();
        self.resize();
    }

    pub(super) fn resize(&self) {
        if let Ok(size) = size(self.terminal.input.as_fd()) {
            // The program gets SIGWINCH by it.
            let _ = set_size(self.master.as_fd(), size);
        }
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Somebody has made the terminal non-blocking.
            Err(Errno::EAGAIN) => {
                let mut watched = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
                poll(&mut watched, PollTimeout::NONE)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

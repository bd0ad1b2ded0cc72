//! The program's terminal, as `answer` has it: made, given, and in whose hands its keyboard is.
#![forbid(unsafe_code)]

use super::super::caller::{Caller, Word};
use super::super::patience;
use super::super::receive::Broken;
use super::super::wire::{Malformed, Request};
use super::is_interactive;
use crate::sys;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::PollFlags;
use nix::pty::{posix_openpt, unlockpt};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Pid, getpgid, getpgrp, getpid, getppid, getsid, setpgid, setsid, tcsetpgrp};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

/// Signals that a caller may pass on before its program runs: more of them are no user's.
const MOST_EARLY: usize = 64;

/// The program's end. It is kept until the program has ended: closed by the program alone, it would look as if all was over.
#[derive(Debug)]
pub(in crate::call) struct Terminal {
    inside: OwnedFd,
    /// The program begins in its foreground.
    interactive: bool,
    /// What the caller passed on before there was a program.
    pub(in crate::call) early: Vec<Signal>,
}

/// Why there is none.
#[derive(Debug)]
pub(in crate::call) enum Ungiven {
    /// The caller's doing.
    Broken(Broken),
    System(io::Error),
}

impl Terminal {
    /// Makes one, gives its other end to the caller, and waits until that has set up size and modes. No copy of that end stays here: it
    /// hangs up when the caller dies, however it dies.
    pub(in crate::call) fn give(
        caller: &mut Caller,
        request: &Request<'_>,
        above: RawFd,
        end: Instant,
    ) -> Result<Terminal, Ungiven> {
        let (outside, inside) = open(above).map_err(Ungiven::System)?;
        // Before the caller can name it, it is taken: nobody else's controlling terminal it can become.
        lead_its_session(inside.as_fd()).map_err(Ungiven::System)?;
        let offered = caller.offer(outside.as_fd());
        drop(outside);
        match offered {
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                return Err(Ungiven::Broken(Broken::Gone));
            }
            offered => offered.map_err(Ungiven::System)?,
        }
        Ok(Terminal {
            inside,
            interactive: is_interactive(&request.terminal),
            early: prepared(caller, end).map_err(Ungiven::Broken)?,
        })
    }

    /// The program's end, once more.
    pub(in crate::call) fn copy(&self, above: RawFd) -> io::Result<OwnedFd> {
        sys::fd::copy_above(self.inside.as_fd(), above)
    }

    /// The number of its foreground's terminal, for a program that begins there.
    pub(in crate::call) fn foreground(&self) -> Option<RawFd> {
        self.interactive.then(|| self.inside.as_raw_fd())
    }

    /// Whether `group`, which `signal` has stopped, was stopped for want of the foreground; then it is its.
    pub(in crate::call) fn is_wanted(&self, signal: libc::c_int, group: Pid) -> bool {
        [libc::SIGTTIN, libc::SIGTTOU].contains(&signal) && tcsetpgrp(&self.inside, group).is_ok()
    }
}

/// A new pair: the caller's end, the program's end. Only who runs this process may open the latter by its name.
fn open(above: RawFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let outside = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    unlockpt(&outside)?;
    let inside = sys::tty::inside(outside.as_fd())?;
    // devpts lets the group tty write to it, and `write` and `wall` with it.
    fchmod(&inside, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok((
        sys::fd::lift(outside.into(), above)?,
        sys::fd::lift(inside, above)?,
    ))
}

/// This process leads the session in the terminal, not its program: the kernel takes a group whose leader's parent is in another session for one
/// that nobody would continue, and lets no key stop it.
fn lead_its_session(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let own = getpid();
    if getsid(None)? != own {
        if getpgrp() == own {
            // `spawn` made it the leader of a group, whom setsid refuses. For this moment it is of its parent's.
            setpgid(Pid::from_raw(0), getpgid(Some(getppid()))?)?;
        }
        setsid()?;
    }
    // It hands the foreground on from the background.
    let stop: SigSet = [Signal::SIGTTOU].into_iter().collect();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&stop), None)?;
    sys::tty::control(terminal)
}

/// Waits for the caller's word; gives the signals that came before.
fn prepared(caller: &mut Caller, end: Instant) -> Result<Vec<Signal>, Broken> {
    let mut early = Vec::new();
    loop {
        patience::wait(caller.connection(), PollFlags::POLLIN, Some(end)).map_err(Broken::of)?;
        match caller.hear() {
            None => {}
            Some(Word::Prepared) => return Ok(early),
            Some(Word::Signal(signal)) if early.len() < MOST_EARLY => early.push(signal),
            Some(Word::Signal(_) | Word::Nonsense) => {
                return Err(Broken::Malformed(Malformed::Words));
            }
            Some(Word::Gone) => return Err(Broken::Gone),
        }
    }
}

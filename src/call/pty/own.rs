//! The caller's own terminal: which of its descriptors are it, and its modes, which are put back on every way out.
#![forbid(unsafe_code)]

use super::is_interactive;
use crate::call::wire::Role;
use crate::exit::{self, Unable as _, wrong_use};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::stat::Mode;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcdrain, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, isatty, tcgetpgrp};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The controlling terminal. Dropped, it has its modes back.
pub(in crate::call) struct Own {
    /// Opened anew, so that nobody else's reads and writes become non-blocking with it.
    terminal: OwnedFd,
    saved: Termios,
    raw: bool,
}

/// This process's terminal, and which of 0, 1 and 2 are it, of those that are `wanted`.
pub(in crate::call) fn find(wanted: [bool; 3]) -> exit::Result<(Own, Vec<Role>)> {
    let mut own = Own::open().map_err(|error| {
        wrong_use(format!(
            "--pty needs a terminal that controls this process: unable to open /dev/tty: {error}"
        ))
    })?;
    let mut terminal = Vec::new();
    for (role, _) in Role::ALL.into_iter().zip(wanted).filter(|both| both.1) {
        match sys::fd::standard(role as i32) {
            Some(descriptor) if isatty(descriptor).unwrap_or(false) => {
                if !own.is(descriptor).unable("tell terminals apart")? {
                    // Passed on, it would be what --pty is to keep from the program.
                    return Err(wrong_use(format!(
                        "--pty: descriptor {} is another terminal than the one that controls this process",
                        role as i32
                    )));
                }
                terminal.push(role);
            }
            _ => {}
        }
    }
    if terminal.is_empty() {
        return Err(wrong_use(
            "--pty needs a terminal as descriptor 0, 1 or 2, and none of those that are sent is one",
        ));
    }
    if is_interactive(&terminal) {
        own.wait_for_foreground()
            .unable("wait for the foreground")?;
    }
    Ok((own, terminal))
}

impl Own {
    /// # Errors
    /// `ENXIO`: this process has none.
    fn open() -> io::Result<Own> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let terminal = open("/dev/tty", flags, Mode::empty())?;
        let saved = tcgetattr(&terminal)?;
        Ok(Own {
            terminal,
            saved,
            raw: false,
        })
    }

    fn is(&self, terminal: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(sys::tty::device(terminal)? == sys::tty::device(self.terminal.as_fd())?)
    }

    /// Waits for the foreground, stopped as the kernel stops whoever sets a terminal from the background, and takes the modes as they
    /// are then: those of before may be a line editor's.
    pub(super) fn wait_for_foreground(&mut self) -> io::Result<()> {
        // It sets nothing, and has to be in the foreground all the same.
        patiently(|| tcdrain(&self.terminal))?;
        self.saved = tcgetattr(&self.terminal)?;
        Ok(())
    }

    /// Gives the other terminal the modes and the size of this one. `raw`: this one will be, and the other does what is done to output;
    /// else it leaves that to this one, or lines would end twice.
    pub(super) fn pass_on_to(&self, other: BorrowedFd<'_>, raw: bool) -> io::Result<()> {
        let mut modes = self.saved.clone();
        if !raw {
            modes.output_flags.remove(OutputFlags::OPOST);
        }
        tcsetattr(other, SetArg::TCSANOW, &modes)?;
        self.pass_size_to(other)
    }

    /// The other one does from now on what is done to output.
    pub(super) fn pass_output_on_to(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        let mut modes = tcgetattr(other)?;
        modes.output_flags = self.saved.output_flags;
        Ok(tcsetattr(other, SetArg::TCSANOW, &modes)?)
    }

    pub(super) fn pass_size_to(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        sys::tty::set_window(other, sys::tty::window(self.terminal.as_fd())?)
    }

    /// Every key as it is typed, none of them a signal; from the background, where it has come to the foreground.
    pub(super) fn make_raw(&mut self) -> io::Result<()> {
        let mut raw = self.saved.clone();
        cfmakeraw(&mut raw);
        // Before, so that a failure half-way is undone too.
        self.raw = true;
        patiently(|| tcsetattr(&self.terminal, SetArg::TCSANOW, &raw))
    }

    /// Puts the modes back, without waiting for anything. In the background the terminal is somebody else's to set.
    pub(super) fn restore(&mut self) {
        if !self.raw || tcgetpgrp(&self.terminal) != Ok(getpgrp()) {
            return;
        }
        self.raw = false;
        let stop: SigSet = [Signal::SIGTTOU].into_iter().collect();
        let mut before = SigSet::empty();
        // Should it just have become the background: not to be stopped on the way out matters more.
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&stop), Some(&mut before));
        let _ = patiently(|| tcsetattr(&self.terminal, SetArg::TCSANOW, &self.saved));
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.restore();
    }
}

impl AsFd for Own {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

fn patiently(mut act: impl FnMut() -> nix::Result<()>) -> io::Result<()> {
    loop {
        match act() {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Stops this process as Ctrl-Z does where the terminal is not raw: with its group, and not where nobody would continue it. Comes back
/// when it goes on. SIGTSTP is blocked.
pub(in crate::call) fn stop_with_group() {
    if sys::signal::is_ignored(Signal::SIGTSTP).unwrap_or(true) {
        return;
    }
    let stop: SigSet = [Signal::SIGTSTP].into_iter().collect();
    // At worst this process does not stop.
    let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
    let _ = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&stop), None);
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&stop), None);
}

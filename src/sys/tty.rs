//! Terminals: what nix has no safe wrapper for.

use super::cvt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Rows, columns, and the size in pixels where it is known.
pub(crate) type Window = libc::winsize;

/// `ioctl(TIOCGDEV)`: the device number of the terminal itself, also through /dev/tty and /dev/console.
///
/// # Errors
/// `ENOTTY`: no terminal.
pub(crate) fn device(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut device: libc::c_uint = 0;
    // SAFETY: the request writes one unsigned int.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGDEV, &raw mut device) })?;
    Ok(device)
}

/// `ioctl(TIOCGPTPEER)`: the end of a pseudo-terminal that a program has, opened without its name, which may be another's in this mount
/// namespace; close-on-exec, and nobody's controlling terminal.
pub(crate) fn inside(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes a number; the result is a new descriptor that nobody else owns.
    unsafe {
        cvt(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))
            .map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// `ioctl(TIOCSCTTY, 0)`: makes it the controlling terminal of this session, whose leader this process is.
///
/// # Errors
/// `EPERM`: this process leads no session, or it is the terminal of another one.
pub(crate) fn control(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes a number.
    cvt(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// `ioctl(TIOCGWINSZ)`.
pub(crate) fn window(terminal: BorrowedFd<'_>) -> io::Result<Window> {
    let mut window = Window {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request writes one winsize.
    cvt(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut window) })?;
    Ok(window)
}

/// `ioctl(TIOCSWINSZ)`: the programs in it are told by SIGWINCH, if it is another size than before.
pub(crate) fn set_window(terminal: BorrowedFd<'_>, window: Window) -> io::Result<()> {
    // SAFETY: the request reads one winsize.
    cvt(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const window) }).map(drop)
}

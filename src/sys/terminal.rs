//! The size of a terminal's window, which nix cannot ask for.

use super::cvt;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Rows and columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Size {
    /// As the kernel has it.
    pub(crate) fn winsize(self) -> libc::winsize {
        libc::winsize {
            ws_row: self.rows,
            ws_col: self.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// `ioctl(TIOCGWINSZ)`.
pub(crate) fn size(terminal: BorrowedFd<'_>) -> io::Result<Size> {
    let mut size = Size {
        rows: 0,
        columns: 0,
    }
    .winsize();
    // SAFETY: the request fills one winsize.
    cvt(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(Size {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// `ioctl(TIOCSWINSZ)`: who reads the terminal gets SIGWINCH if that is another size.
pub(crate) fn set_size(terminal: BorrowedFd<'_>, size: Size) -> io::Result<()> {
    let size = size.winsize();
    // SAFETY: the request reads one winsize.
    cvt(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

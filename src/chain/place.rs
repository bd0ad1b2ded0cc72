//! Descriptors of a process that becomes its program, at the numbers where the program looks for them.
#![forbid(unsafe_code)]

use super::given::is_same_socket;
use crate::delivery::{LAYOUTS_END, Layout, NOTIFY, PIDFD};
use crate::exit::{self, Unable as _};
use crate::{report, sys};
use std::os::fd::{AsFd as _, OwnedFd};

/// What the program gets.
pub(super) struct Sockets {
    pub(super) connection: OwnedFd,
    pub(super) notification: Option<OwnedFd>,
    pub(super) pidfd: Option<OwnedFd>,
}

impl Sockets {
    /// Puts each where `layout` has it. Whatever of this process stands there is closed: nothing that is used later may have been opened
    /// below [`LAYOUTS_END`]. The rest is close-on-exec.
    pub(super) fn place(self, layout: Layout) -> exit::Result<()> {
        const WHAT: &str = "place the connection";
        let lift = |fd: OwnedFd| sys::fd::lift(fd, LAYOUTS_END).unable(WHAT);
        let connection = lift(self.connection)?;
        let notification = self.notification.map(lift).transpose()?;
        let pidfd = self.pidfd.map(lift).transpose()?;
        for &number in layout.connection() {
            sys::fd::place(connection.as_fd(), number).unable(WHAT)?;
        }
        for (descriptor, number) in [(notification, NOTIFY), (pidfd, PIDFD)] {
            if let Some(descriptor) = descriptor {
                sys::fd::place(descriptor.as_fd(), number).unable(WHAT)?;
            }
        }
        Ok(())
    }

    /// Replaces those of 0, 1 and 2 by /dev/null that are the connection, where the program is to find it elsewhere.
    pub(super) fn leave_standard(&self, layout: Layout) -> exit::Result<()> {
        if layout == Layout::Inetd {
            return Ok(());
        }
        let connection = self.connection.as_fd();
        for number in (0..=2).filter(|&number| is_same_socket(connection, number)) {
            let null = report::open_null().unable("open /dev/null")?;
            sys::fd::replace_standard(null.as_fd(), number)
                .unable(format!("replace descriptor {number}"))?;
        }
        Ok(())
    }
}

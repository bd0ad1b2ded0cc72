//! How a door tells the control thread that there is something to see to.
#![forbid(unsafe_code)]

use crate::sys;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A bell that is rung once until it is heard: a busy door costs the control thread one wake-up, not one per connection.
pub(super) struct Bell {
    event: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    pub(super) fn new(low: RawFd) -> io::Result<Bell> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into();
        Ok(Bell {
            event: sys::fd::lift(event, low)?,
            rung: AtomicBool::new(false),
        })
    }

    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // A counter that is full is rung already.
            let _ = nix::unistd::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// To be called before looking at what may have changed, so that nothing rung meanwhile is missed.
    pub(super) fn hear(&self) {
        let _ = nix::unistd::read(&self.event, &mut [0; 8]);
        self.rung.store(false, Ordering::SeqCst);
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

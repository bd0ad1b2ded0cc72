//! `doorward activate`, understood.
#![forbid(unsafe_code)]

use super::super::args::Activate;
use super::sockets::{itself, run_as, wanted};
use super::{LOW, ready_fd, seconds};
use crate::delivery::SocketLayout;
use crate::exit::{Result, wrong_use};
use crate::privileges::Identity;
use crate::source::{Kinds, Wanted};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::time::Duration;

/// `doorward activate`, understood.
#[derive(Debug)]
pub(in crate::cli) struct ActivatePlan {
    pub(in crate::cli) wanted: Wanted,
    pub(in crate::cli) run_as: Option<Identity>,
    pub(in crate::cli) layout: SocketLayout,
    /// `--fdname`, none or one for each socket.
    pub(in crate::cli) names: Vec<String>,
    pub(in crate::cli) ready_fd: Option<RawFd>,
    pub(in crate::cli) grace: Duration,
    pub(in crate::cli) prog: Vec<OsString>,
}

pub(in crate::cli) fn activate(words: Activate) -> Result<ActivatePlan> {
    let (layout, names) = itself(&words.itself, SocketLayout::Systemd)?;
    let binds = words.sockets.bind.len();
    if layout == SocketLayout::Inetd && binds > 1 {
        return Err(wrong_use(format!(
            "--layout inetd and {binds} times --bind make no sense together: descriptor 0 is one socket"
        )));
    }
    let number = words.readiness.ready_fd;
    Ok(ActivatePlan {
        wanted: wanted(&words.sockets, &words.node, LOW, Kinds::All)?,
        run_as: run_as(&words.node)?,
        layout,
        names,
        ready_fd: number.map(|number| ready_fd(number, &[])).transpose()?,
        grace: seconds("--grace", &words.grace, true)?,
        prog: words.prog,
    })
}

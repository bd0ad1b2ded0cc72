//! `doorward admit`, understood.
#![forbid(unsafe_code)]

use super::super::args::Admit;
use super::{RuleSource, channels, deny_text, keep_fds, proto, rules, user_of};
use crate::delivery::{Channels, Layout};
use crate::exit::Result;
use std::ffi::OsString;
use std::os::fd::RawFd;

/// `doorward admit`, understood.
#[derive(Debug)]
pub(in crate::cli) struct AdmitPlan {
    pub(in crate::cli) rules: RuleSource,
    pub(in crate::cli) deny_text: Option<Vec<u8>>,
    pub(in crate::cli) channels: Channels,
    pub(in crate::cli) proto: String,
    pub(in crate::cli) keep_fds: Vec<RawFd>,
    pub(in crate::cli) prog: Vec<OsString>,
}

/// `found` is the layout that has the connection where it stands.
pub(in crate::cli) fn admit(mut admit: Admit, found: Layout) -> Result<AdmitPlan> {
    let channels = channels(&admit.connection, found)?;
    Ok(AdmitPlan {
        rules: rules(&admit.rules)?,
        deny_text: deny_text(&mut admit.rules),
        channels,
        keep_fds: keep_fds(&admit.connection.kept, |fd| user_of(fd, channels))?,
        proto: proto(admit.connection.proto)?,
        prog: admit.prog,
    })
}

//! `doorward activate`: puts the parts together in the order in which they must come.
#![forbid(unsafe_code)]

use super::Parent;
use super::descriptors::{close_to_children, must_be_usable, ready_fd};
use super::plan::ActivatePlan;
use super::start_line::start_line;
use crate::delivery::{Program, SocketLayout};
use crate::exit::{self, Unable as _, wrong_use};
use crate::report::{self, info};
use crate::serve::{self, Daemon, Manager, Watch};
use crate::source::{self, Listening, Sockets};
use crate::variables::{Variable, inherited, is_managed};
use crate::{privileges, sys};
use std::ffi::CStr;
use std::os::fd::AsFd as _;

pub(super) fn run(plan: ActivatePlan, parent: Parent) -> exit::Result<u8> {
    let low = plan.wanted.low;
    // Before this process opens anything: a number that the parent left closed must not turn out to be one of ours.
    plan.ready_fd
        .map_or(Ok(()), |fd| must_be_usable("--ready-fd", fd))?;
    let nofile = serve::raise_descriptor_limit(low).map_err(exit::system)?;
    let null = close_to_children(&[], low)?;
    if plan.ready_fd != Some(0) {
        sys::fd::replace_standard(null.as_fd(), 0).unable("replace descriptor 0")?;
    }
    let ready_fd = plan
        .ready_fd
        .map(|number| ready_fd(number, null.as_fd(), low))
        .transpose()?;
    report::take_terminal(low);
    let signals = sys::signal::set_up().unable("set up signals")?;
    // Before anything is bound: a mistyped program leaves no trace.
    let program = Program::look_up(plan.prog)?;
    let sockets = source::obtain(&plan.wanted, parent.activation)?;
    let names = names(&sockets, plan.layout, plan.names)?;
    let above = serve::above(sockets.iter().count());
    let sockets = sockets.lift(above)?;
    if let Some(identity) = &plan.run_as {
        privileges::become_identity(identity)?;
        Program::look_up(program.argv.clone())?;
    }
    sockets.iter().for_each(Listening::warn_if_it_stays);
    let manager = Manager::at(parent.notify_socket.as_deref(), low);
    let sockets = sockets.listen()?;
    start_line(&sockets, plan.layout.words());
    info!("the mode and owner of the socket decide alone who may come in: activate asks nobody");
    let daemon = Daemon {
        program,
        env: environment(inherited()),
        layout: plan.layout,
        names,
        nofile,
    };
    serve::watch(Watch {
        sockets,
        daemon,
        signals,
        manager,
        ready_fd,
        watchdog: parent.watchdog,
        grace: plan.grace,
    })
}

/// LISTEN_FDNAMES for the daemon, as `--fdname` or as inherited; settles what the number of the sockets has a say in.
fn names(
    sockets: &Sockets,
    layout: SocketLayout,
    given: Vec<String>,
) -> exit::Result<Option<Vec<String>>> {
    let count = sockets.iter().count();
    if layout == SocketLayout::Inetd && count > 1 {
        return Err(wrong_use(format!(
            "--layout inetd and {count} inherited sockets make no sense together: descriptor 0 is one socket (--name picks)"
        )));
    }
    if !given.is_empty() && given.len() != count {
        return Err(wrong_use(format!(
            "--fdname is given {} times, but there are {count} sockets",
            given.len()
        )));
    }
    if !given.is_empty() {
        return Ok(Some(given));
    }
    // All of them, or none: they come from one LISTEN_FDNAMES.
    Ok(sockets.iter().map(|socket| socket.name.clone()).collect())
}

/// What the daemon inherits, each `NAME=VALUE`: not what was meant for doorward, nor what would tell of a connection.
fn environment(inherited: impl Iterator<Item = Variable>) -> Vec<&'static CStr> {
    let passed = inherited.filter(|variable| !is_managed(variable.name, "IPC"));
    passed.map(|variable| variable.entry).collect()
}

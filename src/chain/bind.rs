//! `doorward bind`: binds as `spawn` does, and becomes its program with the listening socket.
#![forbid(unsafe_code)]

use super::program::become_program;
use crate::delivery::{Program, SocketLayout};
use crate::exit::{self, Unable as _};
use crate::privileges::{self, Identity};
use crate::source::{self, Activation, Listening, Wanted};
use crate::sys;
use crate::sys::cvec::CVec;
use crate::variables::{Variable, inherited, is_managed};
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

/// `doorward bind`, understood.
#[derive(Debug)]
pub(crate) struct Binding {
    /// One address, and how it is bound.
    pub(crate) wanted: Wanted,
    pub(crate) run_as: Option<Identity>,
    pub(crate) layout: SocketLayout,
    /// `--fdname`.
    pub(crate) name: Option<String>,
    pub(crate) keep_fds: Vec<RawFd>,
    pub(crate) prog: Vec<OsString>,
}

/// Binds and becomes the program; comes back only with a failure. `notification` are the variables by which a manager is told of
/// readiness: they are the program's, which is the service.
pub(crate) fn run(
    binding: Binding,
    notification: Vec<(&'static str, OsString)>,
) -> exit::Result<Infallible> {
    // Before anything is bound: a mistyped program leaves no trace.
    let program = Program::look_up(binding.prog)?;
    // Whatever was inherited, it is not what is served here.
    let sockets = source::obtain(&binding.wanted, Activation::default())?;
    if let Some(identity) = &binding.run_as {
        privileges::become_identity(identity)?;
        Program::look_up(program.argv.clone())?;
    }
    // Held until the exec, as the lock in it is; where that fails, what was bound is removed.
    let sockets = sockets.listen()?;
    for socket in sockets.iter().map(Listening::socket) {
        place(socket, binding.layout.first()).unable("place the socket")?;
    }
    let envp = environment(
        inherited(),
        notification,
        binding.layout,
        binding.name.as_deref(),
    );
    become_program(program, envp)
}

/// Nothing of this process stands at the number: all of its own are lifted above it.
fn place(socket: BorrowedFd<'_>, number: RawFd) -> std::io::Result<()> {
    if number == 0 {
        sys::fd::replace_standard(socket, number)
    } else {
        sys::fd::place(socket, number)
    }
}

/// As it was, less what tells of sockets and connections that are not the program's; then `notification`, and LISTEN_FDS where the layout
/// has it. The process id is the program's: an exec keeps it.
fn environment(
    inherited: impl Iterator<Item = Variable>,
    notification: Vec<(&'static str, OsString)>,
    layout: SocketLayout,
    name: Option<&str>,
) -> CVec {
    let mut all = CVec::default();
    let passed = inherited.filter(|variable| !is_managed(variable.name, "IPC"));
    all.keep(passed.map(|variable| variable.entry));
    for (name, value) in &notification {
        all.push(&[name.as_bytes(), b"=", value.as_bytes()]);
    }
    if layout == SocketLayout::Systemd {
        let pid = std::process::id().to_string();
        all.push(&[b"LISTEN_FDS=1"]);
        all.push(&[b"LISTEN_PID=", pid.as_bytes()]);
        if let Some(name) = name {
            all.push(&[b"LISTEN_FDNAMES=", name.as_bytes()]);
        }
    }
    all
}

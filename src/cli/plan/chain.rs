//! The links of a chain, understood.
#![forbid(unsafe_code)]

use super::super::args::{Bind, Connect, Relay};
use super::sockets::{connected, itself, of_node, run_as};
use super::{address, keep_fds, low, seconds, servers};
use crate::admission::Servers;
use crate::chain::Dial;
use crate::chain::{Binding, Errand};
use crate::delivery::SocketLayout;
use crate::exit::{Result, wrong_use};
use crate::source::Kinds;
use crate::source::{Address, Type};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

pub(in crate::cli) fn connect(connect: Connect) -> Result<Errand> {
    connected(Some(connect.kind), "connect")?;
    let mut words = connect.path_and_prog.into_iter();
    let path = words.next().unwrap_or_default();
    let prog: Vec<OsString> = words.collect();
    for (option, given, why) in [
        (
            "--notify",
            connect.notify,
            "it would hear no notification; PROG may be doorward relay",
        ),
        (
            "--type seqpacket",
            connect.kind == Type::Seqpacket,
            "a stream of bytes has no records",
        ),
    ] {
        if given && prog.is_empty() {
            return Err(wrong_use(format!(
                "{option} and a relay of standard input and output (no PROG) make no sense together: {why}"
            )));
        }
    }
    let dial = Dial {
        address: address("unable to connect to", &path)?,
        kind: connect.kind,
        servers: trusted(&connect.server.server)?,
        limit: limit("--connect-timeout", connect.patience.connect_timeout)?,
    };
    let local = connect.local.as_deref().map(local);
    Ok(Errand {
        dial,
        local: local.transpose()?,
        notify: connect.notify,
        prog,
    })
}

pub(in crate::cli) fn bind(bind: Bind) -> Result<Binding> {
    let mut words = bind.path_and_prog.into_iter();
    let path = words.next().unwrap_or_default();
    let address = address("unable to bind to", &path)?;
    let (layout, mut names) = itself(&bind.itself, SocketLayout::Inetd)?;
    let name = names.pop();
    if let (Some(name), Some(other)) = (&name, names.pop()) {
        return Err(wrong_use(format!(
            "--fdname {other} and --fdname {name} make no sense together: bind has one socket"
        )));
    }
    let number = layout.first();
    let keep_fds = keep_fds(&bind.kept, |fd| {
        (fd == number).then(|| format!("--layout {}", layout.word()))
    })?;
    Ok(Binding {
        wanted: of_node(&bind.node, vec![address], low(&keep_fds), Kinds::All)?,
        run_as: run_as(&bind.node)?,
        layout,
        name,
        keep_fds,
        prog: words.collect(),
    })
}

pub(in crate::cli) fn relay(relay: Relay) -> Result<Option<Duration>> {
    limit("--idle", relay.idle)
}

pub(super) fn limit(option: &str, text: Option<String>) -> Result<Option<Duration>> {
    text.map(|text| seconds(option, &text, false)).transpose()
}

/// `--server`, resolved; `None`: whoever it is.
pub(super) fn trusted(words: &[String]) -> Result<Option<Servers>> {
    let servers = servers(words)?;
    if servers.is_empty() {
        return Ok(None);
    }
    Servers::resolve(&servers).map(Some).map_err(wrong_use)
}

/// `--local`. The way around the limit of a socket address would be what the server is told.
fn local(text: &OsStr) -> Result<Address> {
    let address = address("--local", text)?;
    match &address {
        Address::Path(path) if Address::short(path).is_none() => Err(wrong_use(format!(
            "--local {address}: the path has {} bytes; the server can be told 107 at most",
            path.as_os_str().len()
        ))),
        _ => Ok(address),
    }
}

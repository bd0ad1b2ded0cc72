//! The links of a chain, understood.
#![forbid(unsafe_code)]

use super::super::args::{Bind, Connect};
use super::sockets::{connected, itself, of_node, run_as};
use super::{address, keep_fds, low, seconds};
use crate::chain::{Binding, Errand};
use crate::delivery::SocketLayout;
use crate::exit::{Result, wrong_use};
use crate::source::Kinds;

pub(in crate::cli) fn connect(connect: Connect) -> Result<Errand> {
    connected(Some(connect.kind), "connect")?;
    let mut words = connect.path_and_prog.into_iter();
    let path = words.next().unwrap_or_default();
    let address = address("unable to connect to", &path)?;
    let limit = connect.connect_timeout.as_deref();
    let limit = limit.map(|text| seconds("--connect-timeout", text, false));
    Ok(Errand {
        address,
        kind: connect.kind,
        notify: connect.notify,
        limit: limit.transpose()?,
        prog: words.collect(),
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

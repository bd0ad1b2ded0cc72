//! The sockets, as every command that has some understands its options.
#![forbid(unsafe_code)]

use super::super::args::{Node, SocketItself, Sockets};
use super::{address, mode};
use crate::delivery::SocketLayout;
use crate::exit::{Result, wrong_use};
use crate::privileges::{self, Identity};
use crate::report::Escaped;
use crate::source::{Address, Kinds, Owner, Type, Wanted};
use std::os::fd::RawFd;

/// Refuses `--type dgram` where connections are wanted.
pub(super) fn connected(kind: Option<Type>, command: &str) -> Result<()> {
    if kind == Some(Type::Dgram) {
        return Err(wrong_use(format!(
            "--type dgram and {command} make no sense together: a datagram socket has no connections (doorward bind and activate take it)"
        )));
    }
    Ok(())
}

/// `--run-as`.
pub(super) fn run_as(node: &Node) -> Result<Option<Identity>> {
    let run_as = node.run_as.as_deref();
    run_as
        .map(|text| privileges::identity("--run-as", text))
        .transpose()
}

/// Where the program finds the socket, and what it is called there.
pub(super) fn itself(
    words: &SocketItself,
    default: SocketLayout,
) -> Result<(SocketLayout, Vec<String>)> {
    let layout = match (words.layout, words.inetd) {
        (Some(layout), true) if layout != SocketLayout::Inetd => {
            return Err(wrong_use(format!(
                "--inetd and --layout {} make no sense together",
                layout.word()
            )));
        }
        (_, true) => SocketLayout::Inetd,
        (layout, false) => layout.unwrap_or(default),
    };
    if let (SocketLayout::Inetd, Some(name)) = (layout, words.fdname.first()) {
        return Err(wrong_use(format!(
            "--fdname {name} and --layout inetd make no sense together: descriptor 0 has no name"
        )));
    }
    let odd = |name: &&String| {
        name.is_empty() || name.contains(':') || name.chars().any(char::is_control)
    };
    if let Some(name) = words.fdname.iter().find(odd) {
        return Err(wrong_use(format!(
            "--fdname {}: a name is not empty and has no colon or control character",
            Escaped(name.as_bytes())
        )));
    }
    Ok((layout, words.fdname.clone()))
}

/// What `--bind`, `--name` and `--relisten` want, and the options of the socket itself.
pub(super) fn wanted(sockets: &Sockets, node: &Node, low: RawFd, kinds: Kinds) -> Result<Wanted> {
    let binds = sockets.bind.iter().map(|text| address("--bind", text));
    let binds = binds.collect::<Result<Vec<_>>>()?;
    if let Some((index, twice)) = binds
        .iter()
        .enumerate()
        .find(|(index, address)| binds.iter().take(*index).any(|other| other == *address))
    {
        return Err(wrong_use(format!(
            "--bind {twice} is given twice (option {} of --bind)",
            index + 1
        )));
    }
    Ok(Wanted {
        names: sockets.name.clone(),
        relisten: sockets.relisten,
        ..of_node(node, binds, low, kinds)?
    })
}

/// What the options of the socket itself say of `binds`.
pub(super) fn of_node(
    node: &Node,
    binds: Vec<Address>,
    low: RawFd,
    kinds: Kinds,
) -> Result<Wanted> {
    let mode = node.mode.as_deref().map(mode).transpose()?;
    let all_abstract = !binds.is_empty()
        && binds
            .iter()
            .all(|address| matches!(address, Address::Abstract(_)));
    for (option, given) in [
        ("--mode", mode.is_some()),
        ("--owner", node.owner.is_some()),
    ] {
        if given && all_abstract {
            return Err(wrong_use(format!(
                "{option} and {} make no sense together: an abstract name has no node",
                binds[0]
            )));
        }
    }
    if let (Some(backlog), Some(Type::Dgram)) = (node.backlog, node.kind) {
        return Err(wrong_use(format!(
            "--backlog {backlog} and --type dgram make no sense together: a datagram socket does not listen"
        )));
    }
    let owner = node
        .owner
        .as_deref()
        .map(|text| privileges::owner("--owner", text))
        .transpose()?;
    let backlog = node
        .backlog
        .map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    Ok(Wanted {
        binds,
        names: Vec::new(),
        mode,
        owner: owner.map(|(uid, gid)| Owner { uid, gid }),
        backlog,
        kind: node.kind,
        kinds,
        relisten: false,
        low,
    })
}

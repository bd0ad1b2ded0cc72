//! The environment of a service that is started for this process as its one client.
#![forbid(unsafe_code)]

use crate::backend::Peer;
use crate::sys::cvec::CVec;
use crate::variables::is_managed;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// IPCREMOTEGROUPS is left out beyond this many bytes, as doorward has it.
const GROUPS_LIMIT: usize = 8 * 1024;

/// `inherited`, less what doorward manages, and what `doorward spawn --notify` tells a child of its client.
pub(super) fn of(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    client: &Peer,
    notify: i32,
) -> CVec {
    let mut env = CVec::default();
    for (name, value) in inherited {
        if !is_managed(name.as_bytes(), "IPC") {
            env.push(&[name.as_bytes(), b"=", value.as_bytes()]);
        }
    }
    let others = client.groups.iter().filter(|group| **group != client.gid);
    let groups: Vec<String> = std::iter::once(&client.gid)
        .chain(others)
        .map(u32::to_string)
        .collect();
    let groups = groups.join(",");
    let groups = if groups.len() > GROUPS_LIMIT {
        "IPCREMOTEGROUPS_TRUNCATED=1".into()
    } else {
        format!("IPCREMOTEGROUPS={groups}")
    };
    for entry in [
        "PROTO=IPC",
        &format!("IPCREMOTEEUID={}", client.uid),
        &format!("IPCREMOTEEGID={}", client.gid),
        &groups,
        "IPCREMOTEPATH=",
        "IPCLOCALPATH=",
        "IPCCONNNUM=1",
        &format!("NOTIFYFD={notify}"),
    ] {
        env.push(&[entry.as_bytes()]);
    }
    if let Some(pid) = client.pid {
        env.push(&[format!("IPCREMOTEPID={pid}").as_bytes()]);
    }
    env
}

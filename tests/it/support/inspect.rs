//! What /proc says of a process that a test started.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

use super::raw;

/// Its open descriptors and what they lead to, as /proc/PID/fd shows them. Empty when it is gone.
pub fn fds(pid: i32) -> BTreeMap<i32, String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeMap::new();
    };
    let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let link = |entry: &fs::DirEntry| {
        fs::read_link(entry.path())
            .ok()
            .map(|to| to.to_string_lossy().into_owned())
    };
    entries
        .flatten()
        .filter_map(|entry| Some((number(&entry)?, link(&entry)?)))
        .collect()
}

/// Signal sets, bit N-1 for signal N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals {
    /// Blocked in the main thread.
    pub blocked: u64,
    /// Ignored.
    pub ignored: u64,
    /// Handled.
    pub caught: u64,
}

/// SigBlk, SigIgn, SigCgt of /proc/PID/status.
#[track_caller]
pub fn status(pid: i32) -> Signals {
    let set =
        |key| u64::from_str_radix(&status_line(pid, key).expect("a signal set"), 16).expect("hex");
    Signals {
        blocked: set("SigBlk"),
        ignored: set("SigIgn"),
        caught: set("SigCgt"),
    }
}

/// One value of /proc/PID/status; None when it is gone.
pub fn status_line(pid: i32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Resident memory in KiB.
pub fn resident_kib(pid: i32) -> u64 {
    let text = status_line(pid, "VmRSS").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Whether any of its descriptors is a listening socket (SO_ACCEPTCONN), of whatever family.
#[track_caller]
pub fn has_listening_socket(pid: i32) -> bool {
    fds(pid)
        .iter()
        .filter(|(_, to)| to.starts_with("socket:"))
        .any(|(&number, _)| {
            let copy = raw::descriptor_of(pid, number)
                .unwrap_or_else(|e| panic!("descriptor {number} of {pid}: {e}"));
            getsockopt(&copy.as_fd(), AcceptConn).unwrap_or(false)
        })
}

/// Its environment as it was at its exec.
pub fn environment(pid: i32) -> Vec<Vec<u8>> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes
        .split(|&byte| byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// Every process there is.
pub fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            std::str::from_utf8(entry.file_name().as_bytes())
                .ok()?
                .parse()
                .ok()
        })
        .collect()
}

/// The threads of a process, by their numbers.
pub fn threads(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let names = tasks.flatten().map(|task| task.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// Whether it lives: it exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    status_line(pid, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Its children by whichever thread, zombies not counted.
pub fn children(pid: i32) -> Vec<i32> {
    let parent = Some(pid.to_string());
    pids()
        .into_iter()
        .filter(|&child| status_line(child, "PPid") == parent && alive(child))
        .collect()
}

/// Whether each of its threads has stopped.
pub fn stands_still(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        status.is_ok_and(|text| text.lines().any(|line| line.starts_with("State:\tT")))
    })
}

/// Its children, their children and so on, in one walk over /proc: there may be thousands.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut below: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for child in pids().into_iter().filter(|&child| alive(child)) {
        if let Some(parent) = status_line(child, "PPid").and_then(|text| text.parse().ok()) {
            below.entry(parent).or_default().push(child);
        }
    }
    let mut found = below.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while next < found.len() {
        found.extend(below.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// CPU time used so far by all its threads, in clock ticks: to show that something does not spin.
pub fn cpu_ticks(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold blanks and parentheses: count from the last one.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let field = |n: usize| {
        after
            .split_whitespace()
            .nth(n)
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0)
    };
    field(11) + field(12)
}

//! How many connections with a child each the limits of this machine carry.
#![forbid(unsafe_code)]

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;

/// Descriptors and processes that are left to the others.
const SPARE: u64 = 200;
/// What one child costs the kernel, generously: KiB.
const CHILD_KIB: u64 = 256;

/// Raises the soft limit of descriptors to the hard one; servers inherit it.
pub fn raise_descriptors() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Why `connections` of them cannot be, if so.
pub fn obstacle(connections: usize) -> Result<Option<String>> {
    let wanted = connections as u64 + SPARE;
    let (_, descriptors) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let (_, processes) = getrlimit(Resource::RLIMIT_NPROC)?;
    let limits = [
        ("the hard limit of descriptors", Some(descriptors)),
        ("the limit of processes (ulimit -u)", Some(processes)),
        ("kernel.pid_max", figure("/proc/sys/kernel/pid_max")),
        ("kernel.threads-max", figure("/proc/sys/kernel/threads-max")),
        ("the control group's pids.max", pids_max()),
        (
            "the memory that is free, in children",
            available_kib().map(|kib| kib / CHILD_KIB),
        ),
    ];
    let too_low = limits.into_iter().find_map(|(name, limit)| {
        limit
            .filter(|limit| *limit < wanted)
            .map(|limit| (name, limit))
    });
    Ok(too_low.map(|(name, limit)| format!("{name} is {limit}")))
}

fn figure(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Of our control group and those above it the least; "max" is no figure.
fn pids_max() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut directory = std::path::PathBuf::from("/sys/fs/cgroup");
    directory.push(group.trim_start_matches('/'));
    let above = directory
        .ancestors()
        .take_while(|path| path.starts_with("/sys/fs/cgroup"));
    above
        .filter_map(|path| figure(path.join("pids.max").to_str()?))
        .min()
}

fn available_kib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

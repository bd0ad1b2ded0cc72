//! What the process's limits can carry, beside what `--max` promises.
#![forbid(unsafe_code)]

use crate::report::warning;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::fd::RawFd;
use std::path::Path;

/// Descriptors of its own without which doorward cannot even try.
const FEWEST: u64 = 6;

/// Raises the soft descriptor limit to the hard one; gives the original, which children get back, if it was lower.
///
/// # Errors
/// A sentence with the figures, where not even the first of doorward's own numbers (from `low` on) are within the limit.
pub(crate) fn raise_descriptor_limit(low: RawFd) -> Result<Option<libc::rlimit>, String> {
    let needed = u64::try_from(low).unwrap_or(0) + FEWEST;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(None);
    };
    let raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if raised { hard } else { soft };
    if limit < needed {
        return Err(format!(
            "unable to serve with a descriptor limit of {limit}: {needed} are needed at least (ulimit -n, LimitNOFILE=)"
        ));
    }
    Ok(raised.then_some(libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    }))
}

/// Warns, with the figures, of each limit that is too low for `max` connections that take `each` descriptors of ours, beside `own`, and a
/// process each if `processes` says so.
pub(crate) fn warn_about_limits(max: u32, each: u32, own: u32, processes: bool) {
    if max == 0 {
        return;
    }
    let max = u64::from(max);
    if let Ok((descriptors, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let needed = max * u64::from(each) + u64::from(own);
        if descriptors < needed {
            warning!(
                "--max {max} needs {needed} descriptors, but the limit is {descriptors} (LimitNOFILE=, ulimit -n)"
            );
        }
    }
    if !processes {
        return;
    }
    let few = |limit: u64, what: &str| {
        if limit < max {
            warning!("--max {max} needs {max} processes, but {what} is {limit}");
        }
    };
    if let Some(limit) = tasks_max() {
        few(limit, "the control group's pids.max (TasksMax=)");
    }
    if let Some(limit) = number("/proc/sys/kernel/pid_max") {
        few(limit, "the system's pid_max");
    }
    // Root is not held to it.
    if !nix::unistd::geteuid().is_root()
        && let Ok((processes, _)) = getrlimit(Resource::RLIMIT_NPROC)
    {
        few(processes, "the user's limit (LimitNPROC=, ulimit -u)");
    }
}

/// The smallest pids.max of our control group and those above it.
fn tasks_max() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let smallest = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => return None,
        };
        let path = path.trim_start_matches('/');
        Path::new(path)
            .ancestors()
            .filter_map(|group| number(Path::new(root).join(group).join("pids.max")))
            .min()
    });
    smallest.min()
}

/// A file that holds one number; `max` and anything else is none.
fn number(path: impl AsRef<Path>) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

//! The end of everything below this process, wherever it went: what leaves its group or its session stays below a subreaper.
#![forbid(unsafe_code)]

use super::patience;
use crate::report::warning;
use crate::sys;
use crate::sys::wait::{Change, End, next_change};
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, killpg};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// How often one looks for what was started while others were being ended.
const AGAIN: Duration = Duration::from_millis(20);
/// What is not gone so long after SIGKILL belongs to another user, or hangs in the kernel.
const HOPELESS: Duration = Duration::from_secs(10);

/// One process, as /proc shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shown {
    parent: i32,
    group: i32,
    /// When it started: with the number, it is this process and no other.
    started: u64,
}

/// Reaps whatever has ended and tells `heard` what became of `leader`; gives whether there is any child left.
pub(super) fn reap(leader: Option<Pid>, mut heard: impl FnMut(Change)) -> bool {
    loop {
        match next_change() {
            Ok(Some((pid, change))) if leader.is_some_and(|leader| pid == leader.as_raw()) => {
                heard(change);
            }
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Ends all: SIGTERM and SIGCONT, SIGKILL after `patience`. Gives the end of `leader`, if it was still running.
pub(super) fn end_all(signals: &SignalFd, leader: Option<Pid>, patience: Duration) -> Option<End> {
    let mut ending = Ending {
        signals,
        leader,
        end: None,
    };
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        if let Some(leader) = leader {
            // The leader is not reaped, so the group's number is no other's. It may be gone, which is what is wanted.
            let _ = killpg(leader, signal);
        }
        let group = leader.map(Pid::as_raw);
        send_below(signal, |shown| Some(shown.group) != group);
    }
    if ending.none_left_within(patience) {
        return ending.end;
    }
    let hopeless = Instant::now() + HOPELESS;
    loop {
        // What was started since the last look is seen by the next: all that is killed leaves its children to this process.
        send_below(Signal::SIGKILL, |_| true);
        if ending.none_left_within(AGAIN) {
            break;
        }
        if Instant::now() > hopeless {
            warning!("unable to end what a program has started: it does not end by SIGKILL");
            break;
        }
    }
    ending.end
}

struct Ending<'a> {
    signals: &'a SignalFd,
    leader: Option<Pid>,
    end: Option<End>,
}

impl Ending<'_> {
    /// Reaps until there is no child, and so nothing below it either.
    fn none_left_within(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while reap(self.leader, |change| {
            if let Change::Ended(end) = change {
                self.end = Some(end);
            }
        }) {
            if patience::wait(self.signals.as_fd(), PollFlags::POLLIN, Some(until)).is_err() {
                return false;
            }
            // Whatever it is: to be ended once is enough.
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
        true
    }
}

/// Sends `signal` to each process below this one for which `wanted` holds.
fn send_below(signal: Signal, wanted: impl Fn(&Shown) -> bool) {
    let all = match everything() {
        Ok(all) => all,
        Err(error) => {
            return warning!("unable to look for what a program has started: {error}");
        }
    };
    let own = std::process::id().cast_signed();
    for (pid, shown) in below(own, &all) {
        if !wanted(&shown) {
            continue;
        }
        // By a descriptor, opened before one looks again whether it is the same process.
        if let Ok(process) = sys::process::open(pid)
            && look(pid).is_some_and(|now| now.started == shown.started)
        {
            // It may be gone this very moment.
            let _ = sys::process::signal(process.as_fd(), signal);
        }
    }
}

/// All processes that have `top` above them.
fn below(top: i32, all: &BTreeMap<i32, Shown>) -> Vec<(i32, Shown)> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (&pid, shown) in all {
        children.entry(shown.parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut next = vec![top];
    while let Some(parent) = next.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            found.extend(all.get(&pid).map(|shown| (pid, *shown)));
            next.push(pid);
        }
    }
    found
}

fn everything() -> io::Result<BTreeMap<i32, Shown>> {
    let pids = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids
        .filter_map(|pid: i32| Some((pid, look(pid)?)))
        .collect())
}

/// `None`: it is gone.
fn look(pid: i32) -> Option<Shown> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&text)
}

/// The name in parentheses may hold anything: what counts stands behind the last of them.
fn parse(stat: &[u8]) -> Option<Shown> {
    let at = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(at + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    Some(Shown {
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        started: fields.nth(16)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_it_calls_itself() {
        let own = look(std::process::id().cast_signed()).unwrap();
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
        assert_eq!(own.group, nix::unistd::getpgrp().as_raw());
        let text = b"7 (a) S 1 (\n) S 41 42 43 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 200\n";
        let shown = Shown {
            parent: 41,
            group: 42,
            started: 99,
        };
        assert_eq!(parse(text), Some(shown));
        assert_eq!(parse(b"7 (a) S 1"), None);
    }

    #[test]
    fn what_is_below_is_found_at_any_depth_and_nothing_beside() {
        let shown = |parent| Shown {
            parent,
            group: 1,
            started: 1,
        };
        let all = BTreeMap::from([
            (2, shown(1)),
            (3, shown(2)),
            (4, shown(3)),
            (5, shown(1)),
            (6, shown(6)),
        ]);
        let mut found: Vec<i32> = below(2, &all).into_iter().map(|(pid, _)| pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}

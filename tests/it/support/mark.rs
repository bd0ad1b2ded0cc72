//! Finds and ends whatever a test has started, wherever it went: an environment variable that children inherit.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use super::{eventually, inspect};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One mark, of one process and all below it.
#[derive(Debug)]
pub struct Mark(String);

impl Mark {
    /// The variable's name.
    pub const NAME: &str = "DOORWARD_TEST";

    /// A mark that nothing else has.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Mark {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Mark(format!("{}-{count}", std::process::id()))
    }

    /// Its text, fit for a name.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// `command` and what it starts will carry the mark.
    pub fn put_on(&self, command: &mut Command) {
        command.env(Mark::NAME, &self.0);
    }

    /// The processes that carry it and live.
    pub fn carriers(&self) -> Vec<i32> {
        let mark = format!("{}={}", Mark::NAME, self.0).into_bytes();
        let marked = |&pid: &i32| inspect::alive(pid) && inspect::environment(pid).contains(&mark);
        inspect::pids().into_iter().filter(marked).collect()
    }

    /// Kills `child`, all below it and all that carry the mark.
    pub fn end_all(&self, child: &mut Child) {
        let below = match child.try_wait() {
            Ok(None) => inspect::descendants(child.id() as i32),
            _ => Vec::new(),
        };
        let _ = child.kill();
        let _ = child.wait();
        below.into_iter().for_each(end);
        if std::thread::panicking() {
            self.carriers().into_iter().for_each(end);
            return;
        }
        // A supervisor that is killed later than what it supervises starts it again.
        eventually("the end of all that the test has started", || {
            let left = self.carriers();
            let none = left.is_empty();
            left.into_iter().for_each(end);
            none
        });
    }
}

/// Kills a process, and its group if it leads one: as every child of doorward does.
fn end(pid: i32) {
    let pid = Pid::from_raw(pid);
    if getpgid(Some(pid)) == Ok(pid) {
        let _ = killpg(pid, Signal::SIGKILL);
    }
    let _ = kill(pid, Signal::SIGKILL);
}

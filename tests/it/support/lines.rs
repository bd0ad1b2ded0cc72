//! What a process writes, line by line, as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::DEADLINE;

/// Lines gathered by a thread of its own until the last writer is gone.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    lines: Vec<String>,
    consumed: Vec<bool>,
    ended: bool,
}

impl Lines {
    /// Starts to read `from`. The thread ends with the stream, which children share: nobody joins it.
    pub fn gather(from: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let gathered = lines.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches('\n')
                    .to_owned();
                gathered.change(|state| {
                    state.lines.push(text);
                    state.consumed.push(false);
                });
                line.clear();
            }
            gathered.change(|state| state.ended = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// How many lines so far contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.all().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits for a line with `text` that no call before has taken, and takes it; None at the deadline or the end.
    pub fn take(&self, text: &str) -> Option<String> {
        let end = Instant::now() + DEADLINE;
        let mut state = self.0.0.lock().unwrap();
        loop {
            let at = (0..state.lines.len())
                .find(|&i| !state.consumed[i] && state.lines[i].contains(text));
            if let Some(at) = at {
                state.consumed[at] = true;
                return Some(state.lines[at].clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits until the last writer has closed the stream (or the deadline), then gives all lines.
    pub fn whole(&self) -> Vec<String> {
        let state = self.0.0.lock().unwrap();
        let (state, _) = self
            .0
            .1
            .wait_timeout_while(state, DEADLINE, |state| !state.ended)
            .unwrap();
        state.lines.clone()
    }
}

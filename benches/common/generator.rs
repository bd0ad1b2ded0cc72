//! The load generator as a process of its own, asked for one slice of load after another.
//!
//! A process, because it must also run inside the namespaces of a systemd, and because a server that hangs it can then
//! be given up on. One for each server: it is there before the slice begins, whose length its start would distort.
#![forbid(unsafe_code)]

use super::cell::Slice;
use super::clients::{PATIENCE, WORD};
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running load generator; ended on drop.
pub struct Generator {
    process: Child,
    answers: ChildStdout,
}

impl Generator {
    /// Starts it behind `wrapper` (such as `nsenter ...`, or nothing). `program` is the benchmark's own, and `socket` the
    /// server's, both under the names that they have behind the wrapper.
    pub fn start(wrapper: &[String], program: &Path, socket: &Path) -> Result<Self> {
        let mut words = wrapper.iter().map(String::as_str);
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        let mut process = command
            .arg(WORD)
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("unable to start the load generator")?;
        let answers = process.stdout.take().context("no pipe")?;
        Ok(Self { process, answers })
    }

    /// Warms the server up, then measures one slice.
    /// # Errors
    /// The server did not answer within ten seconds, or did not finish (the generator is killed then).
    pub fn load(&mut self, clients: usize, seconds: f64) -> Result<Slice> {
        let asks = self.process.stdin.as_mut().context("no pipe")?;
        // One that has ended says why on stderr.
        let _ = writeln!(asks, "{clients} {seconds}");
        let deadline = Instant::now() + Duration::from_secs_f64(seconds) + 2 * PATIENCE;
        let Some(line) = self.answer_before(deadline)? else {
            self.process.kill()?;
            bail!("the server hung: {clients} clients were not answered in time");
        };
        let Some(line) = line.strip_suffix('\n') else {
            bail!("{}", self.last_words()?);
        };
        line.parse()
            .context("unable to read the load generator's answer")
    }

    /// One line, or what there is of it at the end of file; `None` if it took too long.
    fn answer_before(&mut self, deadline: Instant) -> Result<Option<String>> {
        let mut answer = Vec::new();
        let mut piece = [0; 1 << 14];
        while answer.last() != Some(&b'\n') {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut wanted = [PollFd::new(self.answers.as_fd(), PollFlags::POLLIN)];
            if poll(&mut wanted, PollTimeout::try_from(left)?)? == 0 {
                return Ok(None);
            }
            match self.answers.read(&mut piece)? {
                0 => break,
                more => answer.extend(piece.iter().take(more)),
            }
        }
        Ok(Some(String::from_utf8(answer)?))
    }

    /// To be called when it has ended.
    fn last_words(&mut self) -> Result<String> {
        let mut words = String::new();
        let stderr = self.process.stderr.as_mut().context("no pipe")?;
        stderr.read_to_string(&mut words)?;
        Ok(words.trim().to_owned())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It ends with its input. Behind a wrapper a kill would meet the wrapper.
        drop(self.process.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(1);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! Starts a link again and again: from the start of the process to its end, with the answer of the child between.
#![forbid(unsafe_code)]

use super::common::clients::ANSWER;
use super::common::programs::without_cargo_s;
use super::common::scratch::{forget_server, remember_server};
use super::links::{Link, Origin};
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getegid, geteuid};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a link may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The other end of all connections.
pub struct Harness {
    socket: PathBuf,
    listener: UnixListener,
}

impl Harness {
    pub fn at(socket: &Path) -> Result<Self> {
        Ok(Self {
            socket: socket.to_owned(),
            listener: UnixListener::bind(socket)?,
        })
    }

    /// What a link is given, once for all runs of a round.
    pub fn prepare(&self, link: &Link) -> Result<Given> {
        Ok(match link.from {
            Origin::Server => Given(Some(self.connection()?)),
            Origin::Itself => Given(None),
        })
    }

    /// Microseconds that one run takes.
    /// # Errors
    /// It was not answered, or ended with an error.
    pub fn time(&self, link: &Link, given: &Given) -> Result<f64> {
        let start = Instant::now();
        self.once(link, given.0.as_ref())?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    }

    fn once(&self, link: &Link, given: Option<&Connection>) -> Result<()> {
        let mut process = start(link, given)?;
        let pid = Pid::from_raw(process.id() as i32);
        remember_server(pid);
        let answered = match given {
            Some(connection) => read_answer(&connection.client),
            None => self.accept().and_then(|client| read_answer(&client)),
        };
        if answered.is_err() {
            // It hangs, or has ended already.
            let _ = process.kill();
        }
        forget_server(pid);
        let status = process.wait()?;
        answered.with_context(|| format!("{status}"))?;
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }

    /// A real connection, whose name and credentials can be asked for.
    fn connection(&self) -> Result<Connection> {
        let client = UnixStream::connect(&self.socket)?;
        client.set_read_timeout(Some(PATIENCE))?;
        let (server, _) = self.listener.accept()?;
        Ok(Connection {
            client,
            server: server.into(),
        })
    }

    fn accept(&self) -> Result<UnixStream> {
        let mut wanted = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut wanted, PollTimeout::try_from(PATIENCE)?)? == 0 {
            bail!("it did not connect");
        }
        let (client, _) = self.listener.accept()?;
        client.set_read_timeout(Some(PATIENCE))?;
        Ok(client)
    }
}

/// A connection, for who does not make one.
pub struct Given(Option<Connection>);

struct Connection {
    client: UnixStream,
    server: OwnedFd,
}

fn start(link: &Link, given: Option<&Connection>) -> Result<Child> {
    let (program, arguments) = link.command.split_first().context("no command")?;
    let end = || match given {
        Some(connection) => Ok::<_, std::io::Error>(connection.server.try_clone()?.into()),
        None => Ok(Stdio::null()),
    };
    without_cargo_s(Command::new(program).args(arguments))
        // What s6-ipcserver tells its children.
        .env("PROTO", "IPC")
        .env("IPCREMOTEEUID", geteuid().to_string())
        .env("IPCREMOTEEGID", getegid().to_string())
        .stdin(end()?)
        .stdout(end()?)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("unable to run {program}"))
}

fn read_answer(mut client: &UnixStream) -> Result<()> {
    let mut answer = [0; ANSWER.len()];
    client
        .read_exact(&mut answer)
        .context("the child did not answer")?;
    if answer != ANSWER {
        bail!("the child answered {answer:?}");
    }
    Ok(())
}

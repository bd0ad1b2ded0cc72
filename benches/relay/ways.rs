//! The relays, the ways that bytes take through them, and one run: this process is at both ends.
#![forbid(unsafe_code)]

use super::common::options::Also;
use super::common::scratch::Scratch;
use super::options::Options;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

/// The name that ratios refer to.
pub const SOCAT: &str = "socat";

/// From where to where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    PipeToServer,
    FileToServer,
    ServerToPipe,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::PipeToServer, Way::FileToServer, Way::ServerToPipe];

    pub fn words(self) -> &'static str {
        match self {
            Way::PipeToServer => "A pipe to the server",
            Way::FileToServer => "A file to the server",
            Way::ServerToPipe => "The server to a pipe",
        }
    }
}

/// One row of the table.
pub struct Row {
    pub name: String,
    command: Vec<String>,
}

/// All that is prepared once for a run.
pub struct Bench<'a> {
    pub rows: Vec<Row>,
    scratch: &'a Scratch,
    listening: UnixListener,
    bytes: u64,
}

impl<'a> Bench<'a> {
    pub fn prepare(options: &Options, scratch: &'a Scratch, doorward: &Path) -> Result<Self> {
        let socket = scratch.join("s");
        let bytes = options.mib << 20;
        // Nothing but a length: it is read from memory, and takes no disk.
        File::create(scratch.join("file"))?.set_len(bytes)?;
        let mut rows = rows(&socket, doorward, &options.also);
        rows.retain(|row| options.selects(&row.name));
        Ok(Self {
            rows,
            scratch,
            listening: UnixListener::bind(&socket)?,
            bytes,
        })
    }

    /// Seconds from the start of a relay until everything is at the other end and the relay has ended.
    pub fn run(&self, way: Way, row: usize) -> Result<f64> {
        let row = self.rows.get(row).context("no such row")?;
        let (program, arguments) = row.command.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(arguments).stderr(Stdio::null());
        command.stdin(match way {
            Way::PipeToServer => Stdio::piped(),
            Way::FileToServer => Stdio::from(File::open(self.scratch.join("file"))?),
            Way::ServerToPipe => Stdio::null(),
        });
        command.stdout(match way {
            Way::ServerToPipe => Stdio::piped(),
            _ => Stdio::null(),
        });
        let begun = Instant::now();
        let mut relay = command
            .spawn()
            .with_context(|| format!("unable to run {program}"))?;
        let (stdin, stdout) = (relay.stdin.take(), relay.stdout.take());
        let (server, _) = self.listening.accept()?;
        let carried = thread::scope(|scope| {
            let (bytes, sender) = (self.bytes, &server);
            if let Some(stdin) = stdin {
                scope.spawn(move || feed(stdin, bytes));
            }
            match stdout {
                Some(stdout) => {
                    scope.spawn(move || serve(sender, bytes));
                    drain(stdout)
                }
                None => {
                    let came = drain(sender);
                    let _ = sender.shutdown(Shutdown::Both);
                    came
                }
            }
        });
        let status = relay.wait()?;
        let took = begun.elapsed().as_secs_f64();
        if carried != self.bytes {
            bail!("{carried} bytes of {} arrived, {status}", self.bytes);
        }
        Ok(took)
    }
}

fn serve(mut server: &UnixStream, bytes: u64) {
    feed(&mut server, bytes);
    let _ = server.shutdown(Shutdown::Both);
}

/// Writes zeros until it has written all of them, or nobody takes more: what arrived is counted at the other end.
fn feed(mut to: impl Write, bytes: u64) {
    let zeros = [0; PIECE];
    for _ in 0..bytes / PIECE as u64 {
        if to.write_all(&zeros).is_err() {
            return;
        }
    }
}

/// As much as a pipe holds; a mebibyte is a multiple of it.
const PIECE: usize = 64 << 10;

/// Reads to the end; gives how much came.
fn drain(mut from: impl Read) -> u64 {
    let mut buffer = vec![0; 4 * PIECE];
    let mut came = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        came += count as u64;
    }
    came
}

/// No path of ours holds white space, so a command line may be written as one.
fn rows(socket: &Path, doorward: &Path, also: &[Also]) -> Vec<Row> {
    let [socket, program] = [socket, doorward].map(Path::display);
    let mut rows = vec![
        (
            "doorward connect".to_owned(),
            format!("{program} connect {socket}"),
        ),
        (
            "doorward connect, relay".to_owned(),
            format!("{program} connect {socket} {program} relay --idle 60"),
        ),
        (SOCAT.to_owned(), format!("socat - UNIX-CONNECT:{socket}")),
        (
            "socat -b 131072".to_owned(),
            format!("socat -b 131072 - UNIX-CONNECT:{socket}"),
        ),
        (
            "s6-ipcclient, s6-ioconnect".to_owned(),
            format!("s6-ipcclient {socket} s6-ioconnect"),
        ),
    ];
    for also in also {
        let command = format!("{} connect {socket}", also.path.display());
        rows.push((also.name.clone(), command));
    }
    let row = |(name, command): (String, String)| Row {
        name,
        command: command.split_whitespace().map(str::to_owned).collect(),
    };
    rows.into_iter().map(row).collect()
}

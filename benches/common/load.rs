//! The load generator: a closed loop of clients, in a process of its own.
//!
//! Each client connects, shuts down its writing side (so that a child that waits for the end of its input ends),
//! reads to the end of file and checks what came; then the next connection. A process of its own, because it must
//! also run inside the namespaces of a systemd, and because a server that hangs it can then be given up on.
#![forbid(unsafe_code)]

use super::stats::quantile;
use anyhow::{Context, Result, anyhow, bail};
use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The word that makes the benchmark's own program the load generator.
pub const WORD: &str = "generate-load";
/// What the child writes.
pub const ANSWER: &[u8] = b"ok\n";
/// How long a server may take until it answers at all, and beyond the measured time until it has answered all.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client gives up after this many errors: the cell is flagged anyway.
const MAX_ERRORS: u64 = 100;

/// What went wrong, counted by kind. A cell with any of them says nothing about speed.
#[derive(Clone, Copy, Default)]
pub struct Errors {
    pub refused: u64,
    pub again: u64,
    pub reset: u64,
    pub short: u64,
    pub other: u64,
}

impl Errors {
    pub fn total(&self) -> u64 {
        self.refused + self.again + self.reset + self.short + self.other
    }

    pub fn add(&mut self, more: &Errors) {
        self.refused += more.refused;
        self.again += more.again;
        self.reset += more.reset;
        self.short += more.short;
        self.other += more.other;
    }

    fn count(&mut self, fault: &Fault) {
        *match fault {
            Fault::Short => &mut self.short,
            Fault::System(ErrorKind::ConnectionRefused | ErrorKind::NotFound) => &mut self.refused,
            Fault::System(ErrorKind::WouldBlock) => &mut self.again,
            Fault::System(
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected,
            ) => &mut self.reset,
            Fault::System(_) => &mut self.other,
        } += 1;
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            refused,
            again,
            reset,
            short,
            other,
        } = self;
        write!(
            f,
            "refused={refused} again={again} reset={reset} short={short} other={other}"
        )
    }
}

/// What one cell (one server, one number of clients, one stretch of time) came to.
#[derive(Clone, Copy)]
pub struct Cell {
    /// Connections that were answered rightly.
    pub connections: u64,
    /// From the start to the last answer.
    pub seconds: f64,
    /// From connect to end of file.
    pub median_us: f64,
    pub p99_us: f64,
    pub errors: Errors,
}

impl Cell {
    /// Connections per second.
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

/// Runs the load generator as a child process, behind `wrapper` (such as `nsenter ...`, or nothing).
/// `program` is the benchmark's own, under the name that it has behind the wrapper.
/// # Errors
/// The server did not answer within ten seconds, or did not finish (the generator is killed then).
pub fn run(
    wrapper: &[String],
    program: &Path,
    socket: &Path,
    clients: usize,
    seconds: f64,
) -> Result<Cell> {
    let mut words = wrapper.iter().map(String::as_str);
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    };
    let mut generator = command
        .arg(WORD)
        .arg(socket)
        .args([clients.to_string(), seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("unable to start the load generator")?;
    let deadline = Instant::now() + Duration::from_secs_f64(seconds) + 2 * PATIENCE;
    while generator.try_wait()?.is_none() {
        if Instant::now() > deadline {
            generator.kill()?;
            generator.wait()?;
            bail!("the server hung: {clients} clients were not answered in time");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = generator.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    parse(&String::from_utf8_lossy(&output.stdout))
        .context("unable to read the load generator's answer")
}

/// The load generator's own `main`: `generate-load SOCKET CLIENTS SECONDS`, one line of `key=value` on stdout.
pub fn main(arguments: &[String]) -> Result<()> {
    let [socket, clients, seconds] = arguments else {
        bail!("usage: {WORD} SOCKET CLIENTS SECONDS")
    };
    let cell = generate(Path::new(socket), clients.parse()?, seconds.parse()?)?;
    let Cell {
        connections,
        seconds,
        median_us,
        p99_us,
        errors,
    } = cell;
    println!(
        "connections={connections} seconds={seconds} median_us={median_us} p99_us={p99_us} {errors}"
    );
    Ok(())
}

enum Fault {
    Short,
    System(ErrorKind),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.kind())
    }
}

/// Waits until the server answers, warms it up, then keeps `clients` loops going for `seconds`.
fn generate(socket: &Path, clients: usize, seconds: f64) -> Result<Cell> {
    let address = SocketAddr::from_pathname(socket)?;
    wait_for(&address).with_context(|| format!("no answer from {}", socket.display()))?;
    let start_line = Barrier::new(clients);
    let outcomes = thread::scope(|scope| {
        let loops: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    start_line.wait();
                    client_loop(&address, Duration::from_secs_f64(seconds))
                })
            })
            .collect();
        loops.into_iter().map(|one| one.join()).collect::<Vec<_>>()
    });
    let mut latencies = Vec::new();
    let mut errors = Errors::default();
    // From the first start to the last end, both as the clients saw them: on a busy machine nobody else is there in time to look.
    let mut times: Option<(Instant, Instant)> = None;
    for outcome in outcomes {
        let one = outcome.map_err(|_| anyhow!("a client panicked"))?;
        latencies.extend(one.latencies);
        errors.add(&one.errors);
        times = Some(times.map_or((one.start, one.end), |(start, end)| {
            (start.min(one.start), end.max(one.end))
        }));
    }
    let seconds = times.map_or(0.0, |(start, end)| (end - start).as_secs_f64());
    latencies.sort_by(f64::total_cmp);
    Ok(Cell {
        connections: latencies.len() as u64,
        seconds,
        median_us: quantile(&latencies, 0.5),
        p99_us: quantile(&latencies, 0.99),
        errors,
    })
}

fn wait_for(address: &SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut answered = 0;
    while answered < 20 {
        match one_connection(address) {
            Ok(()) => answered += 1,
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Err(Fault::Short) => bail!("the answer is not the child's"),
            Err(Fault::System(kind)) => bail!("{kind}"),
        }
    }
    Ok(())
}

/// What one client saw.
struct Outcome {
    start: Instant,
    end: Instant,
    /// Of the connections that were answered, in microseconds.
    latencies: Vec<f64>,
    errors: Errors,
}

fn client_loop(address: &SocketAddr, time: Duration) -> Outcome {
    let mut latencies = Vec::with_capacity(1 << 14);
    let mut errors = Errors::default();
    let start = Instant::now();
    let mut now = start;
    while now < start + time && errors.total() < MAX_ERRORS {
        let outcome = one_connection(address);
        let then = Instant::now();
        match outcome {
            Ok(()) => latencies.push((then - now).as_secs_f64() * 1e6),
            Err(fault) => {
                errors.count(&fault);
                thread::sleep(Duration::from_millis(1));
            }
        }
        now = then;
    }
    Outcome {
        start,
        end: now,
        latencies,
        errors,
    }
}

fn one_connection(address: &SocketAddr) -> Result<(), Fault> {
    let mut connection = UnixStream::connect_addr(address)?;
    // NotConnected: the child has already answered and gone, its answer still waits for us.
    match connection.shutdown(Shutdown::Write) {
        Err(error) if error.kind() != ErrorKind::NotConnected => return Err(error.into()),
        _ => {}
    }
    let mut answer = [0; 2 * ANSWER.len()];
    let mut length = 0;
    loop {
        let Some(room) = answer.get_mut(length..).filter(|room| !room.is_empty()) else {
            return Err(Fault::Short);
        };
        match connection.read(room) {
            Ok(0) if answer.get(..length) == Some(ANSWER) => return Ok(()),
            Ok(0) => return Err(Fault::Short),
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn parse(line: &str) -> Result<Cell> {
    let value = |key: &str| -> Result<f64> {
        let pair = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| *name == key);
        let (_, text) = pair.with_context(|| format!("no {key} in {line:?}"))?;
        Ok(text.parse()?)
    };
    let count = |key: &str| value(key).map(|figure| figure as u64);
    Ok(Cell {
        connections: count("connections")?,
        seconds: value("seconds")?,
        median_us: value("median_us")?,
        p99_us: value("p99_us")?,
        errors: Errors {
            refused: count("refused")?,
            again: count("again")?,
            reset: count("reset")?,
            short: count("short")?,
            other: count("other")?,
        },
    })
}

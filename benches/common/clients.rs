//! The load generator's own `main`: a closed loop of clients.
//!
//! Each client connects, shuts down its writing side (so that a child that waits for the end of its input ends),
//! reads to the end of file and checks what came; then the next connection.
#![forbid(unsafe_code)]

use super::cell::{Errors, Slice};
use anyhow::{Context, Result, anyhow, bail};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// The word that makes the benchmark's own program the load generator.
pub const WORD: &str = "generate-load";
/// What the child writes.
pub const ANSWER: &[u8] = b"ok\n";
/// How long a server may take until it answers at all.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What a server does first after a pause is slower, and is not measured: so many connections, or as many as fit into
/// this time.
const WARM_UP: usize = 20;
const WARM_UP_TIME: Duration = Duration::from_millis(10);
/// A client gives up after this many errors: the cell is flagged anyway.
const MAX_ERRORS: u64 = 100;

/// `generate-load SOCKET`: for each line `CLIENTS SECONDS` on standard input a slice of load, and a line that says what
/// it came to. Ends with its input.
/// # Errors
/// The server did not answer within ten seconds.
pub fn main(arguments: &[String]) -> Result<()> {
    let [socket] = arguments else {
        bail!("usage: {WORD} SOCKET")
    };
    let address = SocketAddr::from_pathname(socket)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let (clients, seconds) = line.split_once(' ').context("CLIENTS SECONDS expected")?;
        warm_up(&address).with_context(|| format!("no answer from {socket}"))?;
        let time = Duration::try_from_secs_f64(seconds.parse()?)?;
        let slice = generate(&address, clients.parse()?, time)?;
        writeln!(std::io::stdout(), "{slice}")?;
    }
    Ok(())
}

/// Waits until the server answers, and until it is used to it.
fn warm_up(address: &SocketAddr) -> Result<()> {
    let begun = Instant::now();
    let mut answered = 0;
    while answered < WARM_UP && (answered == 0 || begun.elapsed() < WARM_UP_TIME) {
        match one_connection(address) {
            Ok(()) => answered += 1,
            Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(2)),
            Err(Fault::Short) => bail!("the answer is not the child's"),
            Err(Fault::System(kind)) => bail!("{kind}"),
        }
    }
    Ok(())
}

/// Keeps `clients` loops going for `time`. Threads take longer to start than a slice may be wrong by: none begins before
/// all are there.
fn generate(address: &SocketAddr, clients: usize, time: Duration) -> Result<Slice> {
    let start_line = Barrier::new(clients);
    let outcomes = thread::scope(|scope| {
        let loops: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    start_line.wait();
                    client_loop(address, time)
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
    Ok(Slice {
        seconds: times.map_or(0.0, |(start, end)| (end - start).as_secs_f64()),
        latencies,
        errors,
    })
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
    let mut latencies = Vec::with_capacity(1 << 12);
    let mut errors = Errors::default();
    let start = Instant::now();
    let mut now = start;
    while now < start + time && errors.total() < MAX_ERRORS {
        let outcome = one_connection(address);
        let then = Instant::now();
        match outcome {
            Ok(()) => latencies.push((then - now).as_secs_f64() * 1e6),
            Err(fault) => {
                count(&mut errors, &fault);
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

enum Fault {
    Short,
    System(ErrorKind),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.kind())
    }
}

fn count(errors: &mut Errors, fault: &Fault) {
    *match fault {
        Fault::Short => &mut errors.short,
        Fault::System(ErrorKind::ConnectionRefused | ErrorKind::NotFound) => &mut errors.refused,
        Fault::System(ErrorKind::WouldBlock) => &mut errors.again,
        Fault::System(
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected,
        ) => &mut errors.reset,
        Fault::System(_) => &mut errors.other,
    } += 1;
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

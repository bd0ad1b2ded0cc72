//! Hundreds of backends killed under load: nobody is lost whom no backend had received, and nobody ever hangs.
//!
//! A worker of the probe takes one message at a time, so a kill can end one client at most; that one sees the end of file.
//! The pause before a restart doubles with each quick death, so many workers are killed a few times each.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{NOBODY, backend};
use crate::support::{Served, eventually, inspect, probe};

/// How long a client waits for anything at all before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the clients, and of whom they were served by.
#[derive(Debug, Default)]
struct Account {
    connections: usize,
    answered: usize,
    /// End of file (or a reset) without an answer.
    ended: usize,
    /// Neither an answer nor an end.
    hung: usize,
    kills: usize,
    /// Backends that answered at least once.
    backends: usize,
}

impl Account {
    fn add(&mut self, other: &Account) {
        self.connections += other.connections;
        self.answered += other.answered;
        self.ended += other.ended;
        self.hung += other.hung;
        self.kills += other.kills;
        self.backends += other.backends;
    }

    /// Prints it past the capture of the test harness, and asserts what must hold.
    #[track_caller]
    fn settle(&self, name: &str, kills: usize) {
        let line = format!(
            "kill storm, {name}: {} kills, {} connections, {} answered by {} backends, {} ended by a kill, {} hung\n",
            self.kills, self.connections, self.answered, self.backends, self.ended, self.hung
        );
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        assert!(self.kills >= kills, "{line}");
        assert_eq!(self.hung, 0, "{line}");
        assert_eq!(self.answered + self.ended, self.connections, "{line}");
        assert!(self.ended <= self.kills, "{line}");
        // Load, not a trickle: kills fell among connections, and different backends were at work.
        assert!(
            self.ended > 0 && self.answered > self.kills && self.backends > self.kills / 4,
            "{line}"
        );
    }
}

/// Connects over and over until told to stop. What it gives: answers, and those that ended without.
fn client(
    path: &Path,
    stop: &AtomicBool,
    seen: &Mutex<std::collections::HashSet<String>>,
) -> Account {
    let mut account = Account::default();
    while !stop.load(Ordering::SeqCst) {
        let mut stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                // Interrupted, or no room in the kernel's queue: neither is a connection yet.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("unable to connect: {error}"),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        account.connections += 1;
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Ok(_) if answer.ends_with('\n') => {
                account.answered += 1;
                seen.lock().unwrap().insert(answer);
            }
            Ok(_) => account.ended += 1,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => account.ended += 1,
            Err(_) => account.hung += 1,
        }
    }
    account
}

/// Runs `clients` clients as long as `kills` goes on.
fn under_load(path: &Path, clients: usize, kills: impl FnOnce() -> usize) -> Account {
    let (stop, seen) = (AtomicBool::new(false), Mutex::default());
    let mut all = Account::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| client(path, &stop, &seen)))
            .collect();
        // Whatever happens, the clients end.
        let kills = std::panic::catch_unwind(std::panic::AssertUnwindSafe(kills));
        stop.store(true, Ordering::SeqCst);
        for thread in threads {
            all.add(&thread.join().unwrap());
        }
        all.kills = kills.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    all.backends = seen.into_inner().unwrap().len();
    all
}

/// Everything is given back: no slot, no message, no descriptor of a connection.
#[track_caller]
fn assert_nothing_left(door: &Served, fds_before: usize) {
    eventually("no slot in use", || {
        door.signal(Signal::SIGUSR1);
        door.wait_log("status ").contains("slots=0/")
    });
    eventually("as many descriptors as before", || {
        descriptors(door) <= fds_before
    });
}

/// Open descriptors, but for pidfds, of which there are as many as workers at this moment.
fn descriptors(door: &Served) -> usize {
    let fds = door.fds();
    let count = fds.values().filter(|link| !link.contains("pidfd")).count();
    assert!(count > 0);
    count
}

#[test]
fn storm_of_kills_on_started_workers_loses_nothing_that_was_not_received() {
    const WORKERS: usize = 64;
    const ROUNDS: usize = 5;
    let workers = WORKERS.to_string();
    // More clients than workers, so that every worker is at work and the channel is never empty.
    let door = crate::support::Door::new()
        .command("handoff")
        .args(["--workers", &workers])
        .serve(backend(&["--answer", "--slow", "30"]));
    door.wait_children(WORKERS);
    let fds = descriptors(&door);

    let mut account = under_load(&door.socket(), 80, || kill_rounds(&door, WORKERS, ROUNDS));
    account.kills = account.kills.min(door.count_log("signal=9"));

    account.settle("64 started workers", WORKERS * ROUNDS);
    assert_nothing_left(&door, fds);
}

#[test]
fn kills_on_two_workers_lose_nothing_that_was_not_received() {
    let door = crate::support::Door::new()
        .command("handoff")
        .args(["--workers", "2"])
        .serve(backend(&["--answer", "--slow", "5"]));
    door.wait_children(2);
    let fds = descriptors(&door);

    let mut account = under_load(&door.socket(), 8, || kill_rounds(&door, 2, 5));
    account.kills = account.kills.min(door.count_log("signal=9"));

    account.settle("2 started workers", 10);
    assert_nothing_left(&door, fds);
}

/// Kills every worker of a door once a round, as they come back.
fn kill_rounds(door: &Served, workers: usize, rounds: usize) -> usize {
    /// Who has just started has not received anything yet.
    const TO_WORK: Duration = Duration::from_millis(60);
    let end = Instant::now() + Duration::from_secs(120);
    let mut known = std::collections::HashMap::new();
    let mut killed = 0;
    while killed < workers * rounds {
        assert!(Instant::now() < end, "{killed} kills");
        for pid in door.log().iter().filter_map(|line| started(line)) {
            let (since, dead) = known.entry(pid).or_insert((Instant::now(), false));
            if killed < workers * rounds && !*dead && since.elapsed() > TO_WORK {
                *dead = true;
                kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a worker that nobody else ends");
                killed += 1;
                // Among the connections, not all at one moment.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    eventually("the ends of all that were killed", || {
        door.count_log("signal=9") >= killed
    });
    // They come back once more, so that what is queued is served.
    eventually("the workers again", || !door.children().is_empty());
    killed
}

/// `backend start child=77`
fn started(line: &str) -> Option<i32> {
    line.split_once("backend start child=")?
        .1
        .trim()
        .parse()
        .ok()
}

/// A listening backend that the test starts again after each kill, as a service manager does.
struct Listening {
    path: PathBuf,
    /// The manager's listening socket, if it is not the backend's own.
    listener: Option<std::os::fd::OwnedFd>,
}

impl Listening {
    fn start(&self) -> Child {
        let mut command = Command::new(probe());
        command
            .args(["backend", "--answer", "--slow", "5"])
            .stdin(Stdio::null());
        match &self.listener {
            Some(listener) => {
                command.args(["--listen-fd", "7"]);
                let copy = listener.try_clone().unwrap();
                crate::support::raw::place_descriptors(&mut command, vec![(7, copy)]);
            }
            None => {
                command.arg("--listen").arg(&self.path);
                crate::support::raw::place_descriptors(&mut command, Vec::new());
            }
        }
        command.spawn().unwrap()
    }
}

#[test]
fn storm_of_kills_on_listening_backends_loses_nothing_that_was_not_received() {
    const DOORS: usize = 4;
    const KILLS: usize = 75;
    let mut total = Account::default();
    std::thread::scope(|scope| {
        let doors: Vec<_> = (0..DOORS)
            .map(|number| scope.spawn(move || storm_on_a_listening_backend(number % 2 == 0, KILLS)))
            .collect();
        for door in doors {
            total.add(&door.join().unwrap());
        }
    });
    total.settle("4 listening backends", DOORS * KILLS);
}

fn storm_on_a_listening_backend(own_socket: bool, kills: usize) -> Account {
    let door = crate::support::Door::new().command("handoff");
    let path = door.path("backend");
    let listener = (!own_socket).then(|| super::listening::listener(&path));
    let listening = Listening {
        path: path.clone(),
        listener,
    };
    let mut running = listening.start();
    let door = door
        .args(["--backend", path.to_str().unwrap()])
        .args(["--ready", "backend"])
        .serve(NOBODY);
    let fds = descriptors(&door);
    let account = under_load(&door.socket(), 4, || {
        for round in 1..=kills {
            // Each kill meets a backend that has been given the channel, and some of them at work.
            eventually("the channel in the backend's hands", || {
                door.count_log("backend start path=") >= round
                    && inspect::fds(running.id() as i32).len() >= 6
            });
            std::thread::sleep(Duration::from_millis((round * 5 % 40) as u64));
            running.kill().unwrap();
            running.wait().unwrap();
            running = listening.start();
        }
        kills
    });
    assert_nothing_left(&door, fds + 1);
    running.kill().unwrap();
    running.wait().unwrap();
    account
}

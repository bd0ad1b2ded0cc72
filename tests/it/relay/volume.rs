//! Much, in both directions at once, and readers that do not keep up.

use std::io::{Read, Write};
use std::net::Shutdown;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{Relay, both};
use crate::support::{eventually, inspect};

/// Bytes that look random, and of which a lost, doubled or swapped one shows.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for eight in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            eight.copy_from_slice(&self.0.to_le_bytes()[..eight.len()]);
        }
    }
}

const CHUNK: usize = 40_000;
const CHUNKS: usize = (64 << 20) / CHUNK;

fn send(mut to: impl Write, seed: u64) {
    let (mut noise, mut bytes) = (Noise(seed), vec![0; CHUNK]);
    for _ in 0..CHUNKS {
        noise.fill(&mut bytes);
        to.write_all(&bytes).unwrap();
    }
}

fn check(mut from: impl Read, seed: u64) {
    let (mut noise, mut expected, mut came) = (Noise(seed), vec![0; CHUNK], vec![0; CHUNK]);
    for chunk in 0..CHUNKS {
        noise.fill(&mut expected);
        from.read_exact(&mut came).unwrap();
        assert!(came == expected, "chunk {chunk} differs");
    }
    assert_eq!(from.read(&mut came).unwrap(), 0, "and then the end");
}

#[test]
fn sixty_four_mebibytes_go_both_ways_at_once_and_arrive_as_they_were() {
    for mut relay in both() {
        let (stdin, stdout) = (relay.stdin.take().unwrap(), relay.stdout.take().unwrap());
        let server = &relay.server;
        std::thread::scope(|scope| {
            scope.spawn(move || send(stdin, 1));
            scope.spawn(move || check(stdout, 2));
            scope.spawn(move || {
                send(server, 2);
                server.shutdown(Shutdown::Write).unwrap();
            });
            check(server, 1);
        });
        relay.ends_with(0);
    }
}

/// Writes until nothing fits any more; gives how much did.
fn fill(to: &mut (impl Write + std::os::fd::AsFd)) -> usize {
    let flags = OFlag::from_bits_retain(fcntl(&*to, FcntlArg::F_GETFL).unwrap());
    fcntl(&*to, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    let (mut wrote, mut full) = (0, 0);
    // What it carries on makes room again: it is full when it stays full.
    while full < 50 {
        match to.write(&[b'x'; 4096]) {
            Ok(count) => (wrote, full) = (wrote + count, 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                full += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
        assert!(wrote < 8 << 20, "it takes more than it can pass on");
    }
    fcntl(&*to, FcntlArg::F_SETFL(flags)).unwrap();
    wrote
}

#[test]
fn a_server_that_does_not_read_is_waited_for_without_effort_and_gets_everything_later() {
    for mut relay in both() {
        let wrote = fill(&mut relay.stdin.as_mut().unwrap().0);
        relay.wait_asleep();
        let ticks = inspect::cpu_ticks(relay.process.pid());
        std::thread::sleep(std::time::Duration::from_millis(500));
        let used = inspect::cpu_ticks(relay.process.pid()) - ticks;
        assert!(used < 10, "{used} ticks of 50");
        // The other direction does not wait.
        relay.server.write_all(b"news").unwrap();
        relay.hear("news");
        relay.close_stdin();
        let mut got = Vec::new();
        relay.server.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), wrote);
        relay.server.shutdown(Shutdown::Write).unwrap();
        relay.ends_with(0);
    }
}

#[test]
fn a_stalled_reader_of_standard_output_stalls_the_server_and_not_standard_input() {
    for mut relay in both() {
        let mut server = relay.server.try_clone().unwrap();
        let wrote = fill(&mut server);
        relay.say("still heard");
        relay.server_gets("still heard");
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(relay.output().len(), wrote);
        relay.close_stdin();
        relay.ends_with(0);
    }
}

#[test]
fn small_pieces_arrive_at_once() {
    for mut relay in both() {
        for number in 0..500 {
            let line = format!("{number}\n");
            relay.say(&line);
            relay.server_gets(&line);
            relay.server.write_all(line.as_bytes()).unwrap();
            relay.hear(&line);
        }
    }
}

#[test]
fn a_server_that_stalls_and_then_goes_leaves_no_relay_behind() {
    let mut relay = Relay::new();
    fill(&mut relay.stdin.as_mut().unwrap().0);
    let (gone, _) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut relay.server, gone));
    relay.ends_with(111);
    eventually("standard input to be closed", || {
        relay.stdin.as_mut().unwrap().write(b"x").is_err()
    });
}

//! `--idle`: when nothing moves.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Relay, both};

#[test]
fn nothing_to_relay_for_so_long_is_the_end() {
    let mut relay = Relay::on_descriptors(["--idle", "0.3"]);
    relay.ends_with(99);
    relay.process.wait_log("nothing moved for 0.3 seconds");
    relay.server_sees_the_end();
}

#[test]
fn a_reader_that_stands_still_is_nothing_moving_either() {
    let mut relay = Relay::on_descriptors(["--idle", "0.3"]);
    let stdin = relay.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut stdin = stdin;
        while stdin.write_all(&[b'x'; 65536]).is_ok() {}
    });
    relay.ends_with(99);
    feeder.join().unwrap();
}

#[test]
fn one_direction_that_moves_is_enough() {
    let mut relay = Relay::on_descriptors(["--idle", "4"]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        relay.say("x");
        relay.server_gets("x");
        std::thread::sleep(Duration::from_millis(50));
    }
    relay.close_stdin();
    relay.server_sees_the_end();
    relay.server.shutdown(std::net::Shutdown::Write).unwrap();
    relay.ends_with(0);
}

#[test]
fn without_it_there_is_no_limit() {
    for relay in both() {
        relay.wait_asleep();
        let limits = std::fs::read_dir(format!("/proc/{}/task", relay.process.pid())).unwrap();
        for thread in limits.flatten() {
            let call = std::fs::read_to_string(thread.path().join("syscall")).unwrap();
            // The fourth word is poll's timeout and where futex would have a pointer to one.
            let words: Vec<&str> = call.split(' ').collect();
            let limit = match words[0].parse() {
                Ok(libc::SYS_poll) => i64::from_str_radix(&words[3][2..], 16).unwrap_or(-1) as i32,
                Ok(libc::SYS_ppoll) => {
                    if words[3] == "0x0" {
                        -1
                    } else {
                        0
                    }
                }
                _ => {
                    if words[4] == "0x0" {
                        -1
                    } else {
                        0
                    }
                }
            };
            assert_eq!(limit, -1, "{call}");
        }
    }
}

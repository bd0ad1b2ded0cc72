//! Which direction ends first, and what the other makes of it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::Signal;

use super::{assert_died_of_broken_pipe, both};
use crate::support::{eventually, inspect};

#[test]
fn end_of_standard_input_is_passed_on_and_the_answer_awaited() {
    for mut relay in both() {
        relay.say("question");
        relay.close_stdin();
        relay.server_gets("question");
        relay.server_sees_the_end();
        relay.wait_asleep();
        relay.server.write_all(b"late answer").unwrap();
        relay.server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(relay.output(), "late answer");
        relay.ends_with(0);
    }
}

#[test]
fn end_of_the_server_s_words_is_passed_on_and_the_rest_of_standard_input_still_sent() {
    for mut relay in both() {
        relay.server.write_all(b"that is all").unwrap();
        relay.server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(relay.output(), "that is all", "to the end of file");
        relay.say("more");
        relay.server_gets("more");
        relay.say(" and more");
        relay.server_gets(" and more");
        relay.close_stdin();
        relay.server_sees_the_end();
        relay.ends_with(0);
    }
}

#[test]
fn a_server_that_is_gone_ends_it_though_standard_input_stays_open() {
    for mut relay in both() {
        relay.server.write_all(b"bye").unwrap();
        relay.wait_asleep();
        let (gone, _) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(std::mem::replace(&mut relay.server, gone));
        assert_eq!(relay.output(), "bye");
        relay.ends_with(0);
        assert!(relay.stdin.is_some());
    }
}

#[test]
fn a_server_that_leaves_with_something_unread_is_no_success_and_its_words_arrive() {
    for mut relay in both() {
        relay.say("never read");
        let unread = relay.server.try_clone().unwrap();
        eventually("the bytes in its queue", || {
            crate::support::raw::queued(&unread.try_clone().unwrap().into()).unwrap() == 10
        });
        drop(unread);
        relay.server.write_all(b"too late").unwrap();
        let (gone, _) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(std::mem::replace(&mut relay.server, gone));
        assert_eq!(relay.output(), "too late");
        relay.ends_with(111);
        relay.process.wait_log("Connection reset by peer");
    }
}

#[test]
fn what_the_server_does_not_take_is_no_success_and_its_answer_arrives_whole() {
    for mut relay in both() {
        relay.server.shutdown(Shutdown::Read).unwrap();
        relay.say("unwanted");
        // It has noticed: nobody reads its standard input any more.
        eventually("standard input to be closed", || {
            relay.stdin.as_mut().unwrap().write(b"x").is_err()
        });
        relay.server.write_all(b"the answer").unwrap();
        relay.server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(relay.output(), "the answer");
        relay.ends_with(111);
        relay.process.wait_log("the server takes no more");
    }
}

#[test]
fn what_had_come_and_was_not_sent_when_the_server_went_is_no_success() {
    for mut relay in both() {
        relay.wait_asleep();
        relay.process.pause();
        relay.say("never sent");
        let (gone, _) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(std::mem::replace(&mut relay.server, gone));
        relay.process.resume();
        relay.ends_with(111);
        relay.process.wait_log("the server takes no more");
    }
}

#[test]
fn without_a_reader_it_dies_as_a_filter_does_and_the_server_hears_of_it() {
    for mut relay in both() {
        relay.server.write_all(b"first").unwrap();
        relay.hear("first");
        relay.stdout = None;
        eventually("the server to hear of it", || {
            let error = relay.server.write(b"more").err();
            error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        });
        // The other direction lives.
        relay.say("upload");
        relay.server_gets("upload");
        relay.close_stdin();
        // A reset, where more of its words came before it could hear.
        let end = relay.server.read(&mut [0; 64]);
        let reset = std::io::ErrorKind::ConnectionReset;
        assert!(
            end.as_ref()
                .map_or_else(|error| error.kind() == reset, |count| *count == 0),
            "{end:?}"
        );
        assert_died_of_broken_pipe(relay.process.wait_exit());
        assert_eq!(relay.process.whole_log(), [""; 0]);
    }
}

#[test]
fn a_reader_that_is_gone_before_anything_came_ends_nothing_but_its_direction() {
    for mut relay in both() {
        relay.stdout = None;
        // It notices without having anything to write, and so does the server: nothing can be sent any more, not even nothing.
        eventually("the server to hear of it", || {
            let error = relay.server.write(b"").err();
            error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
        });
        relay.say("upload");
        relay.server_gets("upload");
        relay.close_stdin();
        relay.server_sees_the_end();
        assert_died_of_broken_pipe(relay.process.wait_exit());
    }
}

#[test]
fn signals_end_it_as_they_end_any_program() {
    for mut relay in both() {
        relay.wait_asleep();
        relay.process.signal(Signal::SIGTERM);
        let status = relay.process.wait_exit();
        assert_eq!(status.signal(), Some(libc::SIGTERM), "{status}");
        relay.server_sees_the_end();
    }
}

#[test]
fn waiting_takes_no_time_of_the_processor() {
    for mut relay in both() {
        // Half an end on either side is what a careless poll would spin on.
        relay.server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(relay.output(), "");
        relay.wait_asleep();
        let ticks = inspect::cpu_ticks(relay.process.pid());
        std::thread::sleep(std::time::Duration::from_millis(500));
        let used = inspect::cpu_ticks(relay.process.pid()) - ticks;
        assert!(used < 10, "{used} ticks of 50");
        relay.close_stdin();
        let mut rest = Vec::new();
        relay.server.read_to_end(&mut rest).unwrap();
        relay.ends_with(0);
    }
}

//! Standard error of every kind. It never blocks the service and never ends it, whoever reads it or does not.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::fstat;

use super::{assert_serves, echo, probe_with};
use crate::support::{Door, Report, Served, lines::Lines, raw};

const CLIENTS: usize = 400;

/// Serves many with `-v` while nobody reads, then reads: every line is whole, and the lines and what is said to be
/// dropped together are all that there was to say.
#[track_caller]
fn assert_bears_what_nobody_reads(ours: impl Read + Send + 'static, theirs: OwnedFd) {
    let mut door = Door::new().args(["-v"]).fd2(theirs).serve(echo());
    for _ in 0..CLIENTS {
        assert_serves(&door);
    }
    door.wait_notice(&format!("slots=0/1000, {CLIENTS} admitted"));

    let lines = Lines::gather(ours);
    // The end of what was stored, by which there is room again.
    crate::support::eventually("room", || {
        door.signal(Signal::SIGUSR1);
        lines.count("doorward: status ") > 0
    });
    let status = lines.take("doorward: status ").unwrap();
    let all = lines.all();
    let before = all.iter().take_while(|line| !line.contains("status "));
    let before: Vec<_> = before.map(|line| line.trim_end_matches('\r')).collect();
    for line in &before {
        assert!(line.starts_with("doorward: "), "{line:?}");
        assert_eq!(line.matches("doorward:").count(), 1, "{line:?}");
    }
    let dropped: usize = all
        .iter()
        .filter_map(|line| line.trim_end().rsplit_once(" dropped="))
        .map(|(_, count)| count.parse::<usize>().unwrap())
        .sum();
    assert!(status.contains(" dropped="), "{status:?}");
    // start, info, ready; allow and end of each; status lines that came before there was room.
    let told = 3 + 2 * CLIENTS;
    assert!(
        before.len() + dropped >= told,
        "{} + {dropped}",
        before.len()
    );
    assert!(before.len() + dropped < told + 5000);
    assert!(door.stop().success());
}

#[test]
fn full_pipe_blocks_nobody_and_what_was_dropped_is_counted() {
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    assert_bears_what_nobody_reads(reader, writer.into());
}

#[test]
fn full_socket_blocks_nobody_and_what_was_dropped_is_counted() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    nix::sys::socket::setsockopt(&theirs, nix::sys::socket::sockopt::SndBuf, &4096).unwrap();
    assert_bears_what_nobody_reads(ours, theirs.into());
}

#[test]
fn full_terminal_blocks_nobody_and_what_was_dropped_is_counted() {
    let (ours, theirs) = raw::terminal();
    assert_bears_what_nobody_reads(File::from(ours), theirs);
}

#[test]
fn terminal_shows_the_lines() {
    let (ours, theirs) = raw::terminal();
    let lines = Lines::gather(File::from(ours));
    let mut door = Door::new().fd2(theirs).serve(echo());
    assert_serves(&door);
    assert!(door.stop().success());
    for text in ["doorward: start: ", "doorward: ready", "doorward: stop "] {
        assert!(lines.take(text).is_some(), "{text:?}: {:?}", lines.all());
    }
}

/// It serves, takes every signal and ends well.
#[track_caller]
fn assert_lives(mut door: Served) {
    for signal in [Signal::SIGUSR1, Signal::SIGHUP] {
        door.signal(signal);
        assert_serves(&door);
    }
    door.notices()
        .wait_count("READY=1", 2)
        .expect("ready again");
    assert!(door.stop().success());
}

#[test]
fn closed_stderr_ends_nothing() {
    for close in ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"] {
        let close = format!(r#"exec "$@" {close}"#);
        let door = Door::new().args(["-v"]).wrap(["sh", "-c", &close, "sh"]);
        assert_lives(door.serve(echo()));
    }
}

#[test]
fn children_of_one_with_closed_standard_descriptors_get_dev_null() {
    let close = r#"exec "$@" 0<&- 1>&- 2>&-"#;
    let door = Door::new().wrap(["sh", "-c", close, "sh"]);
    let door = door.serve(probe_with(["report", "7"]));
    let report = Report::parse(door.connect().read_to_end());
    assert_eq!(report.fd_numbers(), [0, 1, 2, 6, 7]);
    for number in 0..3 {
        assert_eq!(report.fds()[&number].link, "/dev/null");
    }
}

#[test]
fn pipe_and_socket_without_a_reader_end_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_lives(Door::new().args(["-v"]).fd2(writer).serve(echo()));
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    assert_lives(Door::new().args(["-v"]).fd2(theirs).serve(echo()));
    let (ours, theirs) = raw::terminal();
    drop(ours);
    assert_lives(Door::new().args(["-v"]).fd2(theirs).serve(echo()));
}

#[test]
fn full_device_ends_nothing() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_lives(Door::new().args(["-v"]).fd2(full).serve(echo()));
}

#[test]
fn file_gets_every_line() {
    let door = Door::new().args(["-v"]);
    let path = door.path("log");
    let file = File::options().create(true).append(true).open(&path);
    let mut door = door.fd2(file.unwrap()).serve(echo());
    for _ in 0..50 {
        assert_serves(&door);
    }
    door.wait_notice("slots=0/1000, 50 admitted");
    assert!(door.stop().success());

    let text = std::fs::read_to_string(path).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("doorward: allow "), 50);
    assert_eq!(count("doorward: end child="), 50);
    assert_eq!(count("doorward: "), text.lines().count(), "{text}");
    assert_eq!(text.lines().count(), 105, "{text}");
}

#[test]
fn stderr_that_children_share_stays_blocking() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let door = Door::new().fd2(writer).serve(probe_with(["report", "7"]));
    let report = Report::parse(door.connect().read_to_end());
    assert!(!report.fds()[&2].nonblock);
}

/// The lines of a short life with a stderr for which `journal_stream` makes the variable, from its device and inode.
fn lines_with(journal_stream: impl FnOnce(u64, u64) -> Option<String>) -> Vec<String> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stat = fstat(&theirs).unwrap();
    let lines = Lines::gather(ours);
    let door = Door::new().args(["-v"]).fd2(theirs);
    let door = match journal_stream(stat.st_dev, stat.st_ino) {
        Some(value) => door.env("JOURNAL_STREAM", value),
        None => door,
    };
    let mut door = door.serve(["/bin/true"]);
    door.connect().assert_closed();
    door.wait_notice("slots=0/1000, 1 admitted");
    assert!(door.stop().success());
    drop(door);
    lines.whole()
}

#[test]
fn lines_for_the_journal_have_priorities() {
    let lines = lines_with(|device, inode| Some(format!("{device}:{inode}")));
    let has = |start: &str| {
        let found = lines.iter().any(|line| line.starts_with(start));
        assert!(found, "{start:?} in {lines:#?}");
    };
    has("<5>doorward: start: ");
    has("<6>doorward: info: ");
    has("<5>doorward: ready");
    has("<6>doorward: allow ");
    has("<6>doorward: end ");
    has("<5>doorward: stop ");
}

#[test]
fn fatal_line_for_the_journal_has_its_priority() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stat = fstat(&theirs).unwrap();
    let lines = Lines::gather(ours);
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
    let door = Door::new().env("JOURNAL_STREAM", stream).fd2(theirs);
    let mut door = door.start(["no-such-program"]);
    assert_eq!(door.wait_exit().code(), Some(127));
    assert!(lines.take("<2>doorward: fatal: ").is_some());
}

#[test]
fn lines_for_others_have_no_priorities() {
    let all = [
        lines_with(|_, _| None),
        lines_with(|device, inode| Some(format!("{device}:{}", inode + 1))),
        lines_with(|device, inode| Some(format!("{}:{inode}", device + 1))),
        lines_with(|device, inode| Some(format!("{device}:{inode}:"))),
        lines_with(|_, _| Some("\n".to_owned())),
        lines_with(|_, _| Some(String::new())),
    ];
    for lines in all {
        assert!(lines.len() >= 5, "{lines:?}");
        for line in lines {
            assert!(line.starts_with("doorward: "), "{line:?}");
        }
    }
}

#[test]
fn verbosity_decides_what_is_said() {
    for (option, allow, deny) in [(None, 0, 1), (Some("-v"), 1, 1), (Some("-q"), 0, 0)] {
        let door = Door::new().args(option).args(["--rate", "1/1000"]);
        let mut door = door.serve(["/bin/true"]);
        door.connect().assert_closed();
        door.connect().assert_closed();
        door.wait_notice("1 admitted, 1 refused");
        assert!(door.stop().success());
        let log = door.log().join("\n");
        assert_eq!(log.matches("doorward: allow ").count(), allow, "{log}");
        assert_eq!(log.matches("doorward: deny ").count(), deny, "{log}");
        assert_eq!(log.is_empty(), option == Some("-q"), "{log}");
    }
}

//! `call --pty` with a real terminal: the program has one of its own, and the caller's is as it was when all is over.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;

use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

use super::{answer, call, called, script};
use crate::support::lines::Lines;
use crate::support::{Door, Report, Served, eventually, inspect, probe, raw};

/// A terminal with somebody before it.
struct Desk {
    keys: File,
    screen: Lines,
    slave: OwnedFd,
    before: Termios,
}

impl Desk {
    fn new() -> Desk {
        let pair = openpty(None, None).unwrap();
        raw::set_window(&pair.slave, 33, 99).unwrap();
        Desk {
            keys: File::from(pair.master.try_clone().unwrap()),
            screen: Lines::gather(File::from(pair.master)),
            before: tcgetattr(&pair.slave).unwrap(),
            slave: pair.slave,
        }
    }

    /// `doorward call --pty` at this terminal.
    fn call(&self, server: &Served) -> Door {
        let own = || self.slave.try_clone().unwrap();
        let call = call(&server.socket(), &["--pty"]).env("TERM", "xterm-256color");
        call.fd0(own()).fd1(own()).fd2(own())
    }

    fn typed(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    #[track_caller]
    fn shows(&self, text: &str) -> String {
        let line = self.screen.take(text);
        line.unwrap_or_else(|| panic!("no {text:?} on {:?}", self.screen.all()))
    }

    fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.slave).unwrap();
        !now.local_flags
            .intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    #[track_caller]
    fn assert_as_before(&self) {
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before);
    }

    fn name(&self) -> String {
        nix::unistd::ttyname(self.slave.as_fd())
            .unwrap()
            .to_string_lossy()
            .into_owned()
    }
}

#[track_caller]
fn ended(mut running: Served) -> ExitStatus {
    running.wait_exit()
}

#[test]
fn the_program_has_a_terminal_of_its_own_and_no_way_to_the_caller_s() {
    let report = Door::new();
    let path = report.path("report");
    let text = format!(
        "{} report 9 9>{1}.new && mv {1}.new {1}; exec 3<>/dev/tty && echo mine; stty size; tty; echo \"$TERM\"",
        probe().display(),
        path.display()
    );
    let server = script(report, &["--allow-pty"], &text);
    let desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    desk.shows("mine");
    desk.shows("33 99");
    let tty = desk.shows("/dev/pts/");
    assert_ne!(tty.trim(), desk.name());
    desk.shows("xterm-256color");
    assert!(ended(running).success());
    desk.assert_as_before();
    let report = Report::parse(std::fs::read(path).unwrap());
    for (number, fd) in report.fds() {
        assert!(number == 9 || fd.link == tty.trim(), "{number}: {fd:?}");
    }
    assert_eq!(report.fd_numbers(), [0, 1, 2, 9]);
}

#[test]
fn keys_and_signals_of_the_keyboard_reach_the_program() {
    let text = "trap 'echo INTERRUPTED' INT; echo ready; until read line && [ \"$line\" ]; do :; done; echo \"got <$line>\"; exit 3";
    let server = script(Door::new(), &["--allow-pty"], text);
    let mut desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    desk.shows("ready");
    assert!(desk.is_raw());
    desk.typed(b"\x03");
    desk.shows("INTERRUPTED");
    desk.typed(b"typed\r");
    desk.shows("got <typed>");
    assert_eq!(ended(running).code(), Some(3));
    desk.assert_as_before();
}

#[test]
fn another_window_is_told_to_the_program() {
    let text = "trap 'stty size' WINCH; echo ready; while :; do sleep 1 & wait $!; done";
    let server = script(Door::new(), &["--allow-pty"], text);
    let desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    desk.shows("ready");
    raw::set_window(&desk.slave, 44, 88).unwrap();
    running.signal(Signal::SIGWINCH);
    desk.shows("44 88");
}

#[test]
fn the_last_words_of_a_program_are_shown_whole() {
    let server = script(Door::new(), &["--allow-pty"], "seq 1 20000; echo last");
    let desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    assert!(ended(running).success());
    desk.shows("last");
    assert_eq!(desk.screen.all().len(), 20001);
}

#[test]
fn what_a_program_leaves_on_its_terminal_keeps_no_caller() {
    let text = "trap '' HUP; sleep 60 & echo started; exit 2";
    let server = script(Door::new(), &["--allow-pty"], text);
    let desk = Desk::new();
    assert_eq!(ended(desk.call(&server).start([""; 0])).code(), Some(2));
    desk.shows("started");
    desk.assert_as_before();
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    use std::os::unix::process::ExitStatusExt;
    let server = script(Door::new(), &["--allow-pty"], "echo ready; exec sleep 60");
    // The program dies of a signal that reached the caller.
    let desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    desk.shows("ready");
    assert!(desk.is_raw());
    running.signal(Signal::SIGTERM);
    assert_eq!(ended(running).signal(), Some(Signal::SIGTERM as i32));
    desk.assert_as_before();
    // The server is killed.
    let desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    desk.shows("ready");
    server.wait_slots(1);
    let answering = nix::unistd::Pid::from_raw(server.children()[0]);
    nix::sys::signal::kill(answering, Signal::SIGKILL).unwrap();
    assert_eq!(ended(running).code(), Some(111));
    desk.assert_as_before();
}

#[test]
fn a_stop_gives_the_terminal_back_until_it_goes_on() {
    let server = script(
        Door::new(),
        &["--allow-pty"],
        "echo ready; kill -STOP $$; echo on; read line",
    );
    let mut desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    desk.shows("ready");
    eventually("the caller to stand", || {
        inspect::status_line(running.pid(), "State").is_some_and(|state| state.starts_with('T'))
    });
    desk.assert_as_before();
    running.signal(Signal::SIGCONT);
    desk.shows("on");
    eventually("the terminal to be taken again", || desk.is_raw());
    desk.typed(b"\r");
    assert!(ended(running).success());
    desk.assert_as_before();
}

#[test]
fn what_is_no_terminal_goes_as_it_is() {
    let server = script(
        Door::new(),
        &["--allow-pty"],
        "test -t 0 && test ! -t 1 && echo to the pipe",
    );
    let desk = Desk::new();
    let own = || desk.slave.try_clone().unwrap();
    let call = call(&server.socket(), &["--pty"]).fd0(own()).fd2(own());
    assert_eq!(called(call, [""; 0]).said(), ["to the pipe"]);
    desk.assert_as_before();
}

#[test]
fn what_is_not_wanted_is_dev_null_with_a_terminal_too() {
    let text = "test -t 0 && test -t 1 && readlink /proc/$$/fd/2";
    let server = script(Door::new(), &["--allow-pty"], text);
    let desk = Desk::new();
    let own = || desk.slave.try_clone().unwrap();
    let call = call(&server.socket(), &["--pty", "--no-stderr"]);
    let running = call.fd0(own()).fd1(own()).fd2(own()).start([""; 0]);
    desk.shows("/dev/null");
    assert!(ended(running).success());
}

#[test]
fn a_killed_caller_takes_the_session_with_it() {
    let server = script(
        Door::new(),
        &["--allow-pty"],
        "trap '' HUP; setsid sleep 60 & echo \"pid $!.\"; wait",
    );
    let desk = Desk::new();
    let running = desk.call(&server).start([""; 0]);
    let pid = desk.shows("pid ");
    let pid: i32 = pid
        .trim()
        .trim_start_matches("pid ")
        .trim_end_matches('.')
        .parse()
        .unwrap();
    running.signal(Signal::SIGKILL);
    eventually("the end of all", || !inspect::alive(pid));
    server.wait_slots(0);
}

#[test]
fn a_terminal_must_be_allowed_and_there_must_be_one() {
    let server = script(Door::new(), &[], "echo ran");
    let desk = Desk::new();
    assert_eq!(ended(desk.call(&server).start([""; 0])).code(), Some(1));
    desk.shows("does not allow --pty");
    desk.assert_as_before();
    called(call(&server.socket(), &["--pty"]), [""; 0]).assert(100, "not a terminal");
    called(call(&server.socket(), &["--pty", "--detach"]), [""; 0])
        .assert(100, "--pty and --detach");
    called(call(&server.socket(), &["--pty", "--s6"]), [""; 0]).assert(100, "--s6 and --pty");
}

#[test]
fn term_is_the_caller_s_if_it_is_plain() {
    let server = answer(
        Door::new(),
        &["--allow-pty"],
        ["sh", "-c", "echo \"<$TERM>\""],
    );
    let desk = Desk::new();
    for sly in ["../../tmp/x", "xterm/../../tmp/x", ""] {
        let sly = desk.call(&server).env("TERM", sly).start([""; 0]);
        assert!(ended(sly).success());
        desk.shows("<>");
    }
}

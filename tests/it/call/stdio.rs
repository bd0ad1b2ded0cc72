//! The caller's 0, 1 and 2, whatever they are.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::{answer, call, called, report, script};
use crate::support::{Client, Door, Scratch, eventually, probe};

#[test]
fn what_is_not_wanted_is_dev_null() {
    let server = answer(Door::new(), &[], [probe()]);
    let without = report(call(&server.socket(), &["--no-stdin", "--no-stderr"]));
    let fds = without.fds();
    assert_eq!(
        (fds[&0].link.as_str(), fds[&2].link.as_str()),
        ("/dev/null", "/dev/null")
    );
    assert!(fds[&1].link.starts_with("pipe:"));
    let silent = called(call(&server.socket(), &["--no-stdout"]), ["report", "1"]);
    assert_eq!(silent.said(), [""; 0]);
}

#[test]
fn closed_descriptors_are_dev_null() {
    let server = answer(Door::new(), &[], [probe()]);
    let closing = ["sh", "-c", "exec \"$@\" <&- 2>&-", "sh"];
    let report = report(call(&server.socket(), &[]).wrap(closing));
    let fds = report.fds();
    assert_eq!(report.fd_numbers(), [0, 1, 2]);
    assert_eq!(
        (fds[&0].link.as_str(), fds[&2].link.as_str()),
        ("/dev/null", "/dev/null")
    );
}

#[test]
fn sockets_and_directories_go_as_they_are() {
    let server = script(Door::new(), &[], "cat; echo \"$?\"");
    let (near, far) = UnixStream::pair().unwrap();
    let mut running = call(&server.socket(), &[])
        .fd0(near.try_clone().unwrap())
        .fd1(near)
        .start([""; 0]);
    let mut far = Client::from(std::os::fd::OwnedFd::from(far));
    assert_eq!(far.ask(b"by a socket\n"), b"by a socket\n0\n");
    assert!(running.wait_exit().success());
    let directory = File::open("/").unwrap();
    let called = called(call(&server.socket(), &[]).fd0(directory), [""; 0]);
    assert!(called.log.contains("Is a directory"), "{}", called.log);
    assert_eq!(called.said(), ["1"]);
}

#[test]
fn who_waits_for_the_end_of_a_pipe_waits_for_the_program_and_not_for_the_caller() {
    let server = script(Door::new(), &[], "exec <&- >&-; echo closed >&2; sleep 60");
    let (input, mut writer) = std::io::pipe().unwrap();
    let (mut reader, output) = std::io::pipe().unwrap();
    let mut running = call(&server.socket(), &[])
        .fd0(input)
        .fd1(output)
        .start([""; 0]);
    running.wait_log("closed");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the end of its output");
    eventually("nobody to read its input", || {
        writer
            .write(b"x")
            .is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
    assert!(running.running());
}

#[test]
fn a_large_stream_goes_through_whole() {
    let server = script(Door::new(), &[], "wc -c");
    let scratch = Scratch::new();
    std::fs::write(scratch.path("large"), vec![b'x'; 3_000_000]).unwrap();
    let call = call(&server.socket(), &[]).fd0(File::open(scratch.path("large")).unwrap());
    assert_eq!(called(call, [""; 0]).said().concat().trim(), "3000000");
}

//! What standard input and output may be, and that nothing of them is changed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::{NOBODY, Patient, Relay, relay};
use crate::connect::connect;
use crate::support::{DEADLINE, Door, Scratch, Served, eventually, probe, raw};

fn echo() -> Served {
    Door::new().serve([
        probe().as_os_str(),
        "echo".as_ref(),
        "6".as_ref(),
        "7".as_ref(),
    ])
}

fn flags(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

/// What comes back of `stdin` through `doorward connect` and a server that sends it back.
fn through(stdin: impl Into<OwnedFd>) -> String {
    let server = echo();
    let mut client = connect(&server.socket(), []).fd0(stdin).start(NOBODY);
    let status = client.wait_exit();
    assert!(status.success(), "{status}: {:?}", client.log());
    client.output().whole().join("\n")
}

#[test]
fn a_file_a_device_a_pipe_and_a_socket_are_read_to_their_end() {
    let scratch = Scratch::new();
    let text = "0123456789abcde\n".repeat(40_000);
    fs::write(scratch.path("file"), &text).unwrap();
    let came = through(File::open(scratch.path("file")).unwrap());
    assert!(came == text.trim_end(), "{} bytes", came.len());
    assert_eq!(through(File::open("/dev/null").unwrap()), "");

    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"pipe").unwrap();
    drop(write);
    assert_eq!(through(read), "pipe");

    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"socket").unwrap();
    far.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(through(near), "socket");
}

#[test]
fn closed_standard_input_is_an_empty_one() {
    let server = echo();
    let client = connect(&server.socket(), []).wrap(["sh", "-c", "exec \"$@\" <&-", "sh"]);
    let mut client = client.start(NOBODY);
    assert!(client.wait_exit().success(), "{:?}", client.log());
    assert_eq!(client.output().whole(), [""; 0]);
}

#[test]
fn closed_standard_output_takes_no_other_descriptor_for_it() {
    let server = echo();
    let client = connect(&server.socket(), []).wrap(["sh", "-c", "echo x | \"$@\" >&-", "sh"]);
    let mut client = client.start(NOBODY);
    assert!(client.wait_exit().success(), "{:?}", client.log());
}

#[test]
fn what_cannot_be_read_or_written_is_told() {
    let server = echo();
    let directory = File::open("/").unwrap();
    connect(&server.socket(), [])
        .fd0(directory)
        .fails(NOBODY)
        .assert(111, ["unable to read from standard input", "directory"]);
    let (read, mut write) = std::io::pipe().unwrap();
    write.write_all(b"x").unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    connect(&server.socket(), [])
        .fd0(read)
        .fd1(full)
        .fails(NOBODY)
        .assert(111, ["unable to write to standard output", "No space left"]);
}

#[test]
fn a_file_is_written_where_its_offset_is() {
    let scratch = Scratch::new();
    let path = scratch.path("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before ").unwrap();
    let server = Door::new().args(["--inetd"]).serve(["echo", "after"]);
    let mut client = connect(&server.socket(), []).fd1(file).start(NOBODY);
    assert!(client.wait_exit().success());
    assert_eq!(fs::read_to_string(path).unwrap(), "before after\n");
}

#[test]
fn a_terminal_gives_line_by_line_and_shows_what_comes() {
    let (shows, inside) = raw::terminal();
    let mut shows = Patient::new(File::from(shows));
    let stdin = inside.try_clone().unwrap();
    let server = echo();
    let mut client = connect(&server.socket(), []).fd0(stdin).fd1(inside);
    client = client.wrap(["sh", "-c", "stty -echo; exec \"$@\"", "sh"]);
    let mut client = client.start(NOBODY);
    let mut hear = |what: &str| {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.ends_with(what) {
            shows.read_exact(&mut byte).unwrap();
            seen.push(byte[0] as char);
        }
        shows.write_all(b"again\n").unwrap();
    };
    // The terminal's own echo may still show the first line: what counts comes after the program was started.
    server.dial().connect();
    eventually("the relay", || !server.children().is_empty());
    hear("");
    hear("again\r\n");
    hear("again\r\n");
    // Control-D on an empty line is the end.
    hear("again\r\n");
    shows.write_all(b"\x04").unwrap();
    assert!(client.wait_exit().success(), "{:?}", client.log());
}

#[test]
fn flags_that_others_share_stay_as_they_are() {
    for nonblocking in [false, true] {
        let (read, write) = std::io::pipe().unwrap();
        let (out, write_out) = std::io::pipe().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        far.set_read_timeout(Some(DEADLINE)).unwrap();
        let ours = [
            OwnedFd::from(read.try_clone().unwrap()),
            write_out.try_clone().unwrap().into(),
            near.try_clone().unwrap().into(),
        ];
        for fd in &ours {
            let wanted = flags(fd)
                | if nonblocking {
                    OFlag::O_NONBLOCK
                } else {
                    OFlag::empty()
                };
            fcntl(fd, FcntlArg::F_SETFL(wanted)).unwrap();
        }
        let before = ours.each_ref().map(flags);
        let copy = near.try_clone().unwrap();
        let door = relay([]).fd(6, near).fd(7, copy).fd0(read).fd1(write_out);
        let mut relay = door.start(NOBODY);
        let (mut write, mut out) = (Patient::new(write), Patient::new(out));
        write.write_all(b"there").unwrap();
        let mut five = [0; 5];
        far.read_exact(&mut five).unwrap();
        far.write_all(b"and b").unwrap();
        out.read_exact(&mut five).unwrap();
        assert_eq!(&five, b"and b");
        assert_eq!(ours.each_ref().map(flags), before, "while it runs");
        drop(write);
        assert_eq!(far.read(&mut five).unwrap(), 0);
        drop(far);
        assert!(relay.wait_exit().success(), "{:?}", relay.log());
        assert_eq!(ours.each_ref().map(flags), before, "and afterwards");
    }
}

#[test]
fn pipes_on_6_and_7_are_a_connection_too() {
    let ((six, mut to_six), (from_seven, seven)) =
        (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let (stdin, mut say) = std::io::pipe().unwrap();
    let mut from_seven = Patient::new(from_seven);
    let mut relay = relay([]).fd(6, six).fd(7, seven).fd0(stdin).start(NOBODY);
    say.write_all(b"up").unwrap();
    drop(say);
    let mut came = String::new();
    from_seven.read_to_string(&mut came).unwrap();
    assert_eq!(came, "up", "to the end of file");
    to_six.write_all(b"down").unwrap();
    drop(to_six);
    assert!(relay.wait_exit().success());
    assert_eq!(relay.output().whole(), ["down"]);
}

#[test]
fn what_a_server_sends_along_with_its_bytes_is_not_kept() {
    let mut relay = Relay::new();
    let (near, far) = UnixStream::pair().unwrap();
    let mut server = crate::support::Client::from(OwnedFd::from(relay.server.try_clone().unwrap()));
    server.send_fds(b"gift", &[near.as_fd()]);
    drop(near);
    relay.hear("gift");
    far.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut far = far;
    assert_eq!(far.read(&mut [0]).unwrap(), 0, "nobody holds the other end");
}

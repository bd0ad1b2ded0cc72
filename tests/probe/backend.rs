//! A backend by hand: plain recvmsg, nothing of the library, one connection after the other.
//!
//! `backend [OPTIONS]` takes the channel that stands on 3. At each connection it reads one line and obeys:
//!
//! | line | what it does |
//! | --- | --- |
//! | `pid` | tells its pid, and is done with the connection |
//! | `message` | tells payload and descriptors of the message |
//! | `process` | tells what it was started with, as `report` does |
//! | `pair` | sends something through the notification socketpair, both ways, and tells what arrived |
//! | `greet`, `notify TEXT` | sends the client its end of the pair, and what follows in the line, as a notification |
//! | `keep` | keeps everything open and takes the next |
//! | `keep-connection`, `keep-lease` | keeps that alone |
//! | `wait` | waits for the client's end of file, then is done |
//! | `exit N`, `die N` | ends with code N, by signal N |
//! | `shutdown HOW` | shuts the channel down (`rd`, `wr`, `both`), then waits to be ended |
//! | `close` | closes the channel, then waits to be ended |
//! | `garbage` | writes into the channel and the control connection what nobody wants to read |
//! | `say TEXT`, `child-says TEXT` | sends TEXT to NOTIFY_SOCKET, itself or from another process (`;` for newline) |
//!
//! | option | what it does |
//! | --- | --- |
//! | `--answer` | reads nothing: tells its pid at once |
//! | `--slow MS` | waits before each answer |
//! | `--no-read` | never receives, and waits to be ended |
//! | `--fence PATH` | waits until PATH is there before it receives |
//! | `--ready` | says READY=1 to NOTIFY_SOCKET, after the fence |
//! | `--ignore-term` | ignores SIGTERM |
//! | `--mode OCTAL` | the mode of the socket at PATH |
//! | `--listen PATH`, `--listen-fd N` | takes the channel from a control connection on this SEQPACKET socket instead |

use std::ffi::{CString, OsString, c_int};
use std::os::fd::RawFd;
use std::time::Duration;

use crate::channel::{self, Message};
use crate::{number, report, tell};

struct Backend {
    channel: RawFd,
    /// The control connection, or -1.
    control: RawFd,
    started: Vec<u8>,
    answer: bool,
    slow: Duration,
}

/// Runs until somebody ends it.
pub fn run(words: &[OsString], options: &[&str]) -> c_int {
    // First of all: what it was started with.
    let mut backend = Backend {
        channel: 3,
        control: -1,
        started: report::taken(words),
        answer: false,
        slow: Duration::ZERO,
    };
    let (mut fence, mut ready, mut reads) = (None, false, true);
    let (mut path, mut listener) = (None, None);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut value = || *options.next().expect("a value");
        match *option {
            "--answer" => backend.answer = true,
            "--slow" => backend.slow = Duration::from_millis(number(value()) as u64),
            "--no-read" => reads = false,
            "--fence" => fence = Some(value().to_owned()),
            "--ready" => ready = true,
            // SAFETY: ignoring a signal touches no memory.
            "--ignore-term" => unsafe {
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
            },
            "--mode" => {
                let mode = u32::from_str_radix(value(), 8).expect("a mode");
                // SAFETY: a call that takes a number.
                unsafe { libc::umask(!mode & 0o777) };
            }
            "--listen" => path = Some(value().to_owned()),
            "--listen-fd" => listener = Some(number(value())),
            _ => panic!("unknown option {option}"),
        }
    }
    if let Some(path) = path {
        listener = Some(channel::listen(&path));
    }
    if let Some(fence) = fence {
        while !std::path::Path::new(&fence).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    if ready {
        say("READY=1");
    }
    if !reads {
        wait_for_the_end();
    }
    if let Some(listener) = listener {
        // The end of file of a channel is the end of its doorward: the next one is served alike.
        loop {
            (backend.control, backend.channel) = channel::accept(listener);
            backend.serve();
            for fd in [backend.control, backend.channel] {
                // SAFETY: both came by this control connection and are used no more.
                unsafe { libc::close(fd) };
            }
        }
    }
    backend.serve()
}

impl Backend {
    fn serve(&self) -> c_int {
        loop {
            match channel::receive(self.channel) {
                Some(message) => self.attend(&message),
                // Somebody shut it down, or there is no doorward any more.
                None => return 0,
            }
        }
    }

    fn attend(&self, message: &Message) {
        let connection = message.descriptor("connection").unwrap_or(-1);
        let line = if self.answer {
            "pid".to_owned()
        } else {
            read_line(connection)
        };
        std::thread::sleep(self.slow);
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            // SAFETY: a call without arguments.
            "pid" => text(connection, &format!("{}\n", unsafe { libc::getpid() })),
            "message" => text(connection, &message.describe()),
            "process" => tell(&connection.to_string(), &self.started),
            "pair" => text(connection, &through_the_pair(message)),
            "greet" => {
                let peer = message.descriptor("notify-peer").unwrap_or(-1);
                channel::send(connection, b"doorward 1\n", Some(peer));
                if !rest.is_empty() {
                    text(message.descriptor("notify").unwrap_or(-1), rest);
                }
            }
            "notify" => text(message.descriptor("notify").unwrap_or(-1), rest),
            "keep" => return text(connection, "kept\n"),
            "keep-connection" | "keep-lease" => {
                text(connection, "kept\n");
                return message.close_all_but(word.trim_start_matches("keep-"));
            }
            "wait" => {
                text(connection, "waiting\n");
                while !read_line(connection).is_empty() {}
            }
            "exit" => std::process::exit(number(rest)),
            "die" => {
                // SAFETY: a signal to this process, by number.
                unsafe { libc::raise(number(rest)) };
            }
            "shutdown" => {
                let how = match rest {
                    "rd" => libc::SHUT_RD,
                    "wr" => libc::SHUT_WR,
                    _ => libc::SHUT_RDWR,
                };
                // SAFETY: a call that takes numbers.
                unsafe { libc::shutdown(self.channel, how) };
                text(connection, "shut\n");
                wait_for_the_end();
            }
            "close" => {
                // SAFETY: the channel's number is used no more after this.
                unsafe { libc::close(self.channel) };
                text(connection, "closed\n");
                wait_for_the_end();
            }
            "garbage" => {
                for fd in [self.channel, self.control] {
                    for _ in 0..100 {
                        channel::send(fd, b"\0\xff=garbage\n", Some(0));
                    }
                }
                text(connection, "sent\n");
            }
            "say" => {
                say(rest);
                text(connection, "said\n");
            }
            "child-says" => {
                // SAFETY: this process has one thread, and the child ends without unwinding.
                unsafe {
                    let child = libc::fork();
                    if child == 0 {
                        say(rest);
                        libc::_exit(0);
                    }
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                }
                text(connection, "said\n");
            }
            _ => text(connection, &format!("unknown line {line:?}\n")),
        }
        message.close_all_but("");
    }
}

fn text(fd: RawFd, text: &str) {
    // Never a SIGPIPE: the client may be gone.
    channel::send(fd, text.as_bytes(), None);
}

fn wait_for_the_end() -> ! {
    loop {
        // SAFETY: a call without arguments.
        unsafe { libc::pause() };
    }
}

fn read_line(fd: RawFd) -> String {
    let mut line = Vec::new();
    let mut byte = 0u8;
    // SAFETY: one byte into a byte of ours.
    while unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } == 1 && byte != b'\n' {
        line.push(byte);
    }
    String::from_utf8_lossy(&line).into_owned()
}

fn through_the_pair(message: &Message) -> String {
    let (Some(ours), Some(theirs)) = (
        message.descriptor("notify"),
        message.descriptor("notify-peer"),
    ) else {
        return "no pair\n".to_owned();
    };
    text(ours, "there\n");
    text(theirs, "back\n");
    format!("{} {}\n", read_line(theirs), read_line(ours))
}

/// Sends to NOTIFY_SOCKET, `;` for newline.
fn say(text: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = CString::new(address.into_encoded_bytes()).expect("no NUL");
    channel::send_datagram(address.as_bytes(), text.replace(';', "\n").as_bytes());
}

//! The probe: what a child finds when it starts, and a few things a child may do.
//!
//! Rust's runtime would open missing descriptors, ignore SIGPIPE and set up a signal stack before `main`; a report taken
//! after that says nothing about who started it. So this is a C `main`, and looks before it does anything else.
//!
//! | arguments | what it does |
//! | --- | --- |
//! | `report FD` | writes its report there |
//! | `report-hold FD` | the same, then waits for the end of file on FD |
//! | `echo R W` | copies what comes on R to W |
//! | `hold R` | waits for the end of file on R |
//! | `sleep-ms N` | sleeps |
//! | `exit N`, `die N` | ends with code N, by signal N |
//! | `notify FD TEXT` | writes TEXT and a newline there |
//! | `ignore-term R` | ignores SIGTERM, says `ready` on 1 (or R+1 for the layout 6/7), waits for the end of file on R, then sleeps on |
//! | `deaf CMD...` | ignores and blocks every signal there is, execs |
//! | `backend [OPTIONS]` | takes hand-offs, and does what its clients tell it (backend.rs) |
//! | `listen-pid CMD...` | sets LISTEN_PID, execs |
//! | `listen-pidfdid CMD...` | sets LISTEN_PID and LISTEN_PIDFDID, execs |
#![no_main]
#![allow(
    unsafe_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod backend;
mod channel;
mod report;

use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// # Safety
/// Called once, by the C runtime, with the argument list of the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C runtime passes `argc` valid strings that live as long as the process.
    let words =
        (0..argc as usize).map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }.to_bytes().to_vec());
    let words: Vec<OsString> = words.map(OsString::from_vec).collect();
    let text: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    match text[..] {
        [_, "report", fd] => tell(fd, &report::taken(&words)),
        [_, "report-hold", fd] => {
            tell(fd, &report::taken(&words));
            hold(fd);
        }
        [_, "echo", from, to] => {
            let _ = std::io::copy(&mut *lent(from), &mut *lent(to));
        }
        [_, "hold", fd] => hold(fd),
        [_, "sleep-ms", n] => {
            std::thread::sleep(std::time::Duration::from_millis(number(n) as u64))
        }
        [_, "exit", n] => return number(n),
        [_, "die", n] => {
            // SAFETY: a signal to this process, by number.
            unsafe { libc::raise(number(n)) };
        }
        [_, "notify", fd, message] => tell(fd, format!("{message}\n").as_bytes()),
        [_, "ignore-term", fd] => {
            // SAFETY: ignoring a signal touches no memory.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            let out = if fd == "6" { "7" } else { "1" };
            tell(out, b"ready\n");
            hold(fd);
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        [_, "deaf", _, ..] => return run_deaf(&words[2..]),
        [_, "backend", ref options @ ..] => return backend::run(&words, options),
        [_, mode @ ("listen-pid" | "listen-pidfdid"), _, ..] => {
            return run_activated(mode, &words[2..]);
        }
        _ => {
            eprintln!("probe: unknown arguments {text:?}");
            return 100;
        }
    }
    0
}

fn number(word: &str) -> c_int {
    word.parse().expect("a number")
}

/// The file behind a descriptor that stays open afterwards.
fn lent(fd: &str) -> ManuallyDrop<File> {
    // SAFETY: never dropped, so it closes nothing; a number that is not open yields errors.
    ManuallyDrop::new(unsafe { File::from_raw_fd(number(fd)) })
}

fn tell(fd: &str, bytes: &[u8]) {
    let _ = lent(fd).write_all(bytes);
}

fn hold(fd: &str) {
    let mut buffer = [0; 4096];
    while lent(fd).read(&mut buffer).is_ok_and(|n| n > 0) {}
}

/// Sets what a service manager sets for the process it starts: only that process can know its pid before its exec.
fn run_activated(mode: &str, words: &[OsString]) -> c_int {
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env("LISTEN_PID", std::process::id().to_string());
    if mode == "listen-pidfdid" {
        // SAFETY: calls that take numbers; fstat fills a struct of plain numbers that is ours.
        let inode = unsafe {
            let pidfd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as c_int;
            let mut stat: libc::stat = std::mem::zeroed();
            assert!(libc::fstat(pidfd, &raw mut stat) == 0, "pidfd");
            libc::close(pidfd);
            stat.st_ino
        };
        command.env("LISTEN_PIDFDID", inode.to_string());
    }
    eprintln!("probe: unable to run {:?}: {}", words[0], command.exec());
    111
}

/// By bare system calls: the C library spares 32 and 33, and the standard library's exec would unblock all.
fn run_deaf(words: &[OsString]) -> c_int {
    let words: Vec<CString> = words
        .iter()
        .map(|word| CString::new(word.as_bytes()).expect("an argument"))
        .collect();
    let mut list: Vec<*const c_char> = words.iter().map(|word| word.as_ptr()).collect();
    list.push(std::ptr::null());
    let ignore = [libc::SIG_IGN, 0, 0, 0, 0];
    let all = u64::MAX;
    // SAFETY: the kernel reads a struct sigaction (handler, flags and so on, all zero) and a mask of eight bytes; the
    // argument list ends with a null and outlives the call.
    unsafe {
        for number in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                ignore.as_ptr(),
                std::ptr::null::<u8>(),
                8,
            );
        }
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null::<u8>(),
            8,
        );
        libc::execv(list[0], list.as_ptr());
    }
    eprintln!("probe: unable to run {words:?}");
    111
}

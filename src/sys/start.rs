//! The first function of the process, in place of the one that Rust's standard library has.
//!
//! `admit`, `connect` and `bind` live for a millisecond, and a tenth of it went into what the library prepares: it reads
//! /proc/self/maps and makes a stack for a handler that would tell of a stack overflow. The rest of what it does is here.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsString, c_char, c_int};
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;

/// What a panic exits with: a bug of ours.
const BUG: u8 = 101;

// SAFETY: the C runtime looks for this very name and type, once, and this is the only definition: nothing else of a Rust program without
// its own start has it.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    open_standard_descriptors();
    // SAFETY: no handler is involved; before the first thread.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let words = words(argc, argv);
    let code = std::panic::catch_unwind(|| doorward::main(words)).unwrap_or(BUG);
    let _ = std::io::stdout().flush();
    code.into()
}

/// Puts /dev/null where one of 0, 1 and 2 is closed: what is opened next would be taken for it.
fn open_standard_descriptors() {
    for number in 0..=2 {
        // SAFETY: reads a flag of that number; then, where it is closed, opens the lowest free number, which is this one.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) == -1
                && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != number
            {
                libc::abort();
            }
        }
    }
}

fn words(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    let word = |index| {
        // SAFETY: the C runtime gives `argc` pointers to C strings that live as long as the process.
        let word = unsafe { CStr::from_ptr(*argv.add(index)) };
        OsString::from_vec(word.to_bytes().to_vec())
    };
    (0..count).map(word).collect()
}

//! Programs and patterns of others, on the wire: skarnet's library at both of its ends, and a shell that hears events.

mod ftrigrd;
mod skaclient;
mod watch;

use crate::support::{Client, Scratch};
use std::path::PathBuf;
use std::process::Command;

/// Compiles a C file that stands beside this one.
#[track_caller]
fn compile(scratch: &Scratch, source: &str, options: &[&str]) -> PathBuf {
    let to = scratch.path(source.trim_end_matches(".c"));
    let from = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/consumers/");
    let output = Command::new("gcc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&to)
        .arg(format!("{from}{source}"))
        .args(options)
        .output()
        .expect("gcc");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{source}: {said}");
    to
}

/// A text with its length before it, in 4 bytes, big-endian.
fn counted(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [&length.to_be_bytes(), text].concat()
}

/// The text of such a frame.
#[track_caller]
fn read_counted(from: &mut Client) -> Vec<u8> {
    let length: [u8; 4] = from.read_exactly(4).try_into().unwrap();
    from.read_exactly(u32::from_be_bytes(length) as usize)
}

//! The files of target/bench: tables, raw rows, and their reading back.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A file of target/bench.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("bench")
        .join(name)
}

/// Writes a file of target/bench.
pub fn write(name: &str, text: &str) -> Result<()> {
    let path = path(name);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&path, text).with_context(|| format!("unable to write {}", path.display()))
}

/// What an earlier benchmark wrote there; `None` if it did not.
pub fn read(name: &str) -> Option<String> {
    fs::read_to_string(path(name)).ok()
}

//! Which programs are there, and what ours can do yet.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The path of `program`, if it is there.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// Whether this build of doorward has a command of this name.
pub fn has_command(doorward: &Path, name: &str) -> bool {
    let status = Command::new(doorward)
        .args([name, "--help"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// With PATH alone for its environment. cargo's variables are three dozen, which each child of a server is given as well, and with its
/// LD_LIBRARY_PATH every library is looked for in its directories first.
pub fn without_cargo_s(command: &mut Command) -> &mut Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
}

//! The end of each link: this process becomes its program.
#![forbid(unsafe_code)]

use crate::delivery::Program;
use crate::exit::{self, Failure};
use crate::report::Escaped;
use crate::sys;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

/// Becomes `program` with the environment `envp`, all signals at their defaults and none blocked; comes back only with a failure.
///
/// # Errors
/// Exit code 127: its interpreter is missing. 126: it cannot be executed.
pub(super) fn become_program(program: Program, envp: &[CString]) -> exit::Result<Infallible> {
    let argv = program.argv.into_iter().map(c_string).collect::<Vec<_>>();
    let cause = sys::exec::exec(&program.path, &argv, envp);
    // A missing interpreter is no program; everything else is one that cannot be executed.
    let code = match cause.kind() {
        std::io::ErrorKind::NotFound => exit::NOT_FOUND,
        _ => exit::NOT_EXECUTABLE,
    };
    let shown = Escaped(program.path.to_bytes()).to_string();
    Err(Failure {
        code,
        error: anyhow::Error::new(cause).context(format!("unable to run {shown}")),
    })
}

/// `NAME=VALUE`, as execve takes it.
pub(super) fn variable(name: &OsStr, value: &OsStr) -> CString {
    let mut entry = name.to_owned();
    entry.push("=");
    entry.push(value);
    c_string(entry)
}

/// What came from the kernel as a C string has no zero byte; what had one would end there.
fn c_string(text: OsString) -> CString {
    let text = text.into_vec();
    let end = text
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(text.len());
    CString::new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

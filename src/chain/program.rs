//! The end of each link: this process becomes its program.
#![forbid(unsafe_code)]

use crate::delivery::Program;
use crate::exit::{self, Failure};
use crate::report::Escaped;
use crate::sys;
use crate::sys::cvec::CVec;
use std::convert::Infallible;
use std::os::unix::ffi::OsStrExt as _;

/// Becomes `program` with the environment `envp`, all signals at their defaults and none blocked; comes back only with a failure.
///
/// # Errors
/// Exit code 127: its interpreter is missing. 126: it cannot be executed.
pub(super) fn become_program(program: Program, mut envp: CVec) -> exit::Result<Infallible> {
    let mut argv = CVec::default();
    for word in &program.argv {
        argv.push(&[word.as_bytes()]);
    }
    let cause = sys::exec::exec(&program.path, &mut argv, &mut envp);
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

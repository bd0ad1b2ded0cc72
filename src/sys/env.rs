//! The process's environment, changed once, before any thread is there.

use std::ffi::{OsStr, OsString};

/// Removes `names` from the process's environment and returns the values that stood there.
///
/// To be called once, first thing in the process: nobody may read the environment at the same time.
pub(crate) fn take(names: &[&str]) -> Vec<Option<OsString>> {
    names
        .iter()
        .map(|name| {
            let value = std::env::var_os(name);
            if value.is_some() {
                // SAFETY: called from `cli::main` before the first thread is started, so no other thread reads the environment.
                unsafe { std::env::remove_var(name) };
            }
            value
        })
        .collect()
}

/// Puts a variable into the process's environment, for a crate that reads it from there.
///
/// As [`take`]: before any thread is there.
pub(crate) fn put(name: &str, value: &OsStr) {
    // SAFETY: as in `take`: called before the first thread is started.
    unsafe { std::env::set_var(name, value) };
}

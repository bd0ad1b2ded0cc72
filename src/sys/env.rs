//! The process's environment, changed once, before any thread is there.

use std::ffi::{CStr, OsStr, OsString, c_char};

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

unsafe extern "C" {
    /// environ(7): the C library's list, which begins as what the kernel gave to the process.
    static mut environ: *const *const c_char;
}

/// The entries of the process's environment where they stand, in order, whatever they are.
///
/// Where a program is to have most of them, it is given the same strings: to copy each was a third of what a link of a chain does. To be
/// used up before the next [`put`]; the strings themselves may be kept.
pub(crate) fn entries() -> impl Iterator<Item = &'static CStr> {
    // SAFETY: reads a pointer that only `take` and `put` change, and they are called before the first thread is started.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        // SAFETY: without a list (NULL, as clearenv leaves it) there is nothing to read; else `next` is in the list, no further than its final
        // NULL.
        let entry = unsafe { next.as_ref() }.filter(|entry| !entry.is_null())?;
        // SAFETY: behind an entry there is another, or the final NULL.
        next = unsafe { next.add(1) };
        // SAFETY: a C string that the kernel laid beside the process's stack for as long as the process lives. What `put` has put is the C
        // library's, and musl frees it with the next `put` of that name: those names are doorward's own, which no program inherits.
        Some(unsafe { CStr::from_ptr(*entry) })
    })
}

/// Puts a variable into the process's environment, for a crate that reads it from there.
///
/// As [`take`]: before any thread is there.
pub(crate) fn put(name: &str, value: &OsStr) {
    // SAFETY: as in `take`: called before the first thread is started.
    unsafe { std::env::set_var(name, value) };
}

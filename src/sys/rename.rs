//! `renameat2`, which nix has for glibc alone.

use nix::NixPath as _;
use nix::errno::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd as _};

/// `renameat2(directory, from, directory, to, RENAME_NOREPLACE)`: both names are in `directory`, which is lent.
///
/// # Errors
/// `EEXIST`: something stands at `to`. `EINVAL`: the file system cannot do it. The rest as rename(2) has it.
pub(crate) fn without_replacing(directory: impl AsFd, from: &OsStr, to: &OsStr) -> nix::Result<()> {
    let directory = directory.as_fd().as_raw_fd();
    from.with_nix_path(|from| {
        to.with_nix_path(|to| {
            // SAFETY: two C strings that outlive the call, and a descriptor that is lent for it.
            Errno::result(unsafe {
                libc::syscall(
                    libc::SYS_renameat2,
                    directory,
                    from.as_ptr(),
                    directory,
                    to.as_ptr(),
                    libc::RENAME_NOREPLACE,
                )
            })
        })
    })??
    .map(drop)
}

//! What of this process stays in memory.

use super::cvt;
use std::io;

unsafe extern "C" {
    /// Where the linker puts the beginning of the program, and the end of its code.
    static __executable_start: u8;
    static etext: u8;
}

/// `madvise(MADV_DONTNEED)` on the program's code: what only the start needed (the command line, most of all) stops being resident, and
/// what is needed again comes back from the file, page by page.
pub(crate) fn release_code() -> io::Result<()> {
    let start = (&raw const __executable_start) as usize;
    let end = (&raw const etext) as usize;
    // SAFETY: sysconf reads a constant.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    // The last page is left alone: data may share it where the linker has packed them.
    let length = (end / page * page).saturating_sub(start);
    // SAFETY: the range is the read-only, file-backed part of this program (headers, constants, code; no relocation ever writes there),
    // private and unmodified, so that dropping a page changes nothing that can be seen: it is read from the same file again.
    cvt(unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) }).map(drop)
}

/// Lets all threads allocate from one heap. Doors allocate next to nothing, so they are never in each other's way there, and a heap for
/// each of them would be resident for the few bytes that it holds.
pub(crate) fn share_one_heap() {
    // SAFETY: sets a number inside the allocator; called before the first thread is started. It cannot fail in a way that matters.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

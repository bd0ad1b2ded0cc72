//! What of this process stays in memory.

use std::ffi::{CStr, c_int, c_void};
use std::slice;

/// `madvise(MADV_DONTNEED)` on the code and the constants of the program and its libraries: what only the start needed (the command line, the
/// dynamic linker) stops being resident, and what is needed again comes back from the files, page by page. Where this is refused, the
/// process only stays larger.
pub(crate) fn release_code() {
    // SAFETY: `release` has the type that is called, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(release), std::ptr::null_mut()) };
}

/// Releases those parts of one loaded object that nobody ever writes.
unsafe extern "C" fn release(
    object: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut c_void,
) -> c_int {
    // SAFETY: what dl_iterate_phdr passes is valid for the time of the call: the record, its name (or NULL) and its headers.
    let (base, headers, name) = unsafe {
        let object = &*object;
        let name = object.dlpi_name;
        (
            object.dlpi_addr as usize,
            slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()),
            (!name.is_null()).then(|| CStr::from_ptr(name)),
        )
    };
    // The kernel's own has no file.
    if name.is_some_and(|name| name.to_bytes().starts_with(b"linux-vdso")) {
        return 0;
    }
    // SAFETY: sysconf reads a constant.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    // The last first: the headers stand in the first part, and reading on would bring that back.
    for header in headers.iter().rev() {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = base.wrapping_add(header.p_vaddr as usize);
        let end = start.wrapping_add(header.p_memsz as usize);
        // Whole pages alone: what stands beside may be data.
        let (start, end) = (start.next_multiple_of(page), end / page * page);
        if start < end {
            // SAFETY: pages of one file-backed, private, read-only part of a loaded object. No relocation ever writes there, so that dropping a
            // page changes nothing that can be seen: it is read from the same file again.
            unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    0
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

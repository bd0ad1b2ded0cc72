//! The memory on which a child runs from clone to exec.

use super::super::cvt;
use std::io;
use std::ptr;

/// One such stack, used by one child at a time.
pub(crate) struct Stack {
    base: *mut libc::c_void,
}

// SAFETY: a plain private mapping, owned by this value alone; nothing in it depends on the thread.
unsafe impl Send for Stack {}

const STACK: usize = 64 * 1024;
const GUARD: usize = 64 * 1024;

impl Stack {
    /// Maps the stack with a guard below it, so that running over its end faults and never writes into a neighbour.
    pub(crate) fn new() -> io::Result<Stack> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUARD + STACK,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack { base };
        // SAFETY: the range lies inside the mapping made above.
        cvt(unsafe {
            libc::mprotect(
                stack.base.byte_add(GUARD),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        })?;
        Ok(stack)
    }

    pub(super) fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping; a page boundary, so aligned for any ABI.
        unsafe { self.base.byte_add(GUARD + STACK) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone and no child runs on it: whoever starts one has this value until its exec or exit.
        unsafe { libc::munmap(self.base, GUARD + STACK) };
    }
}

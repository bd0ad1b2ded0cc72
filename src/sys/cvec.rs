//! NULL-terminated vectors of C strings (argv, envp) in one reusable buffer.

use std::ffi::c_char;

/// A pid has at most ten digits.
pub(super) const PID_DIGITS: usize = 10;

/// Strings for execve(2): bytes in one buffer, pointers made by [`CVec::seal`].
///
/// `clear` keeps the memory, so that a door fills its vector again for each connection without allocating.
#[derive(Default)]
pub(crate) struct CVec {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    pointers: Vec<*mut c_char>,
}

// SAFETY: the pointers point into `bytes` of the same value, are made anew by `seal` under `&mut self`, and are read by nobody but the
// call that borrows the value; moving the value to another thread moves no heap memory.
unsafe impl Send for CVec {}

impl CVec {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.pointers.clear();
    }

    /// Appends one string made of `parts`; a zero byte in it would end it early, so it ends there.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        self.starts.push(self.bytes.len());
        for part in parts {
            let text = part.split(|&byte| byte == 0).next().unwrap_or_default();
            self.bytes.extend_from_slice(text);
            if text.len() < part.len() {
                break;
            }
        }
        self.bytes.push(0);
    }

    /// How much there is now, for [`CVec::rewind`].
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.starts.len())
    }

    /// Drops what was pushed since `mark` was taken; nothing before it may have been removed.
    pub(crate) fn rewind(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        self.starts.truncate(mark.1);
    }

    /// Removes the strings for which `gone` holds (without their final zero).
    pub(crate) fn remove(&mut self, gone: impl Fn(&[u8]) -> bool) {
        let bytes = &self.bytes;
        self.starts.retain(|&start| !gone(until_zero(bytes, start)));
    }

    /// Writes all strings to `all`, each with its final zero.
    pub(crate) fn gather(&self, all: &mut Vec<u8>) {
        all.clear();
        for entry in self.iter() {
            all.extend_from_slice(entry);
            all.push(0);
        }
    }

    /// The strings, in order, without their final zero.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.starts
            .iter()
            .map(|&start| until_zero(&self.bytes, start))
    }

    /// Appends `name` (with its `=`) and room for a decimal pid that the child fills in; returns where the digits go.
    pub(crate) fn push_pid_room(&mut self, name: &[u8]) -> usize {
        self.push(&[name, b"0000000000"]);
        self.bytes.len() - 1 - PID_DIGITS
    }

    /// Makes the pointers, NULL at the end; they hold until the value is changed.
    pub(super) fn seal(&mut self) -> &[*mut c_char] {
        self.pointers.clear();
        let base = self.bytes.as_mut_ptr().cast::<c_char>();
        // `wrapping_add` because an offset needs no proof here: every start is inside the buffer.
        self.pointers
            .extend(self.starts.iter().map(|&start| base.wrapping_add(start)));
        self.pointers.push(std::ptr::null_mut());
        &self.pointers
    }

    /// The address of a byte of the buffer; it holds as long as the pointers of [`CVec::seal`] do.
    pub(super) fn address(&mut self, at: usize) -> Option<*mut u8> {
        (at < self.bytes.len()).then(|| self.bytes.as_mut_ptr().wrapping_add(at))
    }
}

fn until_zero(bytes: &[u8], start: usize) -> &[u8] {
    let tail = bytes.get(start..).unwrap_or_default();
    tail.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_at_its_first_zero_byte() {
        let mut vec = CVec::default();
        vec.push(&[b"A=", b"one\0B=two"]);
        vec.push(&[b"C=", b""]);
        assert_eq!(vec.iter().collect::<Vec<_>>(), [&b"A=one"[..], b"C="]);
    }

    #[test]
    fn sealing_gives_one_pointer_a_string_and_a_null() {
        let mut vec = CVec::default();
        vec.push(&[b"A=1"]);
        vec.push(&[b"B=2"]);
        vec.remove(|entry| entry.starts_with(b"A="));
        let pointers = vec.seal();
        assert_eq!(pointers.len(), 2);
        assert!(pointers[1].is_null());
    }
}

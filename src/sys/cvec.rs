//! NULL-terminated vectors of C strings (argv, envp) in one reusable buffer.

use std::ffi::{CStr, c_char};

/// A pid has at most ten digits.
pub(super) const PID_DIGITS: usize = 10;

/// Strings for execve(2): those that stay where they are, then bytes in one buffer; pointers made by [`CVec::seal`].
///
/// `clear` keeps the memory, so that a door fills its vector again for each connection without allocating.
#[derive(Default)]
pub(crate) struct CVec {
    kept: Vec<&'static CStr>,
    bytes: Vec<u8>,
    starts: Vec<usize>,
    pointers: Vec<*mut c_char>,
}

// SAFETY: the pointers point into `bytes` of the same value, or to strings that live as long as the process; they are made anew by `seal`
// under `&mut self`, and are read by nobody but the call that borrows the value; moving the value to another thread moves no heap memory.
unsafe impl Send for CVec {}

impl CVec {
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.bytes.clear();
        self.starts.clear();
        self.pointers.clear();
    }

    /// Appends strings without copying them: most of an environment is passed on as it stands. They come before all that is pushed.
    pub(crate) fn keep(&mut self, strings: impl IntoIterator<Item = &'static CStr>) {
        self.kept.extend(strings);
    }

    /// Appends one string made of `parts`; a zero byte in it would end it early, so it ends there.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        let start = self.bytes.len();
        self.starts.push(start);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        let text = self.bytes.get(start..).unwrap_or_default();
        if let Some(length) = first(0, text) {
            self.bytes.truncate(start + length);
        }
        self.bytes.push(0);
    }

    /// How much was pushed until now, for [`CVec::rewind`].
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.starts.len())
    }

    /// Drops what was pushed since `mark` was taken; nothing before it may have been removed.
    pub(crate) fn rewind(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        self.starts.truncate(mark.1);
    }

    /// Removes the strings for which `gone` holds (without their final zero). Those behind move up, so that [`CVec::all`] stays true.
    pub(crate) fn remove(&mut self, gone: impl Fn(&[u8]) -> bool) {
        self.kept.retain(|string| !gone(string.to_bytes()));
        let mut index = 0;
        while let Some((start, end)) = self.span(index) {
            if !gone(self.string(start, end)) {
                index += 1;
                continue;
            }
            self.bytes.drain(start..end);
            self.starts.remove(index);
            for later in self.starts.iter_mut().skip(index) {
                *later -= end - start;
            }
        }
    }

    /// All strings that were pushed, as they stand in memory, each with its final zero.
    pub(crate) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// The strings, in order, without their final zero.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let kept = self.kept.iter().map(|string| string.to_bytes());
        let pushed = (0..self.starts.len()).filter_map(|index| self.span(index));
        kept.chain(pushed.map(|(start, end)| self.string(start, end)))
    }

    /// Where a string begins, and where the next does.
    fn span(&self, index: usize) -> Option<(usize, usize)> {
        let start = *self.starts.get(index)?;
        let next = self.starts.get(index + 1).copied();
        Some((start, next.unwrap_or(self.bytes.len())))
    }

    fn string(&self, start: usize, end: usize) -> &[u8] {
        let with_zero = self.bytes.get(start..end).unwrap_or_default();
        with_zero.split_last().map_or(with_zero, |(_, text)| text)
    }

    /// Appends `name` (with its `=`) and room for a decimal pid that the child fills in; returns where the digits go.
    pub(crate) fn push_pid_room(&mut self, name: &[u8]) -> usize {
        self.push(&[name, b"0000000000"]);
        self.bytes.len() - 1 - PID_DIGITS
    }

    /// Fills that room in, without leading zeros; the string ends behind the digits.
    pub(crate) fn fill_pid(&mut self, at: usize, pid: u32) {
        let digits = format!("{pid}\0");
        if let Some(room) = self.bytes.get_mut(at..at + digits.len()) {
            room.copy_from_slice(digits.as_bytes());
        }
    }

    /// Makes the pointers, NULL at the end; they hold until the value is changed.
    pub(super) fn seal(&mut self) -> &[*mut c_char] {
        self.pointers.clear();
        self.pointers
            .reserve(self.kept.len() + self.starts.len() + 1);
        let kept = self.kept.iter().map(|string| string.as_ptr().cast_mut());
        self.pointers.extend(kept);
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

/// `memchr(text, byte)`: a third of a message's cost, in the making and in the reading, when it was a loop over the bytes.
pub(crate) fn first(byte: u8, text: &[u8]) -> Option<usize> {
    // SAFETY: the call reads at most `text.len()` bytes of `text`, which is borrowed meanwhile.
    let found = unsafe { libc::memchr(text.as_ptr().cast(), byte.into(), text.len()) };
    // Null, where there is none, lies before `text`; an address in it is no further than its length.
    (found as usize).checked_sub(text.as_ptr() as usize)
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

    #[test]
    fn what_is_kept_comes_first_and_is_removed_like_the_rest() {
        let mut vec = CVec::default();
        vec.push(&[b"C=3"]);
        vec.keep([c"A=1", c"B=2", c"A=4"]);
        assert_eq!(
            vec.iter().collect::<Vec<_>>(),
            [&b"A=1"[..], b"B=2", b"A=4", b"C=3"]
        );
        vec.remove(|entry| entry.starts_with(b"A="));
        assert_eq!(vec.iter().collect::<Vec<_>>(), [b"B=2", b"C=3"]);
        assert_eq!(vec.all(), b"C=3\0");
        assert_eq!(vec.seal().len(), 3);
        vec.clear();
        assert_eq!(vec.iter().count(), 0);
    }

    #[test]
    fn a_pid_stands_where_its_room_was() {
        for pid in [7, u32::MAX] {
            let mut vec = CVec::default();
            let at = vec.push_pid_room(b"P=");
            vec.push(&[b"Q="]);
            vec.fill_pid(at, pid);
            let told = format!("P={pid}\0");
            assert!(vec.all().starts_with(told.as_bytes()));
            assert!(vec.all().ends_with(b"\0Q=\0"));
        }
    }

    #[test]
    fn what_is_removed_leaves_no_gap() {
        let mut vec = CVec::default();
        for entry in [b"A=1", b"B=2", b"A=3", b"C=4"] {
            vec.push(&[entry]);
        }
        vec.remove(|entry| entry.starts_with(b"A="));
        vec.push(&[b"D=5"]);
        assert_eq!(vec.all(), b"B=2\0C=4\0D=5\0");
        assert_eq!(vec.iter().collect::<Vec<_>>(), [b"B=2", b"C=4", b"D=5"]);
    }
}

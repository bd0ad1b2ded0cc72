//! The words behind a command's name, one option after the other.
#![forbid(unsafe_code)]

use super::lean::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// What was read of a command line, and the option that was read last.
pub(super) struct Line<'a> {
    words: &'a [OsString],
    /// How many of the words were read.
    read: usize,
    option: &'a [u8],
    /// What stands behind the option's `=`.
    attached: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    /// The words from number `first` on.
    pub(super) fn from(words: &'a [OsString], first: usize) -> Line<'a> {
        Line {
            words,
            read: first,
            option: b"",
            attached: None,
        }
    }

    /// Reads the next option; gives false where the options end, and then [`Line::read`] is where the rest begins.
    pub(super) fn next_option(&mut self) -> bool {
        let Some(word) = self.words.get(self.read).map(|word| word.as_bytes()) else {
            return false;
        };
        if word.first() != Some(&b'-') {
            return false;
        }
        self.read += 1;
        (self.option, self.attached) = split(word);
        word != b"--"
    }

    /// How many words were read.
    pub(super) fn read(&self) -> usize {
        self.read
    }

    /// Whether the option is `--long`, for which a field's name does, too.
    pub(super) fn is(&self, long: &str) -> bool {
        let dashed = |byte| if byte == b'_' { b'-' } else { byte };
        let name = self.option.strip_prefix(b"--").unwrap_or_default();
        name.len() == long.len() && name.iter().copied().eq(long.bytes().map(dashed))
    }

    /// Whether the option is `-l`, the first letter of `long`.
    pub(super) fn is_short(&self, long: &str) -> bool {
        matches!(self.option, [b'-', letter] if long.as_bytes().first() == Some(letter))
    }

    /// Whether the option was given before. No value can be taken for one, because none begins with `-`.
    pub(super) fn is_repeated(&self) -> bool {
        let read = self.words.iter().take(self.read);
        let same = read.filter(|word| split(word.as_bytes()).0 == self.option);
        same.count() > 1
    }

    /// Nothing, unless a value is attached to an option that takes none.
    pub(super) fn no_value(&self) -> Option<()> {
        self.attached.is_none().then_some(())
    }

    /// The option's value, `--name VALUE` or `--name=VALUE`. One that is empty, or may have been meant for an option, is clap's.
    pub(super) fn value<T: Value>(&mut self) -> Option<T> {
        let value = match self.attached {
            Some(value) => value,
            None => {
                let value = self.words.get(self.read)?;
                self.read += 1;
                value.as_bytes()
            }
        };
        let is_plain = value.first().is_some_and(|&first| first != b'-');
        is_plain
            .then(|| T::read(OsStr::from_bytes(value)))
            .flatten()
    }
}

/// An option with its dashes, and what stands behind its `=`.
fn split(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = word.splitn(2, |&byte| byte == b'=');
    (parts.next().unwrap_or_default(), parts.next())
}

//! One look for one key: its place in a table, and its record.
#![forbid(unsafe_code)]

use nix::sys::uio::pread;

use super::Database;
use super::layout::{HEADER, MAX_RUN, PAIR, Table, first_slot, hash, pair, table_of};
use super::value::MAX_VALUE;
use crate::admission::trust::{Fault, uninterrupted};

/// How many slots are read at once: nearly always all that a look needs, and all of a small table.
const WINDOW: u32 = 256;
/// How much of a record is read at once: nearly always all of it.
const START: usize = 512;

/// A record that was found.
pub(super) struct Found {
    pub(super) position: u32,
    pub(super) value: Vec<u8>,
}

#[cfg(test)]
thread_local! {
    /// How many calls of pread this thread has made.
    pub(in super::super) static READS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Database {
    /// The first record with this key.
    /// # Errors
    /// The file is cut short, or points out of itself; its table is without an empty slot; the value is too long.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<Found>, Fault> {
        let hash = hash(key);
        let Some(&table) = self.tables.get(table_of(hash)) else {
            return Err(self.broken());
        };
        let Some(first) = first_slot(hash, table.slots) else {
            return Ok(None);
        };
        let mut buffer = [0; (WINDOW * PAIR) as usize];
        // The slots that are in the buffer: from which on.
        let mut window: (u32, &[u8]) = (0, &[]);
        // Once around the table at most.
        for step in 0..table.slots.min(MAX_RUN) {
            let slot = (u64::from(first) + u64::from(step)) % u64::from(table.slots);
            let slot = u32::try_from(slot).map_err(|_| self.broken())?;
            let at = |window: (u32, &[u8])| {
                let offset = slot.checked_sub(window.0)?.checked_mul(PAIR)?;
                pair(window.1.get(usize::try_from(offset).ok()?..)?)
            };
            let entry = match at(window) {
                Some(entry) => entry,
                None => {
                    window = self.read_slots(table, slot, &mut buffer)?;
                    at(window).ok_or_else(|| self.broken())?
                }
            };
            match entry {
                (_, 0) => return Ok(None),
                (other, position) if other == hash => {
                    if let Some(value) = self.value_of(key, position)? {
                        return Ok(Some(Found { position, value }));
                    }
                }
                _ => {}
            }
        }
        // Half of a table's slots are empty: one that has none, or none for so long, was made by nobody who meant it.
        Err(self.broken())
    }

    /// Reads slots from `slot` on, or all of a table that is small enough; gives them with the number of the first.
    fn read_slots<'a>(
        &self,
        table: Table,
        slot: u32,
        buffer: &'a mut [u8],
    ) -> Result<(u32, &'a [u8]), Fault> {
        let first = if table.slots <= WINDOW { 0 } else { slot };
        let count = table.slots.saturating_sub(first).min(WINDOW);
        let length = count * PAIR;
        let at = u64::from(table.position) + u64::from(first) * u64::from(PAIR);
        let Some(part) = buffer.get_mut(..length as usize) else {
            return Err(self.broken());
        };
        if self.read(part, at, length)? < part.len() {
            return Err(self.cut());
        }
        Ok((first, part))
    }

    /// The value of the record at `position`, if its key is `key`.
    fn value_of(&self, key: &[u8], position: u32) -> Result<Option<Vec<u8>>, Fault> {
        if position < HEADER {
            return Err(self.broken());
        }
        let mut start = [0; START];
        let filled = self.read(&mut start, position.into(), PAIR)?;
        let start = start.get(..filled).unwrap_or_default();
        let (key_length, value_length) = pair(start).ok_or_else(|| self.cut())?;
        if usize::try_from(key_length) != Ok(key.len()) {
            return Ok(None);
        }
        let record = start.get(PAIR as usize..).unwrap_or_default();
        let (found, rest) = match record.split_at_checked(key.len()) {
            Some((found, rest)) => (found.to_vec(), rest),
            None => (self.read_text(position, PAIR, key_length)?, [].as_slice()),
        };
        if found != key {
            return Ok(None);
        }
        if value_length > MAX_VALUE {
            return Err(self.unfit(&format!(
                "is broken: a value is longer than {MAX_VALUE} bytes"
            )));
        }
        match rest.get(..value_length as usize) {
            Some(value) => Ok(Some(value.to_vec())),
            None => self
                .read_text(position, PAIR + key_length, value_length)
                .map(Some),
        }
    }

    /// The `length` bytes that stand `offset` bytes behind `position`: a key or a value, neither of them long.
    fn read_text(&self, position: u32, offset: u32, length: u32) -> Result<Vec<u8>, Fault> {
        let mut text = vec![0; length as usize];
        let at = u64::from(position) + u64::from(offset);
        if self.read(&mut text, at, length)? < text.len() {
            return Err(self.cut());
        }
        Ok(text)
    }

    /// Reads at a position: until `needed` bytes are there or the file ends, and what comes with them. Gives how many came.
    pub(super) fn read(&self, buffer: &mut [u8], at: u64, needed: u32) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < needed as usize {
            let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let position = i64::try_from(at.saturating_add(filled as u64));
            let position = position.map_err(|_| self.broken())?;
            #[cfg(test)]
            READS.with(|reads| reads.set(reads.get() + 1));
            match uninterrupted(|| pread(&self.file, rest, position)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(errno) => return Err(Fault::system(self.path.as_slice(), errno)),
            }
        }
        Ok(filled)
    }

    pub(super) fn cut(&self) -> Fault {
        self.unfit("is broken: it ends before what it points to")
    }

    pub(super) fn broken(&self) -> Fault {
        self.unfit("is broken: it points to where nothing is")
    }
}

//! Where things stand in a constant database. All its numbers are 32 bits, the lowest byte first.
//!
//! A header of 256 tables (position, slots); the records (length of the key, length of the value, key, value); the tables, each
//! of slots (hash, position of the record), position 0 where it is empty. A key is in the table that its hash's lowest byte
//! names, at the slot that the rest of the hash names or the next ones around the table, before any empty one.
#![forbid(unsafe_code)]

pub(super) const TABLES: usize = 256;
/// Bytes of the header, and where the records begin.
pub(super) const HEADER: u32 = 2048;
/// Bytes of two numbers: an entry of the header, a slot, the lengths that begin a record.
pub(super) const PAIR: u32 = 8;
/// A look goes through no more slots than these; one that is longer has no answer. (A million uids in a row make runs of 2,000.)
pub(super) const MAX_RUN: u32 = 65_536;

/// One of the 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) position: u32,
    pub(super) slots: u32,
}

impl Table {
    /// Where its slots end.
    pub(super) fn end(self) -> u64 {
        u64::from(self.position) + u64::from(self.slots) * u64::from(PAIR)
    }
}

pub(super) fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, &byte| {
        (hash << 5).wrapping_add(hash) ^ u32::from(byte)
    })
}

/// Which table a hash belongs to.
pub(super) fn table_of(hash: u32) -> usize {
    (hash % 256) as usize
}

/// The slot to begin at in a table of `slots`; none in one without.
pub(super) fn first_slot(hash: u32, slots: u32) -> Option<u32> {
    (hash >> 8).checked_rem(slots)
}

/// The two numbers that `bytes` begins with.
pub(super) fn pair(bytes: &[u8]) -> Option<(u32, u32)> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    let second = rest.first_chunk::<4>()?;
    Some((u32::from_le_bytes(*first), u32::from_le_bytes(*second)))
}

pub(super) fn pair_bytes(first: u32, second: u32) -> [u8; 8] {
    let [a, b, c, d] = first.to_le_bytes();
    let [e, f, g, h] = second.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

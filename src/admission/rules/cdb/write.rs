//! Writes a constant database.
#![forbid(unsafe_code)]

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use super::layout::{HEADER, MAX_RUN, PAIR, TABLES, Table, first_slot, hash, pair_bytes, table_of};

/// A database that is being written. Equal records in equal order give equal bytes. It holds 8 bytes for each record in memory.
pub(crate) struct Writer<W: Write + Seek> {
    out: BufWriter<W>,
    position: u32,
    /// Hash and position of each record, by table.
    records: Vec<Vec<(u32, u32)>>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins at the start of `out`, which is empty.
    pub(crate) fn new(out: W) -> io::Result<Writer<W>> {
        let mut out = BufWriter::new(out);
        out.write_all(&[0; HEADER as usize])?;
        Ok(Writer {
            out,
            position: HEADER,
            records: vec![Vec::new(); TABLES],
        })
    }

    /// Adds a record; of several with one key the first counts.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let key_length = u32::try_from(key.len()).map_err(too_long)?;
        let value_length = u32::try_from(value.len()).map_err(too_long)?;
        let position = self.position;
        self.advance(PAIR)?;
        self.advance(key_length)?;
        self.advance(value_length)?;
        self.out.write_all(&pair_bytes(key_length, value_length))?;
        self.out.write_all(key)?;
        self.out.write_all(value)?;
        let hash = hash(key);
        if let Some(table) = self.records.get_mut(table_of(hash)) {
            table.push((hash, position));
        }
        Ok(())
    }

    /// Writes the tables and the header, and gives `out` back; nothing of it is left in a buffer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let mut header = Vec::with_capacity(HEADER as usize);
        for records in std::mem::take(&mut self.records) {
            let table = place(&records)?;
            let slots = u32::try_from(table.len()).unwrap_or(u32::MAX);
            let whole = Table {
                position: self.position,
                slots,
            };
            header.extend_from_slice(&pair_bytes(whole.position, whole.slots));
            self.advance(PAIR.checked_mul(slots).ok_or(io::ErrorKind::FileTooLarge)?)?;
            for (hash, position) in table {
                self.out.write_all(&pair_bytes(hash, position))?;
            }
        }
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
    }

    /// No position may be beyond 32 bits.
    fn advance(&mut self, by: u32) -> io::Result<()> {
        let next = self.position.checked_add(by);
        self.position = next.ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(())
    }
}

/// Puts records into a table of twice as many slots, each at its hash's slot or the next free one.
fn place(records: &[(u32, u32)]) -> io::Result<Vec<(u32, u32)>> {
    let mut table = vec![(0, 0); records.len() * 2];
    let slots = u32::try_from(table.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    for &(hash, position) in records {
        let first = first_slot(hash, slots).unwrap_or_default();
        let run = (first..slots).chain(0..first);
        // A reader stops there: what it would not find is not written.
        let mut run = run.take(MAX_RUN as usize);
        let free = run.find(|&slot| {
            table
                .get(slot as usize)
                .is_some_and(|&(_, position)| position == 0)
        });
        let free = free.and_then(|slot| table.get_mut(slot as usize));
        *free.ok_or_else(|| io::Error::other("too many keys have one hash"))? = (hash, position);
    }
    Ok(table)
}

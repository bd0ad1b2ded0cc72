//! All records of a database, for making a directory of it.
#![forbid(unsafe_code)]

use super::super::Record;
use super::Database;
use super::layout::{HEADER, PAIR, pair};
use super::value::MAX_VALUE;
use crate::admission::trust::{Fault, escaped};

/// How long a key may be: a name for each level of a directory.
const MAX_KEY: u32 = 511;

impl Database {
    /// Gives every record to `visit`, in their order in the file.
    /// # Errors
    /// One line: what `visit` said; or a record that a look would not find, so that what is stored is not what decides; or one
    /// that is found and does not stand among them; or that the file was written meanwhile.
    pub(crate) fn each_record(
        &self,
        mut visit: impl FnMut(&[u8], Record) -> Result<(), String>,
    ) -> Result<(), String> {
        let told = |fault: Fault| fault.to_string();
        let starts = self.tables.iter().map(|table| u64::from(table.position));
        let end = starts.min().unwrap_or(u64::from(HEADER));
        let mut position = u64::from(HEADER);
        let mut count = 0;
        while position < end {
            let (key, value, next) = self.record_at(position).map_err(told)?;
            if next > end {
                return Err(told(self.broken()));
            }
            let found = self.find(&key).map_err(told)?;
            if found.is_none_or(|found| u64::from(found.position) != position) {
                let key = escaped(&key);
                let why = format!("has a record of {key} that is not the one that decides");
                return Err(told(self.unfit(&why)));
            }
            let record = self.record(&key, value).map_err(told)?;
            visit(&key, record)?;
            position = next;
            count += 1;
        }
        if self.entries().map_err(told)? != count {
            return Err(told(self.unfit("has records that stand in no order")));
        }
        self.check_unchanged().map_err(told)?;
        Ok(())
    }

    /// Key, value and end of the record at `position`.
    fn record_at(&self, position: u64) -> Result<(Vec<u8>, Vec<u8>, u64), Fault> {
        let mut lengths = [0; PAIR as usize];
        let filled = self.read(&mut lengths, position, PAIR)?;
        let lengths = lengths.get(..filled).and_then(pair);
        let (key_length, value_length) = lengths.ok_or_else(|| self.cut())?;
        if key_length > MAX_KEY || value_length > MAX_VALUE {
            return Err(self.unfit("has a record that is too long for a rule"));
        }
        let mut text = vec![0; (key_length + value_length) as usize];
        let at = position + u64::from(PAIR);
        if self.read(&mut text, at, key_length + value_length)? < text.len() {
            return Err(self.cut());
        }
        let value = text.split_off(key_length as usize);
        Ok((text, value, at + u64::from(key_length + value_length)))
    }

    /// How many slots of all tables are taken.
    fn entries(&self) -> Result<u64, Fault> {
        let mut buffer = vec![0; 64 * 1024];
        let mut taken = 0;
        for table in &self.tables {
            let mut at = u64::from(table.position);
            while at < table.end() {
                let left = usize::try_from(table.end() - at).unwrap_or(usize::MAX);
                let part = left.min(buffer.len());
                let Some(part) = buffer.get_mut(..part) else {
                    return Err(self.broken());
                };
                let needed = u32::try_from(part.len()).map_err(|_| self.broken())?;
                if self.read(part, at, needed)? < part.len() {
                    return Err(self.cut());
                }
                let slots = part.chunks_exact(PAIR as usize).filter_map(pair);
                taken += slots.filter(|&(_, position)| position != 0).count() as u64;
                at += u64::from(needed);
            }
        }
        Ok(taken)
    }
}

//! Writes the constant database that both doorward and s6-ipcserver-access read rules from.
//!
//! Of our own, so that what is measured does not depend on what is measured. 256 pairs (position, slots), the records,
//! then 256 hash tables; every number 32 bits, little-endian.
#![forbid(unsafe_code)]

use super::rules::Verdict;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

const TABLES: u32 = 256;

/// A database of these rules.
pub fn write(
    path: &Path,
    rules: impl IntoIterator<Item = (impl AsRef<str>, Verdict)>,
) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&[0; 8 * TABLES as usize])?;
    let mut position = 8 * TABLES;
    let mut tables = vec![Vec::new(); TABLES as usize];
    for (key, verdict) in rules {
        let key = key.as_ref().as_bytes();
        let hash = hash(key);
        if let Some(table) = tables.get_mut((hash % TABLES) as usize) {
            table.push((hash, position));
        }
        position += write_record(&mut file, key, value(verdict))
            .with_context(|| format!("unable to write {}", path.display()))?;
    }
    let mut header = Vec::new();
    for table in &tables {
        let slots = slots(table);
        header.push((position, slots.len() as u32));
        position += 8 * slots.len() as u32;
        write_pairs(&mut file, &slots)?;
    }
    file.seek(SeekFrom::Start(0))?;
    write_pairs(&mut file, &header)?;
    Ok(file.flush()?)
}

/// What stands behind the key: `A` with the lengths of an environment and of a program's name, or `D`.
fn value(verdict: Verdict) -> &'static [u8] {
    match verdict {
        Verdict::Allow => b"A\0\0\0\0",
        Verdict::Deny => b"D",
    }
}

fn write_record(file: &mut impl Write, key: &[u8], value: &[u8]) -> Result<u32> {
    write_pairs(file, &[(key.len() as u32, value.len() as u32)])?;
    file.write_all(key)?;
    file.write_all(value)?;
    Ok(8 + (key.len() + value.len()) as u32)
}

/// Twice as many as entries; who finds a place taken goes on to the next.
fn slots(table: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut slots = vec![(0, 0); 2 * table.len()];
    for &(hash, position) in table {
        let first = (hash / TABLES) as usize % slots.len();
        let order = (first..slots.len()).chain(0..first);
        let free = order
            .into_iter()
            .find(|slot| slots.get(*slot) == Some(&(0, 0)));
        if let Some(slot) = free.and_then(|free| slots.get_mut(free)) {
            *slot = (hash, position);
        }
    }
    slots
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, &byte| {
        hash.wrapping_mul(33) ^ u32::from(byte)
    })
}

fn write_pairs(file: &mut impl Write, pairs: &[(u32, u32)]) -> Result<()> {
    for (one, other) in pairs {
        file.write_all(&one.to_le_bytes())?;
        file.write_all(&other.to_le_bytes())?;
    }
    Ok(())
}

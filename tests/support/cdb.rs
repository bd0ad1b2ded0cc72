//! Constant databases made by hand, apart from what doorward has for that: for tests of odd ones, and large ones for a benchmark.
#![allow(dead_code)]

/// The bytes of a database with these records, in their order.
pub fn database<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    records: impl IntoIterator<Item = (K, V)>,
) -> Vec<u8> {
    let mut bytes = vec![0; 2048];
    let mut tables: Vec<Vec<(u32, u32)>> = vec![Vec::new(); 256];
    for (key, value) in records {
        let (key, value) = (key.as_ref(), value.as_ref());
        let hash = hash(key);
        tables[hash as usize % 256].push((hash, number(bytes.len())));
        for length in [key.len(), value.len()] {
            bytes.extend(number(length).to_le_bytes());
        }
        bytes.extend(key);
        bytes.extend(value);
    }
    for (index, records) in tables.iter().enumerate() {
        let mut slots = vec![(0, 0); records.len() * 2];
        for &(hash, position) in records {
            let mut slot = (hash >> 8) as usize % slots.len();
            while slots[slot].1 != 0 {
                slot = (slot + 1) % slots.len();
            }
            slots[slot] = (hash, position);
        }
        let entry = [number(bytes.len()), number(slots.len())].map(u32::to_le_bytes);
        bytes[index * 8..index * 8 + 8].copy_from_slice(&entry.concat());
        for (hash, position) in slots {
            bytes.extend([hash, position].map(u32::to_le_bytes).concat());
        }
    }
    bytes
}

/// Rules that allow the uids from 0 to `count`, without it.
pub fn allowing(count: u32) -> Vec<u8> {
    database((0..count).map(|uid| (format!("uid/{uid}"), b"A\0\0\0\0")))
}

/// Its records: key and value, in their order.
pub fn records(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let at =
        |position: usize| u32::from_le_bytes(bytes[position..position + 4].try_into().unwrap());
    let end = (0..256).map(|table| at(table * 8)).min().unwrap() as usize;
    let mut records = Vec::new();
    let mut position = 2048;
    while position < end {
        let (key, value) = (at(position) as usize, at(position + 4) as usize);
        let text = &bytes[position + 8..position + 8 + key + value];
        records.push((text[..key].to_vec(), text[key..].to_vec()));
        position += 8 + key + value;
    }
    records
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, byte| {
        hash.wrapping_mul(33) ^ u32::from(*byte)
    })
}

fn number(number: usize) -> u32 {
    u32::try_from(number).expect("less than 4 GiB")
}

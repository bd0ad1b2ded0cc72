//! The value of a record: `D`; or `A`, the length of the variables (two bytes, the highest first), the variables, the length of the
//! program text, the text. A variable is `NAME=VALUE` or `NAME` (to be removed), and a zero byte.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::super::{Change, Record};

/// Bytes that all variables of a record may take.
const MAX_ENV: usize = 4096;
/// Bytes of a program text: one of 4,096 may have been cut, as s6 does.
const MAX_EXEC: usize = 4095;
/// Bytes of a value, whatever it says; s6 has this limit.
pub(super) const MAX_VALUE: u32 = 8197;

/// # Errors
/// What is wrong with it, to follow "the record of KEY": it must be well-formed in every byte, or nobody comes in by it.
pub(in super::super) fn decode(value: &[u8]) -> Result<Record, &'static str> {
    match value.split_first() {
        None => Err("is empty"),
        Some((b'D', _)) => Ok(Record::Deny),
        Some((b'A', rest)) => {
            let (env, rest) = text(rest)?;
            let (exec, rest) = text(rest)?;
            if !rest.is_empty() {
                return Err("is longer than its lengths say");
            }
            if exec.len() > MAX_EXEC {
                return Err("has a program text of more than 4095 bytes");
            }
            let env = variables(env)?;
            Ok(Record::Allow {
                env,
                exec: exec.to_vec(),
            })
        }
        Some(_) => Err("is neither allow nor deny"),
    }
}

/// A text behind its length, and what follows it.
fn text(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let parts = bytes.split_first_chunk::<2>();
    let parts = parts
        .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
    parts.ok_or("is shorter than its lengths say")
}

/// Each name once: of several the last counts, as with s6.
fn variables(env: &[u8]) -> Result<Vec<Change>, &'static str> {
    if env.len() > MAX_ENV {
        return Err("has more than 4096 bytes of variables");
    }
    let Some((last, entries)) = env.split_last() else {
        return Ok(Vec::new());
    };
    if *last != 0 {
        return Err("has variables that do not end in a zero byte");
    }
    let mut seen = HashSet::new();
    let mut changes = Vec::new();
    for entry in entries.rsplit(|&byte| byte == 0) {
        let at = entry.iter().position(|&byte| byte == b'=');
        let (name, value) = match at.and_then(|at| entry.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..)),
            None => (entry, None),
        };
        if name.is_empty() {
            return Err("has a variable without a name");
        }
        if seen.insert(name) {
            changes.push((name.to_vec(), value.map(<[u8]>::to_vec)));
        }
    }
    changes.reverse();
    Ok(changes)
}

/// The variables are sorted, so that one record is always the same bytes.
/// # Errors
/// Why no database can hold it, to follow its path.
pub(crate) fn encode(record: &Record) -> Result<Vec<u8>, String> {
    let Record::Allow { env, exec } = record else {
        return Ok(b"D".to_vec());
    };
    let mut sorted: Vec<&Change> = env.iter().collect();
    sorted.sort_unstable();
    let mut variables = Vec::new();
    for (name, value) in &sorted {
        variables.extend_from_slice(name);
        if let Some(value) = value {
            variables.push(b'=');
            variables.extend_from_slice(value);
        }
        variables.push(0);
    }
    if variables.len() > MAX_ENV {
        let length = variables.len();
        return Err(format!(
            "has {length} bytes of variables; a database holds {MAX_ENV}"
        ));
    }
    if exec.len() > MAX_EXEC {
        return Err(format!("has a program text of more than {MAX_EXEC} bytes"));
    }
    let mut bytes = b"A".to_vec();
    for text in [&variables, exec] {
        // Both are below 64 KiB, as was just seen.
        let length = u16::try_from(text.len()).map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(text);
    }
    // What would be refused, or read as something else, is not written.
    match decode(&bytes) {
        Ok(Record::Allow { env: read, .. }) if read.iter().eq(sorted) => Ok(bytes),
        Ok(_) => Err("has a variable that a database cannot hold".to_owned()),
        Err(why) => Err(format!("cannot be put into a database: it {why}")),
    }
}

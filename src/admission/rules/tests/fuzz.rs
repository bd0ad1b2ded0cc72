//! Databases with flaws of every kind, made at random from the same seed each time: every look ends soon, and nobody comes in but by
//! a record that is well-formed.

use std::collections::BTreeMap;

use super::super::Record;
use super::super::cdb::{Database, decode, encode};
use super::database::{database, in_memory, reads};
use super::*;

/// A small generator (xorshift), so that a failure comes again.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

const UIDS: u32 = 12;

/// Rules of a handful of keys, all of which the askers of these tests meet.
pub(super) fn rules(dice: &mut Dice) -> BTreeMap<String, Record> {
    let mut keys: Vec<String> = (0..UIDS).map(|id| format!("uid/{id}")).collect();
    keys.extend((0..4).map(|id| format!("gid/{id}")));
    keys.extend(["uid/self", "gid/self", "uid/default", "ip4/10.0.0.0_8"].map(str::to_owned));
    let mut rules = BTreeMap::new();
    for key in keys {
        let record = match dice.below(4) {
            0 => continue,
            1 => Record::Deny,
            _ => Record::Allow {
                env: (0..dice.below(4))
                    .map(|number| change(dice, number))
                    .collect(),
                exec: vec![
                    b'x';
                    if dice.below(3) == 0 {
                        dice.below(700)
                    } else {
                        0
                    }
                ],
            },
        };
        rules.insert(key, record);
    }
    rules
}

fn change(dice: &mut Dice, number: usize) -> (Vec<u8>, Option<Vec<u8>>) {
    let name = format!("V{number}");
    let value = (dice.below(3) > 0).then(|| "v =".repeat(dice.below(40)) + "v");
    variable(&name, value.as_deref())
}

pub(super) fn bytes_of(rules: &BTreeMap<String, Record>) -> Vec<u8> {
    let values: Vec<Vec<u8>> = rules
        .values()
        .map(|record| encode(record).unwrap())
        .collect();
    database(
        rules
            .keys()
            .map(String::as_str)
            .zip(values.iter().map(Vec::as_slice)),
    )
}

fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(6) {
        if bytes.is_empty() {
            return;
        }
        // Half of it strikes the numbers of the header and of the tables, where structure is; a header's flaw is mostly seen at once.
        let at = match dice.below(12) {
            0 => dice.below(bytes.len().min(2048)),
            1..=5 => bytes.len() - 1 - dice.below(bytes.len().min(400)),
            _ => dice.below(bytes.len()),
        };
        let odd = [0, 1, 2, 0x7f, 0x80, 0xff, b'A', b'D'];
        match dice.below(8) {
            0..=2 => bytes[at] ^= 1 << dice.below(8),
            3 => bytes[at] = odd[dice.below(odd.len())],
            4 if dice.below(4) == 0 => bytes.truncate(at),
            5 => {
                let number = [0, 1, 2047, 2048, 0x7fff_ffff, u32::MAX][dice.below(6)];
                let number = if dice.below(2) == 0 {
                    number
                } else {
                    u32::try_from(dice.below(bytes.len())).unwrap()
                };
                let at = at & !3;
                if let Some(there) = bytes.get_mut(at..at + 4) {
                    there.copy_from_slice(&number.to_le_bytes());
                }
            }
            6 => {
                // A piece of it over another: loops, doubled slots, records within records.
                let length = dice.below(32).min(bytes.len() - at);
                let piece = bytes[at..at + length].to_vec();
                let to = dice.below(bytes.len() - length + 1);
                bytes[to..to + length].copy_from_slice(&piece);
            }
            _ => bytes.extend(vec![odd[dice.below(odd.len())]; dice.below(64)]),
        }
    }
}

/// Does a record with this key stand somewhere in `bytes` that says just this?
fn is_said(bytes: &[u8], key: &str, grant: &Grant) -> bool {
    let stands = |at: usize| {
        let number =
            |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
        if number(at)? != key.len() || !bytes.get(at + 8..)?.starts_with(key.as_bytes()) {
            return None;
        }
        let value = bytes.get(at + 8 + key.len()..)?.get(..number(at + 4)?)?;
        let record = decode(value).ok()?;
        (record.answer(key) == Answer::Allow(grant.clone())).then_some(())
    };
    (2048..bytes.len()).any(|at| stands(at).is_some())
}

#[test]
fn no_flaw_in_a_database_admits_by_anything_but_a_whole_record() {
    let mut dice = Dice::new(1);
    let (mut opened, mut allowed, mut failed) = (0, 0, 0);
    for round in 0..4_000 {
        let mut bytes = bytes_of(&rules(&mut dice));
        spoil(&mut bytes, &mut dice);
        let Ok(rules) = in_memory(&bytes) else {
            continue;
        };
        opened += 1;
        for uid in 0..=UIDS {
            let who = Asker {
                uid: Some(uid),
                gid: Some(uid % 5),
            };
            let (answer, reads) = reads(|| rules.judge(&who));
            assert!(reads < 70_000, "round {round}: {reads} reads");
            match answer {
                Answer::Allow(grant) => {
                    allowed += 1;
                    assert!(
                        is_said(&bytes, &grant.key, &grant),
                        "round {round}: {grant:?}"
                    );
                }
                Answer::Failed(_) => failed += 1,
                Answer::Deny(_) | Answer::NoRule => {}
            }
        }
        let _ = rules.each_record(|_, _| Ok(()));
    }
    // The flaws are of the kind that is meant to be tried.
    assert!(
        opened > 1_000 && allowed > 5_000 && failed > 300,
        "{opened} {allowed} {failed}"
    );
}

#[test]
fn a_walk_gives_what_was_written_and_every_look_finds_it() {
    let mut dice = Dice::new(2);
    for _ in 0..200 {
        let rules = rules(&mut dice);
        let stored: Database = in_memory(&bytes_of(&rules)).unwrap();
        let mut walked = BTreeMap::new();
        let gathered = stored.each_record(|key, record| {
            walked.insert(String::from_utf8(key.to_vec()).unwrap(), record);
            Ok(())
        });
        assert_eq!((gathered, walked), (Ok(()), rules));
    }
}

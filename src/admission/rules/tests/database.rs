//! Rules in a database: what its bytes say, who may write it, and what becomes of one that changes under us.

use std::fs::OpenOptions;
use std::io::{Cursor, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::super::cdb::{Database, READS, Writer, decode, encode};
use super::super::{Form, Record, Stored};
use super::change::wait_for_tick;
use super::*;

/// A database with these records, in this order.
pub(super) fn database<'a>(records: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    for (key, value) in records {
        writer.add(key.as_bytes(), value).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

const ALLOW: &[u8] = b"A\0\0\0\0";
const DENY: &[u8] = b"D";

impl Tree {
    /// Writes a file of mode 0600 at once.
    pub(super) fn database(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let (new, path) = (self.path("new"), self.path(name));
        fs::write(&new, bytes).unwrap();
        set_mode(&new, 0o600);
        fs::rename(&new, &path).unwrap();
        path
    }
}

fn cause(answer: Answer) -> String {
    match answer {
        Answer::Failed(cause) => cause,
        other => panic!("{other:?} where reading must fail"),
    }
}

#[test]
fn a_value_is_well_formed_in_every_byte_or_it_is_an_error() {
    let long = |kind: u8, env: usize, exec: usize| {
        let length = |size: usize| u16::try_from(size).unwrap().to_be_bytes();
        let mut value = vec![kind];
        value.extend(length(env));
        value.extend(std::iter::repeat_n(b'v', env.saturating_sub(1)));
        value.extend(vec![0; env.min(1)]);
        value.extend(length(exec));
        value.extend(vec![b'x'; exec]);
        value
    };
    let broken: [(&[u8], &str); 14] = [
        (b"", "is empty"),
        (b"X", "is neither allow nor deny"),
        (b"a\0\0\0\0", "is neither allow nor deny"),
        (b"A", "is shorter than its lengths say"),
        (b"A\0\0\0", "is shorter than its lengths say"),
        (b"A\0\0\0\x01", "is shorter than its lengths say"),
        (b"A\0\x02K\0\0", "is shorter than its lengths say"),
        (b"A\xff\xff\0\0", "is shorter than its lengths say"),
        (b"A\0\0\0\0x", "is longer than its lengths say"),
        (
            b"A\0\x03K=v\0\0",
            "has variables that do not end in a zero byte",
        ),
        (b"A\0\x01\0\0\0", "has a variable without a name"),
        (b"A\0\x03=v\0\0\0", "has a variable without a name"),
        (
            &long(b'A', 4097, 0),
            "has more than 4096 bytes of variables",
        ),
        (
            &long(b'A', 0, 4096),
            "has a program text of more than 4095 bytes",
        ),
    ];
    for (value, why) in broken {
        assert_eq!(decode(value), Err(why), "{value:?}");
    }
    for value in [
        long(b'A', 4096, 4095),
        DENY.to_vec(),
        ALLOW.to_vec(),
        b"Djunk".to_vec(),
    ] {
        assert!(decode(&value).is_ok());
    }
    let Ok(Record::Allow { env, exec }) = decode(b"A\0\x0dK=1\0L\0K=2\0E=\0\0\x02\0x") else {
        panic!()
    };
    let expected = [
        variable("L", None),
        variable("K", Some("2")),
        variable("E", Some("")),
    ];
    assert_eq!(
        (env.as_slice(), exec.as_slice()),
        (&expected[..], &b"\0x"[..])
    );
}

#[test]
fn nothing_is_written_that_would_be_read_as_something_else() {
    let allow = |name: &str, value: Option<&str>| Record::Allow {
        env: vec![variable(name, value)],
        exec: vec![],
    };
    for (name, value) in [
        ("", None),
        ("", Some("v")),
        ("A=B", None),
        ("A\0B", None),
        ("A", Some("v\0B")),
    ] {
        assert!(encode(&allow(name, value)).is_err(), "{name:?} {value:?}");
    }
    let kept = allow("A", Some("b=c\n"));
    assert_eq!(decode(&encode(&kept).unwrap()), Ok(kept));
    let twice = Record::Allow {
        env: vec![variable("A", None), variable("A", Some("b"))],
        exec: vec![],
    };
    assert!(encode(&twice).is_err());
}

#[test]
fn the_bytes_are_those_of_a_constant_database() {
    let bytes = database([("uid/1", ALLOW)]);
    assert_eq!(bytes.len(), 2048 + 8 + 5 + 5 + 16);
    let record = b"\x05\0\0\0\x05\0\0\0uid/1A\0\0\0\0";
    assert_eq!(&bytes[2048..2066], record);
    assert_eq!(database([]).len(), 2048);
}

#[test]
fn keys_are_asked_in_the_order_of_the_directory() {
    let tree = Tree::new();
    let all = ["uid/self", "uid/7", "gid/self", "gid/8", "uid/default"];
    for first in 0..=all.len() {
        let records = all[first..].iter().map(|key| (*key, DENY));
        let path = tree.database("r.cdb", &database(records));
        let answer = Database::open_as(&path, 7, 8).unwrap().judge(&Asker {
            uid: Some(7),
            gid: Some(8),
        });
        let expected = all
            .get(first)
            .map_or(Answer::NoRule, |key| Answer::Deny((*key).into()));
        assert_eq!(answer, expected);
    }
    let path = tree.database("r.cdb", &database(all[..4].iter().map(|key| (*key, ALLOW))));
    let unmapped = Asker {
        uid: None,
        gid: None,
    };
    assert_eq!(
        Database::open_as(&path, 7, 8).unwrap().judge(&unmapped),
        Answer::NoRule
    );
}

#[test]
fn a_broken_record_denies_whatever_the_next_keys_say() {
    let tree = Tree::new();
    let records = [("uid/1", &b"X"[..]), ("uid/default", ALLOW)];
    let path = tree.database("r.cdb", &database(records));
    let rules = Database::open(&path).unwrap();
    let broken = format!(
        "{} is broken: the record of uid/1 is neither allow nor deny",
        path.display()
    );
    assert_eq!(rules.judge(&asker(1)), Answer::Failed(broken));
    granted(rules.judge(&asker(2)));
}

#[test]
fn a_value_that_is_longer_than_any_rule_is_not_even_read() {
    let tree = Tree::new();
    let long = [b"D".as_slice(), &[b'x'; 8197]].concat();
    let path = tree.database(
        "r.cdb",
        &database([("uid/1", &*long), ("uid/2", &long[..8197])]),
    );
    let rules = Database::open(&path).unwrap();
    assert!(cause(rules.judge(&asker(1))).contains("a value is longer than 8197 bytes"));
    assert_eq!(rules.judge(&asker(2)), Answer::Deny("uid/2".into()));
}

#[test]
fn what_was_opened_at_a_reload_is_not_replaced_by_what_was_opened_before() {
    let tree = Tree::new();
    let path = tree.database("r.cdb", &database([]));
    let rules = Stored::open(path.clone()).unwrap();
    fs::remove_file(&path).unwrap();
    rules.open_again().unwrap_err();
    let closed = crate::admission::current(&rules.source);
    tree.database("r.cdb", &database([("uid/1", DENY)]));
    rules.open_again().unwrap();
    // Another thread found it closed, and opens what stands there only now.
    tree.database("r.cdb", &database([("uid/1", ALLOW)]));
    assert_eq!(
        rules.judge_opened(&asker(1), &closed),
        Answer::Deny("uid/1".into())
    );
    assert_eq!(rules.judge(&asker(1)), Answer::Deny("uid/1".into()));
}

#[test]
fn of_two_records_with_one_key_the_first_counts() {
    let tree = Tree::new();
    let path = tree.database("r.cdb", &database([("uid/1", DENY), ("uid/1", ALLOW)]));
    assert_eq!(
        Database::open(&path).unwrap().judge(&asker(1)),
        Answer::Deny("uid/1".into())
    );
}

#[test]
fn what_is_no_whole_database_is_refused_when_it_is_opened() {
    let tree = Tree::new();
    let whole = database([("uid/1", ALLOW), ("uid/2", DENY)]);
    for length in [0, 1, 2047, 2048, 2060, whole.len() - 1] {
        let path = tree.database("r.cdb", &whole[..length]);
        let refused = Database::open(&path).unwrap_err();
        assert!(
            refused.contains("is no database of rules"),
            "{length}: {refused}"
        );
    }
    let path = tree.database(
        "r.cdb",
        "a text that is long enough\n".repeat(100).as_bytes(),
    );
    assert!(Database::open(&path).is_err());
    assert!(
        Database::open(&tree.path("missing"))
            .unwrap_err()
            .contains("No such file")
    );
    assert!(
        Database::open(&tree.rules())
            .unwrap_err()
            .contains("directory")
    );
}

#[test]
fn who_else_can_write_it_is_never_believed() {
    let tree = Tree::new();
    let path = tree.database("r.cdb", &database([("uid/1", ALLOW)]));
    let rules = Database::open(&path).unwrap();
    for mode in [0o620, 0o602, 0o666] {
        set_mode(&path, mode);
        assert!(cause(rules.judge(&asker(1))).contains("is writable by"));
        assert!(
            Database::open(&path)
                .unwrap_err()
                .contains("is writable by")
        );
    }
    set_mode(&path, 0o644);
    granted(rules.judge(&asker(1)));
    let tree = tree.mode("", 0o777);
    assert!(
        Database::open(&path)
            .unwrap_err()
            .contains("is writable by")
    );
    let tree = tree.mode("", 0o755).link("link", "r.cdb");
    granted(Database::open(&tree.path("link")).unwrap().judge(&asker(1)));
    if is_root("a file that belongs to others") {
        let _tree = tree.owner("r.cdb", STRANGER);
        assert!(cause(rules.judge(&asker(1))).contains("belongs to uid 54321"));
        assert!(
            Database::open(&path)
                .unwrap_err()
                .contains("belongs to uid 54321")
        );
    }
}

#[test]
fn a_fifo_or_a_device_is_neither_read_nor_waited_for() {
    let tree = Tree::new();
    let fifo = tree.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(
        Database::open(&fifo)
            .unwrap_err()
            .ends_with("fifo is no regular file")
    );
}

#[test]
fn a_file_renamed_over_it_counts_when_it_is_opened_again() {
    let tree = Tree::new();
    let path = tree.database("r.cdb", &database([("uid/1", ALLOW)]));
    let rules = Stored::open(path.clone()).unwrap();
    assert_eq!(rules.form(), Form::File);
    tree.database("r.cdb", &database([("uid/1", DENY)]));
    granted(rules.judge(&asker(1)));
    fs::remove_file(&path).unwrap();
    granted(rules.judge(&asker(1)));
    tree.database("r.cdb", &database([("uid/1", DENY)]));
    rules.open_again().unwrap();
    assert_eq!(rules.judge(&asker(1)), Answer::Deny("uid/1".into()));
}

#[test]
fn what_cannot_be_opened_again_denies_until_it_can() {
    let tree = Tree::new();
    let path = tree.database("r.cdb", &database([("uid/1", ALLOW)]));
    let rules = Stored::open(path.clone()).unwrap();
    tree.database("r.cdb", b"garbage");
    let refused = rules.open_again().unwrap_err();
    assert_eq!(rules.judge(&asker(1)), Answer::Failed(refused.clone()));
    assert_eq!(rules.open_again(), Err(refused));
    tree.database("r.cdb", &database([("uid/2", ALLOW)]));
    assert_eq!(rules.judge(&asker(1)), Answer::NoRule);
    granted(rules.judge(&asker(2)));
    // From here on it is open, and another file has to be announced.
    tree.database("r.cdb", &database([("uid/1", ALLOW)]));
    assert_eq!(rules.judge(&asker(1)), Answer::NoRule);
}

#[test]
fn a_directory_may_take_the_place_of_a_file_and_the_other_way_round() {
    let tree = Tree::new().file("rules/uid/1/deny", "");
    let file = tree.database("r.cdb", &database([("uid/1", ALLOW)]));
    let place = tree.path("place");
    fs::rename(&file, &place).unwrap();
    let rules = Stored::open(place.clone()).unwrap();
    granted(rules.judge(&asker(1)));
    fs::rename(&place, &file).unwrap();
    fs::rename(tree.rules(), &place).unwrap();
    granted(rules.judge(&asker(1)));
    rules.open_again().unwrap();
    assert_eq!(
        (rules.form(), rules.judge(&asker(1))),
        (Form::Directory, Answer::Deny("uid/1".into()))
    );
    fs::rename(&place, tree.rules()).unwrap();
    fs::rename(&file, &place).unwrap();
    assert!(matches!(rules.judge(&asker(1)), Answer::Failed(_)));
    rules.open_again().unwrap();
    granted(rules.judge(&asker(1)));
}

#[test]
fn what_is_written_in_place_denies_until_it_is_opened_again() {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let (old, new) = (database([("uid/1", ALLOW)]), database([("uid/1", DENY)]));
    // A change within one tick of the clock cannot be seen; files that serve are older.
    let age = |path: &Path| {
        fs::File::open(path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap()
    };
    let spoil: [fn(&fs::File); 4] = [
        |file| file.set_len(2100).unwrap(),
        |file| file.set_len(0).unwrap(),
        |file| file.write_all_at(b"A", 3000).unwrap(),
        |file| file.set_len(1 << 20).unwrap(),
    ];
    for spoil in spoil {
        let tree = Tree::new();
        let path = tree.database("r.cdb", &old);
        age(&path);
        let rules = Stored::open(path.clone()).unwrap();
        granted(rules.judge(&asker(1)));
        spoil(&OpenOptions::new().write(true).open(&path).unwrap());
        assert!(cause(rules.judge(&asker(1))).contains("was written in place"));
        // Even one who is in no rule is told so: what the file says of him is unknown.
        assert!(cause(rules.judge(&asker(9))).contains("was written in place"));
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.write_all(&new).unwrap();
        assert!(cause(rules.judge(&asker(1))).contains("was written in place"));
        age(&path);
        rules.open_again().unwrap();
        assert_eq!(rules.judge(&asker(1)), Answer::Deny("uid/1".into()));
    }
}

/// How many reads a question takes.
pub(super) fn reads<T>(ask: impl FnOnce() -> T) -> (T, u64) {
    let before = READS.get();
    let told = ask();
    (told, READS.get() - before)
}

#[test]
fn a_look_costs_two_reads_and_a_key_that_is_not_there_one_at_most() {
    let tree = Tree::new();
    let count = 3_000;
    let keys: Vec<String> = (0..count).map(|uid| format!("uid/{uid}")).collect();
    let path = tree.database(
        "r.cdb",
        &database(keys.iter().map(|key| (key.as_str(), ALLOW))),
    );
    let rules = Database::open(&path).unwrap();
    for uid in 0..count {
        let (answer, reads) = reads(|| rules.judge(&asker(uid)));
        assert!(
            reads == 2 || (uid == geteuid().as_raw() && reads == 3),
            "{uid}: {reads}"
        );
        granted(answer);
    }
    let (answer, reads) = reads(|| rules.judge(&asker(count)));
    assert_eq!(answer, Answer::NoRule);
    assert!(reads <= 3, "{reads}");
}

/// A database of `uid/1` that takes its file for settled; `None`, said aloud, where nothing is remembered.
fn remembering(tree: &Tree) -> Option<Database> {
    let path = tree.database("r.cdb", &database([("uid/1", ALLOW)]));
    wait_for_tick(tree);
    let mut rules = Database::open(&path).unwrap();
    if !rules.remember_at_once() {
        eprintln!("SKIPPED, needs a local file system for temporary files");
        return None;
    }
    Some(rules)
}

/// The same, which has an answer for `uid/1` by heart; what is changed from now on has a later ctime.
fn knowing_one(tree: &Tree) -> Option<Database> {
    let rules = remembering(tree)?;
    rules.judge(&asker(1));
    granted(assert_remembered(&rules, 1));
    wait_for_tick(tree);
    Some(rules)
}

/// That `uid` is answered as before, without a look.
#[track_caller]
fn assert_remembered(rules: &Database, uid: u32) -> Answer {
    let first = rules.judge(&asker(uid));
    let (again, reads) = reads(|| rules.judge(&asker(uid)));
    assert_eq!((again, reads), (first.clone(), 0));
    first
}

#[test]
fn an_answer_is_remembered_unless_the_file_was_changed_just_before_or_is_asked_once() {
    let tree = Tree::new();
    let Some(rules) = remembering(&tree) else {
        return;
    };
    granted(rules.judge(&asker(1)));
    let (_, first_reads) = reads(|| rules.judge(&asker(1)));
    assert_eq!(first_reads, 2, "the first answer is not kept");
    granted(assert_remembered(&rules, 1));
    // Nobody else's.
    assert_eq!(assert_remembered(&rules, 2), Answer::NoRule);

    let rules = Database::open(&tree.path("r.cdb")).unwrap();
    for _ in 0..3 {
        let (_, reads) = reads(|| rules.judge(&asker(1)));
        assert_eq!(reads, 2, "it is younger than any clock's tick");
    }
}

#[test]
fn of_what_is_remembered_every_change_counts_at_once() {
    type Spoil = (fn(&Path), &'static str);
    let spoil: [Spoil; 4] = [
        (|path| set_mode(path, 0o666), "writable"),
        (
            |path| fs::write(path, database([("uid/1", DENY)])).unwrap(),
            "was written in place",
        ),
        (|path| fs::write(path, "").unwrap(), "was written in place"),
        (
            |path| {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.write_all_at(b"D", 2100).unwrap();
            },
            "was written in place",
        ),
    ];
    for (spoil, why) in spoil {
        let tree = Tree::new();
        let Some(rules) = knowing_one(&tree) else {
            return;
        };
        spoil(&tree.path("r.cdb"));
        let told = cause(rules.judge(&asker(1)));
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn what_was_remembered_of_a_file_that_was_replaced_is_read_anew_and_says_the_same() {
    let tree = Tree::new();
    let Some(rules) = knowing_one(&tree) else {
        return;
    };
    tree.database("r.cdb", &database([("uid/1", DENY)]));
    let (answer, count) = reads(|| rules.judge(&asker(1)));
    granted(answer);
    assert_eq!(count, 2, "its ctime is another");
    // The one that is there now counts from the next opening.
    let rules = Database::open(&tree.path("r.cdb")).unwrap();
    assert_eq!(rules.judge(&asker(1)), Answer::Deny("uid/1".into()));
}

#[test]
fn every_key_is_found_in_tables_that_are_read_in_pieces_and_around_their_end() {
    let count = 60_000;
    let keys: Vec<String> = (0..count).map(|uid| format!("uid/{uid}")).collect();
    let records = keys.iter().map(|key| (key.as_str(), DENY));
    let rules = in_memory(&database(records)).unwrap();
    let mut most = 0;
    for uid in 0..count {
        let (answer, reads) = reads(|| rules.judge(&asker(uid)));
        let own = uid == geteuid().as_raw();
        assert_eq!(answer, Answer::Deny(format!("uid/{uid}")));
        most = most.max(reads - u64::from(own));
    }
    // The table up to its end, the rest from its beginning, the record.
    assert_eq!(most, 3);
}

#[test]
fn a_table_without_an_empty_slot_is_no_endless_walk() {
    let mut bytes = database([("uid/1", ALLOW)]);
    // The only table with slots: both are taken by the one record now.
    let end = bytes.len();
    let taken: Vec<u8> = bytes[end - 16..]
        .chunks(8)
        .find(|slot| slot[4..] != [0; 4])
        .unwrap()
        .to_vec();
    bytes.splice(end - 16.., [taken.clone(), taken].concat());
    let tree = Tree::new();
    let path = tree.database("r.cdb", &bytes);
    let rules = Database::open(&path).unwrap();
    granted(rules.judge(&asker(1)));
    let same_table =
        (2..100_000).find(|uid| rules_table(&format!("uid/{uid}")) == rules_table("uid/1"));
    assert!(cause(rules.judge(&asker(same_table.unwrap()))).contains("is broken"));
}

/// Which table a key is in: the lowest byte of its hash.
fn rules_table(key: &str) -> u32 {
    key.bytes().fold(5381u32, |hash, byte| {
        hash.wrapping_mul(33) ^ u32::from(byte)
    }) % 256
}

#[test]
fn a_table_that_is_all_taken_is_given_up_in_bounded_time() {
    // One table of a million slots, all with the hash that is asked for and pointing to a record of another key.
    let mut bytes = database([("uid/2", ALLOW)]);
    let hash = "uid/1".bytes().fold(5381u32, |hash, byte| {
        hash.wrapping_mul(33) ^ u32::from(byte)
    });
    let slots = 1_000_000u32;
    let position = u32::try_from(bytes.len()).unwrap();
    let at = (hash % 256) as usize * 8;
    bytes[at..at + 4].copy_from_slice(&position.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&slots.to_le_bytes());
    let slot = [hash.to_le_bytes(), 2048u32.to_le_bytes()].concat();
    bytes.extend(
        slot.iter()
            .copied()
            .cycle()
            .take(slot.len() * slots as usize),
    );
    let tree = Tree::new();
    let path = tree.database("r.cdb", &bytes);
    let rules = Database::open(&path).unwrap();
    let (answer, reads) = reads(|| rules.judge(&asker(1)));
    assert!(cause(answer).contains("is broken"));
    assert!(reads < 70_000, "{reads}");
}

/// A database in memory, readable by its descriptor alone.
pub(super) fn in_memory(bytes: &[u8]) -> Result<Database, String> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let mut file = fs::File::from(nix::sys::memfd::memfd_create("rules", flags).unwrap());
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .unwrap();
    file.write_all(bytes).unwrap();
    Database::in_file(OwnedFd::from(file))
}

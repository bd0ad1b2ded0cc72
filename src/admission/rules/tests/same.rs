//! A directory, and the database that is made of it, say the same to everybody.

use std::io::Cursor;

use super::super::Record;
use super::super::cdb::{Database, Writer, encode};
use super::fuzz::{Dice, rules};
use super::*;

/// Makes a database of a tree as `doorward rules compile` does.
fn compiled(tree: &RuleTree) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    for key in tree.keys().unwrap() {
        if let Some(record) = tree.record(&key).unwrap() {
            writer.add(&key, &encode(&record).unwrap()).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

fn sorted(answer: Answer) -> Answer {
    match answer {
        Answer::Allow(mut grant) => {
            grant.env.sort();
            Answer::Allow(grant)
        }
        other => other,
    }
}

#[test]
fn a_directory_and_its_database_answer_alike() {
    let mut dice = Dice::new(3);
    for _ in 0..60 {
        let mut tree = Tree::new();
        for (key, record) in rules(&mut dice) {
            let path = format!("rules/{key}");
            tree = match record {
                Record::Deny => tree.file(&format!("{path}/deny"), ""),
                Record::Allow { env, exec } => {
                    tree = tree.file(&format!("{path}/allow"), "");
                    if !exec.is_empty() {
                        tree = tree.file(&format!("{path}/exec"), exec);
                    }
                    for (name, value) in env {
                        let name = String::from_utf8(name).unwrap();
                        let text = value.map_or(vec![], |value| [&*value, b"\n"].concat());
                        tree = tree.file(&format!("{path}/env/{name}"), text);
                    }
                    tree
                }
            };
        }
        // What answers nothing: no record of it may answer either.
        tree = tree
            .file("rules/uid/3/note", "")
            .dir("rules/uid/.4/allow")
            .dir("rules/.hidden");
        let live = RuleTree::open_as(&tree.rules(), 1, 1).unwrap();
        let path = tree.database("r.cdb", &compiled(&live));
        let stored = Database::open_as(&path, 1, 1).unwrap();
        for uid in (0..14).map(Some).chain([None]) {
            for gid in (0..6).map(Some).chain([None]) {
                let who = Asker { uid, gid };
                assert_eq!(
                    sorted(live.judge(&who)),
                    sorted(stored.judge(&who)),
                    "{who:?}"
                );
            }
        }
    }
}

#[test]
fn one_tree_is_always_the_same_bytes() {
    let build = |names: [&str; 3]| {
        let mut tree = Tree::new().file("rules/uid/1/allow", "");
        for name in names {
            tree = tree
                .file(&format!("rules/uid/{name}/deny"), "")
                .file(&format!("rules/uid/1/env/{name}"), name);
        }
        compiled(&tree.open())
    };
    assert_eq!(build(["2", "3", "10"]), build(["10", "3", "2"]));
}

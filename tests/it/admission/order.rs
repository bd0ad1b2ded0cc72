//! Identity, rules, max-per-user, rate: the first refusal is the reason, and only who passed the others takes a token.

use super::{Rules, reachable, user};
use crate::support::{Client, Served};

#[track_caller]
fn served(door: &Served) -> Client {
    let mut client = door.connect_as(&user(1000));
    client.send(b"x");
    assert_eq!(client.read_exactly(1), b"x");
    client
}

#[track_caller]
fn assert_refused(door: &Served, reason: &str) {
    door.connect_as(&user(1000)).assert_closed();
    let line = door.wait_log("deny user=1000 ");
    assert!(
        line.contains(&format!(" reason={reason} ")),
        "expected {reason}: {line}"
    );
}

#[test]
fn the_first_refusal_is_the_reason() {
    need!(root);
    let door = reachable();
    let rules = Rules::of(&door);
    rules.allow("uid/1000");
    let door = door
        .args(["--rules".into(), rules.path("")])
        .args(["--max-per-user", "1", "--rate", "1/1000", "--inetd"])
        .serve(["cat"]);
    let holder = served(&door);

    // All three would refuse.
    rules.deny("uid/self");
    std::fs::remove_file(rules.path("uid/1000/allow")).unwrap();
    assert_refused(&door, "rule");
    // Two would.
    rules.allow("uid/1000");
    assert_refused(&door, "max-per-user");
    // One is left.
    drop(holder);
    door.wait_children(0);
    crate::support::eventually("the slot to be free", || {
        door.connect_as(&user(1000)).assert_closed();
        door.count_log("reason=rate") > 0
    });
}

#[test]
fn who_is_refused_by_a_rule_or_a_limit_takes_no_token() {
    need!(root);
    let door = reachable();
    let rules = Rules::of(&door);
    rules.allow("uid/1000");
    let door = door
        .args(["--rules".into(), rules.path("")])
        .args(["--max-per-user", "1", "--rate", "2/1000", "--inetd", "-v"])
        .serve(["cat"]);
    let holder = served(&door);
    for _ in 0..5 {
        assert_refused(&door, "max-per-user");
    }
    std::fs::rename(rules.path("uid/1000/allow"), rules.path("uid/1000/deny")).unwrap();
    for _ in 0..3 {
        assert_refused(&door, "rule");
    }
    std::fs::rename(rules.path("uid/1000/deny"), rules.path("uid/1000/allow")).unwrap();
    drop(holder);
    door.wait_log("end child=");

    // The second token is still there, and it was the last. (The line stands just before the slot is free.)
    let second = crate::support::eventually_some("the second token", || {
        let mut client = door.connect_as(&user(1000));
        let sent = client.try_send(b"x").is_ok();
        (sent && client.try_read_exactly(1).is_ok()).then_some(client)
    });
    assert_eq!(door.count_log("reason=rate"), 0, "{:#?}", door.log());
    drop(second);
    door.wait_log("end child=");
    crate::support::eventually("the empty bucket", || {
        door.connect_as(&user(1000)).assert_closed();
        door.count_log("reason=rate") > 0
    });
}

//! `--rate N/SECONDS`: how many in a time.

use std::time::{Duration, Instant};

use super::{comes_in, greeter, reachable, user};
use crate::support::{Door, eventually};

#[test]
fn a_user_not_seen_yet_has_a_full_bucket_and_then_is_refused_at_once() {
    need!(root);
    let door = greeter(reachable().args(["--rate", "3/1000"]));
    for id in [1000, 1001] {
        for _ in 0..3 {
            assert!(comes_in(&door, &user(id)));
        }
        assert!(!comes_in(&door, &user(id)));
        let line = door.wait_log(&format!("deny user={id} "));
        assert!(line.ends_with(" reason=rate limit=3/1000"), "{line}");
    }
}

#[test]
fn the_bucket_is_refilled_evenly() {
    need!(root);
    // A token comes back every second, and no sooner.
    let door = greeter(reachable().args(["--rate", "4/4"]));
    let begun = Instant::now();
    for _ in 0..4 {
        assert!(comes_in(&door, &user(1000)));
    }
    let emptied = begun.elapsed();
    for tokens in 1..=2 {
        eventually("a token", || comes_in(&door, &user(1000)));
        let at = begun.elapsed();
        assert!(
            at >= Duration::from_secs(tokens),
            "token {tokens} came after {at:?}"
        );
        // Not all at once after four seconds either.
        assert!(
            at < emptied + Duration::from_secs(tokens) + Duration::from_secs(2),
            "token {tokens} came after {at:?}"
        );
    }
}

#[test]
fn who_is_refused_takes_no_token() {
    need!(root);
    let door = greeter(reachable().args(["--rate", "1/1"]));
    assert!(comes_in(&door, &user(1000)));
    // Asking again and again does not put the next token off.
    let begun = Instant::now();
    eventually("the next token, asked for without a pause", || {
        comes_in(&door, &user(1000))
    });
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(door.count_log("reason=rate") > 0);
}

#[test]
fn a_rate_that_is_none_is_wrong_use() {
    for rate in [
        "5",
        "0/1",
        "1/0",
        "/",
        "1/",
        "/1",
        "-1/1",
        "1/-1",
        "x/y",
        "1.5/1",
        "1/1/1",
        "4294967296/1",
    ] {
        Door::new()
            .args([format!("--rate={rate}")])
            .fails(["true"])
            .assert(100, ["--rate"]);
    }
}

//! Options that make no sense together, or none at all: exit 100, naming what is wrong.

use crate::support::{Door, Outcome};

fn refused(args: &[&str], program: &[&str]) -> Outcome {
    Door::new()
        .command("handoff")
        .args(args)
        .fails(program.iter().copied())
}

#[test]
fn conflicts_name_both_sides() {
    for (args, program, words) in [
        (
            &["--backend", "/x"][..],
            &["cat"][..],
            &["--backend", "PROG"][..],
        ),
        (
            &["--backend", "/x", "--workers", "2"],
            &[],
            &["--backend", "--workers"],
        ),
        (
            &["--backend", "/x", "--lazy"],
            &[],
            &["--backend", "--lazy"],
        ),
        (
            &["--server", "user:0"],
            &["cat"],
            &["--server", "--backend"],
        ),
        (
            &["--lazy", "--ready", "backend"],
            &["cat"],
            &["--lazy", "--ready backend"],
        ),
        (&["-v", "-q"], &["cat"], &["--verbose", "--quiet"]),
    ] {
        refused(args, program).assert(100, words.iter().copied());
    }
}

#[test]
fn values_that_would_serve_nobody_or_trust_anybody_are_refused() {
    for (args, word) in [
        (&["--workers", "0"][..], "--workers 0"),
        (&["--ahead", "0"], "--ahead 0"),
        (&["--workers", "x"], "--workers"),
        (&["--notify-to", "everybody"], "--notify-to"),
        (&["--max-per-user", "0"], "--max-per-user 0"),
    ] {
        refused(args, &["cat"]).assert(100, [word]);
    }
    for args in [
        &["--backend", "/x", "--server", "all"][..],
        &["--backend", "/x", "--server", "nobody"],
    ] {
        refused(args, &[]).assert(100, ["--server"]);
    }
    refused(&["--backend", "/x", "--server", "user:no-such-user"], &[])
        .assert(100, ["user:no-such-user"]);
    let long = "/x".repeat(80);
    refused(&["--backend", &long], &[]).assert(100, ["--backend"]);
    refused(&["--backend", ""], &[]).assert(100, ["--backend"]);
}

#[test]
fn without_a_backend_there_is_nothing_to_do() {
    refused(&[], &[]).assert(100, ["PROG", "--backend"]);
}

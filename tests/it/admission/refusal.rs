//! How a refusal is told: to the log, and to the client.

use std::time::{Duration, Instant};

use super::{comes_in, greeter, reachable, user};
use crate::support::{Client, Dial, Door, Served, User, eventually};

/// Denies 1000, with a text.
fn denies(text: &str) -> Door {
    reachable().args(["--deny", "user:1000", "--deny-text", text])
}

/// A client that has sent `send` before doorward has seen it.
fn early(door: &Served, dial: Dial, send: impl FnOnce(&mut Client)) -> Client {
    door.pause();
    let mut client = dial.connect();
    send(&mut client);
    door.resume();
    client
}

#[test]
fn log_lines_have_the_form_of_the_contract() {
    need!(root);
    let door = reachable().args([
        "-v",
        "--deny",
        "user:1000",
        "--max-per-user",
        "1",
        "--inetd",
    ]);
    let door = door.serve(["cat"]);
    let me = std::process::id();

    door.connect_as(&User::new(1000, 1001)).assert_closed();
    assert_eq!(
        door.wait_log("deny user=1000 "),
        format!(
            "doorward: deny user=1000 group=1001 pid={me} slots=0/1000 reason=rule rule=user:1000"
        )
    );

    let mut client = door.connect_as(&User::new(1002, 1003));
    client.send(b"x");
    client.read_exactly(1);
    let child = door.wait_children(1)[0];
    assert_eq!(
        door.wait_log("allow "),
        format!(
            "doorward: allow user=1002 group=1003 pid={me} slots=1/1000 rule=default child={child}"
        )
    );

    door.connect_as(&user(1002)).assert_closed();
    assert_eq!(
        door.wait_log("deny user=1002 "),
        format!(
            "doorward: deny user=1002 group=1002 pid={me} slots=1/1000 reason=max-per-user limit=1"
        )
    );

    drop(client);
    let line = door.wait_log("doorward: end ");
    let (start, seconds) = line.rsplit_once('=').unwrap();
    assert_eq!(
        start,
        format!("doorward: end child={child} user=1002 status=0 seconds")
    );
    let (whole, decimals) = seconds.split_once('.').expect("two decimals");
    assert!(
        whole.parse::<u32>().is_ok() && decimals.len() == 2 && decimals.parse::<u32>().is_ok(),
        "{line}"
    );
}

#[test]
fn the_default_level_shows_deny_and_not_allow_and_quiet_shows_failures_alone() {
    need!(root);
    let options = ["--deny", "user:1000"];
    for (level, allowed, denied, started) in [
        (None, 0, 1, 1),
        (Some("-v"), 1, 1, 1),
        (Some("-q"), 0, 0, 0),
    ] {
        let mut door = greeter(reachable().args(options).args(level));
        assert!(!comes_in(&door, &user(1000)));
        assert!(comes_in(&door, &user(1001)));
        door.wait_children(0);
        assert!(door.stop().success());
        let whole = door.whole_log();
        let count = |text: &str| whole.iter().filter(|line| line.contains(text)).count();
        assert_eq!(
            [
                count(" allow user="),
                count(" end child="),
                count(" deny user="),
                count("doorward: start: ")
            ],
            [allowed, allowed, denied, started],
            "{level:?}: {whole:#?}"
        );
    }
    // A failure is told even then.
    let door = reachable().args(["-q"]);
    let program = door.script("program", "#!/bin/sh\n");
    let door = door.serve([&program]);
    std::fs::remove_file(&program).unwrap();
    door.connect().assert_closed();
    door.wait_log("doorward: error: unable to run ");
}

#[test]
fn of_one_user_and_reason_ten_lines_a_second_are_written_and_then_how_many_more() {
    need!(root);
    const REFUSED: usize = 60;
    let door = greeter(reachable().args(["--deny", "user:1000", "--deny", "user:1001"]));
    let begun = Instant::now();
    for _ in 0..REFUSED {
        assert!(!comes_in(&door, &user(1000)));
    }
    let within_a_second = begun.elapsed() < Duration::from_millis(900);
    // Another user has lines of his own at the same time.
    assert!(!comes_in(&door, &user(1001)));
    door.wait_log("deny user=1001 ");

    let of_user = || -> Vec<String> {
        door.log()
            .into_iter()
            .filter(|line| line.contains("deny user=1000 "))
            .collect()
    };
    let suppressed =
        |line: &String| -> Option<usize> { line.split_once(" suppressed=")?.1.parse().ok() };
    eventually("each refusal to be told or counted", || {
        of_user()
            .iter()
            .map(|line| suppressed(line).unwrap_or(1))
            .sum::<usize>()
            >= REFUSED
    });
    let lines = of_user();
    let counts: Vec<usize> = lines.iter().filter_map(suppressed).collect();
    let told = lines.len() - counts.len();
    assert_eq!(told + counts.iter().sum::<usize>(), REFUSED, "{lines:#?}");
    if within_a_second {
        assert_eq!((told, counts), (10, vec![REFUSED - 10]), "{lines:#?}");
        let last = lines.last().unwrap();
        assert_eq!(
            last.as_str(),
            format!(
                "doorward: deny user=1000 slots=0/1000 reason=rule suppressed={}",
                REFUSED - 10
            )
        );
    } else {
        assert!(told < REFUSED, "{lines:#?}");
    }
    // The next second begins anew.
    assert!(!comes_in(&door, &user(1000)));
    eventually("a line of its own", || of_user().len() == lines.len() + 1);
}

#[test]
fn deny_text_is_what_the_refused_client_reads_and_nobody_else() {
    need!(root);
    let door = greeter(denies("go away: \u{fc}"));
    assert_eq!(
        door.connect_as(&user(1000)).read_text(),
        "go away: \u{fc}\n"
    );
    assert!(comes_in(&door, &user(1001)));
}

#[test]
fn deny_text_goes_to_whoever_is_refused_for_whatever_reason() {
    need!(root);
    let options = [
        "--max-per-user",
        "1",
        "--rate",
        "1/1000",
        "--deny-text",
        "no",
        "--inetd",
    ];
    let door = reachable().args(options).serve(["cat"]);
    let mut first = door.connect_as(&user(1000));
    first.send(b"x");
    first.read_exactly(1);
    assert_eq!(door.connect_as(&user(1000)).read_text(), "no\n");
    door.wait_log("reason=max-per-user");
    drop(first);
    door.wait_children(0);
    eventually("a refusal by the rate", || {
        assert_eq!(door.connect_as(&user(1000)).read_text(), "no\n");
        door.count_log("reason=rate") > 0
    });
}

#[test]
fn deny_text_is_read_and_no_reset_even_after_data_was_sent() {
    need!(root);
    let door = denies("not you").serve(["true"]);
    let dial = || door.dial().user(&user(1000));
    for size in [1, 4096, 4097, 64 * 1024] {
        let mut client = early(&door, dial(), |client| client.send(&vec![b'x'; size]));
        assert_eq!(client.read_text(), "not you\n", "after {size} bytes");
    }
    // Descriptors that come along are dropped too.
    let before = door.fds().len();
    let mut client = early(&door, dial(), |client| {
        let null = std::fs::File::open("/dev/null").unwrap();
        client.send_fds(b"take this", &[std::os::fd::AsFd::as_fd(&null)]);
    });
    assert_eq!(client.read_text(), "not you\n");
    eventually("the descriptors of before", || door.fds().len() <= before);
}

#[test]
fn a_client_that_sends_without_end_holds_nobody_up() {
    need!(root);
    let door = greeter(denies("not you"));
    let dial = door.dial().user(&user(1000));
    let mut flood = early(&door, dial, |client| client.send(&vec![b'x'; 150_000]));
    // More than is read and dropped: it may be reset, and it is certainly over.
    let _ = flood.try_read_to_end();
    eventually("the end of the connection", || {
        flood.try_send(b"x").is_err()
    });
    assert!(comes_in(&door, &user(1001)));
    assert_eq!(door.connect_as(&user(1000)).read_text(), "not you\n");
}

#[test]
fn a_client_that_reads_nothing_holds_nobody_up() {
    need!(root);
    let door = greeter(denies(&"x".repeat(100_000)));
    let silent: Vec<Client> = (0..20).map(|_| door.connect_as(&user(1000))).collect();
    assert!(comes_in(&door, &user(1001)));
    drop(silent);
    assert!(comes_in(&door, &user(1001)));
}

#[test]
fn with_seqpacket_the_deny_text_is_one_record() {
    need!(root);
    let door = denies("not you")
        .args(["--type", "seqpacket"])
        .serve(["true"]);
    let dial = || door.dial().seqpacket().user(&user(1000));
    let mut client = dial().connect();
    assert_eq!(client.read_record(), b"not you\n");
    assert_eq!(client.read_record(), b"");

    let mut client = early(&door, dial(), |client| {
        for _ in 0..5 {
            client.send(&[b'x'; 5000]);
        }
    });
    assert_eq!(client.read_record(), b"not you\n");
}

//! What the service says of its load: STATUS to the manager, and the status line that SIGUSR1 asks for.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{MAX_1, assert_serves, echo, hold, notices_with, served};
use crate::support::{Door, User};

#[test]
fn status_changes_with_the_load() {
    let door = Door::new().serve(echo());
    door.wait_notice("STATUS=slots=0/1000, 0 admitted, 0 refused, serving 1 socket\n");

    let clients: Vec<_> = (0..3).map(|_| served(door.connect())).collect();
    door.wait_notice("STATUS=slots=3/1000, 3 admitted, 0 refused");

    drop(clients);
    door.wait_notice("STATUS=slots=0/1000, 3 admitted");
}

#[test]
fn status_counts_refusals_and_says_full() {
    let door = Door::new()
        .args(MAX_1)
        .args(["--deny", "user:65534", "--allow", "all"]);
    let door = door.args(["--mode", "0666"]).serve(hold());
    if nix::unistd::geteuid().is_root() {
        door.connect_as(&User::nobody()).assert_closed();
        door.wait_notice("1 refused");
    }
    let _held = [door.connect(), door.connect()];
    door.wait_notice(", full");
}

#[test]
fn status_comes_at_most_once_a_second_under_load() {
    let door = Door::new().serve(echo());
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_serves(&door);
    }
    let told = notices_with(&door, "STATUS=");
    let seconds = began.elapsed().as_secs() as usize;

    // One at the start, one for each second, and the fraction.
    assert!(told.len() <= seconds + 2, "{seconds} seconds: {told:#?}");
    assert!(told.len() >= 2, "it did change: {told:#?}");
    let texts: Vec<_> = told.iter().map(|(_, notice)| &notice.text).collect();
    assert!(texts.windows(2).all(|two| two[0] != two[1]), "{texts:?}");
}

#[test]
fn status_cannot_be_made_to_say_anything_else() {
    need!(root);
    let door = Door::new();
    let rules = door.path("rules\nSTOPPING=1\nREADY=1\n\u{1b}[2J");
    std::fs::create_dir_all(rules.join("uid/default")).unwrap();
    std::fs::write(rules.join("uid/default/allow"), "").unwrap();
    let door = door.args(["--rules".as_ref(), rules.as_os_str()]);
    let door = door.serve(echo());
    assert_serves(&door);

    // A source that others may write to is believed by nobody.
    std::fs::set_permissions(&rules, std::fs::Permissions::from_mode(0o777)).unwrap();
    door.connect().assert_closed();

    let notice = door.wait_notice("rules failing");
    assert_eq!(notice.text.matches('\n').count(), 1, "{:?}", notice.text);
    assert!(notice.text.ends_with('\n'), "{:?}", notice.text);
    assert!(!notice.text.contains('\u{1b}'), "{:?}", notice.text);
    let line = door.wait_log("denying whom this rule concerns");
    assert!(line.starts_with("doorward: error: "), "{line:?}");
    for line in door.log() {
        assert!(line.starts_with("doorward: "), "{line:?}");
    }
}

#[test]
fn sigusr1_logs_the_status() {
    let door = Door::new().serve(echo());
    let _client = served(door.connect());
    door.signal(Signal::SIGUSR1);
    assert_eq!(
        door.wait_log("doorward: status "),
        "doorward: status slots=1/1000, 1 admitted, 0 refused, serving 1 socket"
    );
}

#[test]
fn sigusr2_does_nothing() {
    let mut door = Door::new().serve(echo());
    let mut client = served(door.connect());
    door.wait_log("doorward: ready");
    let log = door.log().len();
    for _ in 0..20 {
        door.signal(Signal::SIGUSR2);
    }
    door.signal(Signal::SIGUSR1);

    door.wait_log("doorward: status ");
    assert_eq!(door.log().len(), log + 1, "{:?}", door.log());
    assert!(notices_with(&door, "RELOADING").is_empty());
    super::assert_echoes(&mut client);
    assert_serves(&door);
    assert!(door.stop().success());
}

#[test]
fn status_of_limitless_service_has_no_limit() {
    let door = Door::new().args(["--max", "0"]).serve(hold());
    door.wait_notice("STATUS=slots=0/0");
}

//! Deaths of started backends, and the pauses before the next.

use std::time::{Duration, Instant};

use super::{backend, door, order, pid, serving};
use crate::support::{Door, eventually, probe};

fn dies_at_once(words: &[&str]) -> crate::support::Served {
    let probe = probe();
    let program = std::iter::once(probe.to_str().unwrap()).chain(words.iter().copied());
    door().serve(program)
}

/// Each end is told, and the pauses double from 100 ms.
#[track_caller]
fn assert_doubling(words: &[&str], end: &str) {
    let mut door = dies_at_once(words);
    let mut began = None;
    for pause in ["0.10", "0.20", "0.40", "0.80"] {
        let line = door.wait_log("backend exit child=");
        assert!(line.contains(end), "{line}");
        assert!(line.ends_with(&format!("restart={pause}")), "{line}");
        began.get_or_insert_with(Instant::now);
    }
    eventually("the fifth start", || door.count_log("backend start") == 5);
    // Told, and kept: the sum of the pauses, less what the first line took to come.
    let took = began.unwrap().elapsed();
    assert!(took > Duration::from_millis(1400), "{took:?}");
    assert!(door.running());
}

#[test]
fn exit_0_is_a_death_and_pauses_double() {
    assert_doubling(&["exit", "0"], " status=0 ");
}

#[test]
fn exit_127_at_once_is_a_death_and_pauses_double() {
    assert_doubling(&["exit", "127"], " status=127 ");
}

#[test]
fn death_by_a_signal_is_told_as_such() {
    let door = dies_at_once(&["die", "9"]);
    assert!(door.wait_log("backend exit child=").contains(" signal=9 "));
}

#[test]
fn clients_wait_while_backends_die_and_are_answered_by_the_first_that_lives() {
    let door = door();
    let (fence, probe) = (door.path("fence"), probe());
    let script = door.script(
        "sometimes",
        &format!(
            "#!/bin/sh\n[ -e {} ] || exit 126\nexec {} backend\n",
            fence.display(),
            probe.display()
        ),
    );
    let door = door.serve([script]);
    let mut clients: Vec<_> = (0..5).map(|_| door.connect()).collect();
    clients.iter_mut().for_each(|client| order(client, "pid"));
    super::wait_allowed(&door, 5);
    door.wait_log("status=126");
    clients.iter().for_each(crate::support::Client::assert_open);
    std::fs::write(fence, "").unwrap();
    for mut client in clients {
        assert_eq!([pid(&client.read_text())], door.children()[..]);
    }
}

#[test]
fn program_that_is_not_there_is_told_before_anything_is_bound() {
    let started = |program: &str| Door::new().command("handoff").fails([program]);
    assert_eq!(started("/no/such/program").code(), 127);
    assert_eq!(started("/etc/passwd").code(), 126);
}

/// Gone after the start: not started, told, and tried again.
#[test]
fn program_that_vanishes_is_tried_again_until_it_is_back() {
    let door = door();
    let script = door.script(
        "worker",
        &format!("#!/bin/sh\nexec {} backend\n", probe().display()),
    );
    let door = door.serve([&script]);
    let first = serving(&door);
    let away = door.path("away");
    std::fs::rename(&script, &away).unwrap();
    let mut client = door.connect();
    order(&mut client, "exit 0");
    client.assert_closed();
    door.wait_log("unable to start the backend");
    let mut waiting = door.connect();
    order(&mut waiting, "pid");
    super::wait_allowed(&door, 3);
    std::fs::rename(&away, &script).unwrap();
    assert_ne!(pid(&waiting.read_text()), first);
}

#[test]
fn connections_that_a_dying_worker_had_not_received_go_to_the_next() {
    let door = door().serve(backend(&[]));
    let mut first = door.connect();
    let mut others: Vec<_> = (0..10).map(|_| door.connect()).collect();
    others.iter_mut().for_each(|client| order(client, "pid"));
    super::wait_allowed(&door, 11);
    let before = door.wait_children(1)[0];
    order(&mut first, "die 9");
    first.assert_closed();
    for mut client in others {
        assert_ne!(pid(&client.read_text()), before);
    }
}

//! Backends that do not do what backends do.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ask, backend, door, kept, order, pid, serving, wait_allowed};
use crate::support::{Client, Served, eventually, inspect};

/// It uses next to no processor time for a while.
#[track_caller]
pub fn assert_at_rest(door: &Served) {
    let ticks = inspect::cpu_ticks(door.pid());
    let end = Instant::now() + Duration::from_millis(600);
    eventually("a while", || Instant::now() > end);
    let used = inspect::cpu_ticks(door.pid()) - ticks;
    // Of 60 ticks that a loop would use.
    assert!(
        used <= 12,
        "{used} ticks of processor time while nothing happens"
    );
}

/// `count` clients that nobody has received: the one worker reads from `first`, who says nothing yet.
#[track_caller]
fn queued_behind_one(door: &Served, count: usize) -> (Client, Vec<Client>) {
    let first = door.connect();
    let mut others: Vec<_> = (0..count).map(|_| door.connect()).collect();
    others.iter_mut().for_each(|client| order(client, "pid"));
    wait_allowed(door, count + 1);
    (first, others)
}

#[track_caller]
fn assert_shutdown_loses_nothing(how: &str) {
    let door = door().serve(backend(&[]));
    let before = door.wait_children(1)[0];
    let (mut first, queued) = queued_behind_one(&door, 3);
    order(&mut first, &format!("shutdown {how}"));
    assert_eq!(first.read_line(), "shut");

    let mut late = door.connect();
    order(&mut late, "pid");
    door.wait_log("shut the channel down");

    for mut client in queued.into_iter().chain([late]) {
        assert_ne!(pid(&client.read_text()), before);
    }
    // Its worker was ended, and with it what it held.
    first.assert_closed();
    assert_eq!(door.count_log("shut the channel down"), 1);
    door.wait_children(1);
}

#[test]
fn channel_shut_for_reading_is_replaced_and_what_was_queued_is_answered() {
    assert_shutdown_loses_nothing("rd");
}

#[test]
fn channel_shut_both_ways_is_replaced_and_what_was_queued_is_answered() {
    assert_shutdown_loses_nothing("both");
}

/// Nothing comes that way, so nothing is lost: the channel goes on.
#[test]
fn channel_shut_for_writing_goes_on() {
    let door = door().serve(backend(&[]));
    let before = door.wait_children(1)[0];
    let (mut first, queued) = queued_behind_one(&door, 3);
    order(&mut first, "shutdown wr");
    assert_eq!(first.read_line(), "shut");
    let mut late = door.connect();
    order(&mut late, "pid");
    wait_allowed(&door, 5);
    assert_at_rest(&door);
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    first.assert_closed();
    for mut client in queued.into_iter().chain([late]) {
        assert_ne!(pid(&client.read_text()), before);
    }
}

#[test]
fn worker_that_closes_the_channel_takes_nothing_with_it() {
    let door = door().args(["--ahead", "4"]).serve(backend(&[]));
    let before = door.wait_children(1)[0];
    let (mut first, queued) = queued_behind_one(&door, 4);
    order(&mut first, "close");
    assert_eq!(first.read_line(), "closed");
    // Beyond what may wait in the channel: in the kernel's queue.
    let mut late = door.connect();
    order(&mut late, "pid");
    assert_at_rest(&door);
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    for mut client in queued.into_iter().chain([late]) {
        assert_ne!(pid(&client.read_text()), before);
    }
}

#[test]
fn backend_that_never_reads_leaves_clients_in_the_kernels_queue() {
    let door = door();
    let fence = door.path("fence");
    let door = door.args(["--ahead", "4"]).serve(backend(&[
        "--answer",
        "--fence",
        fence.to_str().unwrap(),
    ]));
    let mut clients: Vec<_> = (0..10).map(|_| door.connect()).collect();
    wait_allowed(&door, 4);
    assert_at_rest(&door);
    assert_eq!(door.count_log("doorward: allow "), 4);
    clients.iter().for_each(Client::assert_open);
    // As soon as somebody takes them, they are served.
    std::fs::write(fence, "").unwrap();
    for client in &mut clients {
        pid(&client.read_text());
    }
}

/// Whoever kills a backend that never reads loses nothing: it has received nothing.
#[test]
fn death_of_a_backend_that_never_reads_costs_nobody_anything() {
    let door = door();
    let fence = door.path("fence");
    let door = door.serve(backend(&["--answer", "--fence", fence.to_str().unwrap()]));
    let mut clients: Vec<_> = (0..10).map(|_| door.connect()).collect();
    wait_allowed(&door, 10);
    for _ in 0..3 {
        let worker = door.wait_children(1)[0];
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        door.wait_log("backend exit");
    }
    clients.iter().for_each(Client::assert_open);
    std::fs::write(fence, "").unwrap();
    for client in &mut clients {
        pid(&client.read_text());
    }
}

#[test]
fn garbage_on_the_channel_is_not_heard() {
    let door = door().serve(backend(&[]));
    let worker = serving(&door);
    for _ in 0..3 {
        assert_eq!(ask(&door, "garbage"), "sent\n");
    }
    assert_at_rest(&door);
    assert_eq!(serving(&door), worker);
    assert_eq!(door.count_log("backend exit"), 0);
}

#[test]
fn backend_that_leaks_descriptors_pays_with_slots_until_it_dies() {
    let door = door()
        .args(["--max", "3", "--max-per-user", "3"])
        .serve(backend(&[]));
    let worker = door.wait_children(1)[0];
    let mut leaked: Vec<_> = (0..3).map(|_| kept(&door)).collect();
    // Full by a user's limit: refused, not left waiting.
    door.connect().assert_closed();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    leaked.iter_mut().for_each(Client::assert_closed);
    eventually("the slots again", || {
        let mut client = door.connect();
        order_or_not(&mut client, "pid");
        client
            .try_read_to_end()
            .is_ok_and(|answer| !answer.is_empty())
    });
}

/// A line to a client that may be refused already.
fn order_or_not(client: &mut Client, line: &str) {
    let _ = client.try_send(format!("{line}\n").as_bytes());
}

/// doorward keeps nothing of a connection but the lease's end.
#[test]
fn held_connections_cost_one_descriptor_each_and_ended_ones_none() {
    let door = door().serve(backend(&[]));
    serving(&door);
    let before = settled_fds(&door);
    let held: Vec<_> = (0..10).map(|_| kept(&door)).collect();
    eventually("a lease for each and nothing else", || {
        door.fds().len() == before + held.len()
    });
    let worker = door.wait_children(1)[0];
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    door.wait_log("backend exit");
    serving(&door);
    eventually("the descriptors of before", || door.fds().len() == before);
}

/// How many it has open when nothing goes on.
fn settled_fds(door: &Served) -> usize {
    eventually("no slot in use", || {
        door.signal(Signal::SIGUSR1);
        door.wait_log("status ").contains("slots=0/")
    });
    door.fds().len()
}

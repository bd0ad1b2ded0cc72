//! What cannot be handed off, and what can be only later.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;

use super::{ask, backend, door, order, pid, serving};
use crate::support::{Client, Door, Served, User, eventually};

/// Gives a running doorward another limit of descriptors.
#[track_caller]
fn limit_descriptors(door: &Served, limit: usize) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &door.pid().to_string()]);
    prlimit.arg(format!("--nofile={limit}:4096"));
    assert!(prlimit.status().unwrap().success());
}

fn file(door: &Door, name: &str, text: &str) {
    let path = door.path("rules").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn message_beyond_16_kib_is_refused_and_others_are_served() {
    need!(root);
    let door = door();
    file(&door, "uid/0/allow", "");
    file(&door, "uid/4321/allow", "");
    // Less than a rule may have, more than a message can carry with what the connection adds.
    for name in ["A", "B", "C", "D"] {
        let value = "x".repeat(4085);
        file(&door, &format!("uid/4321/env/{name}"), &value);
    }
    let rules = door.path("rules");
    let door = door
        .args(["--mode", "0666", "--rules", rules.to_str().unwrap()])
        .serve(backend(&[]));

    let mut refused = door.connect_as(&User::new(4321, 4321));
    refused.assert_closed();
    let line = door.wait_log("unable to hand a connection off");
    assert!(
        line.contains("uid/4321") && line.contains("over the limit"),
        "{line}"
    );
    assert_eq!(door.count_log("doorward: allow "), 0);
    serving(&door);
    // It holds no slot.
    eventually("no slot in use", || {
        door.signal(Signal::SIGUSR1);
        door.wait_log("status ").contains("slots=0/")
    });
}

#[test]
fn client_whose_message_is_too_large_gets_no_greeting() {
    need!(root);
    let door = door();
    file(&door, "uid/4321/allow", "");
    for name in ["A", "B", "C", "D"] {
        file(&door, &format!("uid/4321/env/{name}"), &"x".repeat(4085));
    }
    let rules = door.path("rules");
    let door = door
        .args(["--mode", "0666", "--rules", rules.to_str().unwrap()])
        .args(["--notify-to", "client"])
        .serve(backend(&[]));
    door.connect_as(&User::new(4321, 4321)).assert_closed();
    door.wait_log("over the limit");
}

#[test]
fn large_messages_below_the_limit_arrive_whole() {
    need!(root);
    let door = door();
    file(&door, "uid/0/allow", "");
    for name in ["A", "B", "C"] {
        file(&door, &format!("uid/0/env/{name}"), &name.repeat(4085));
    }
    let rules = door.path("rules");
    let door = door
        .args(["--rules", rules.to_str().unwrap()])
        .serve(backend(&[]));
    // Many at once too: they fill the channel sooner than small ones.
    let mut clients: Vec<Client> = (0..40).map(|_| door.connect()).collect();
    let last = clients.pop().unwrap();
    for client in &mut clients {
        order(client, "pid");
        pid(&client.read_text());
    }
    let told = super::Told::of(last);
    for name in ["A", "B", "C"] {
        assert_eq!(told.get(name), name.repeat(4085));
    }
}

#[test]
fn large_messages_fill_the_channel_sooner_and_clients_wait_at_rest() {
    need!(root);
    let door = door();
    file(&door, "uid/0/allow", "");
    for name in ["A", "B", "C"] {
        file(&door, &format!("uid/0/env/{name}"), &name.repeat(4085));
    }
    let (rules, fence) = (door.path("rules"), door.path("fence"));
    let door = door
        .args(["--rules", rules.to_str().unwrap()])
        .serve(backend(&["--answer", "--fence", fence.to_str().unwrap()]));
    let mut clients: Vec<Client> = (0..30).map(|_| door.connect()).collect();
    super::hostile::assert_at_rest(&door);
    let queued = door.count_log("doorward: allow ");
    assert!(queued > 0 && queued < 30, "{queued}");
    clients.iter().for_each(Client::assert_open);
    fs::write(fence, "").unwrap();
    for client in &mut clients {
        pid(&client.read_text());
    }
    assert_eq!(door.count_log(": warning:"), 0, "{:?}", door.log());
}

#[test]
fn rule_that_execs_denies_here() {
    need!(root);
    let door = door();
    file(&door, "uid/0/allow", "");
    file(&door, "uid/4321/allow", "");
    file(&door, "uid/4321/exec", "echo never");
    let rules = door.path("rules");
    let door = door
        .args(["--mode", "0666", "--rules", rules.to_str().unwrap()])
        .serve(backend(&[]));
    door.connect_as(&User::new(4321, 4321)).assert_closed();
    let line = door.wait_log("doorward: deny user=4321");
    assert!(line.contains("reason=rule rule=uid/4321"), "{line}");
    serving(&door);
}

#[test]
fn full_descriptor_table_makes_clients_wait() {
    need!("prlimit");
    // None for what goes with a connection; and one more, so that something can be made and something not.
    for limit in [3, 4] {
        let door = door().serve(backend(&[]));
        let worker = serving(&door);
        limit_descriptors(&door, limit);
        let mut clients: Vec<_> = (0..3).map(|_| door.connect()).collect();
        clients.iter_mut().for_each(|client| order(client, "pid"));
        let line = door.wait_log("doorward: warning: unable to");
        assert!(line.contains("Too many open files"), "{line}");
        clients.iter().for_each(Client::assert_open);
        limit_descriptors(&door, 1024);
        for client in &mut clients {
            assert_eq!(pid(&client.read_text()), worker);
        }
    }
}

/// The kernel counts descriptors under way for each user, against the limit of descriptors.
#[test]
fn too_many_descriptors_under_way_make_clients_wait() {
    need!(root, "prlimit");
    const LIMIT: usize = 150;
    let door = door();
    let fence = door.path("fence");
    // A user of this test's own: others' messages would count too. Four descriptors go with each message, of which doorward keeps one
    // open: it meets the count before the end of its table.
    let door = door
        .wrap(["prlimit", &format!("--nofile={LIMIT}")])
        .args(["--run-as", "43210:43210", "--mode", "0666"])
        .serve(backend(&["--answer", "--fence", fence.to_str().unwrap()]));
    let mut clients: Vec<_> = (0..64).map(|_| door.connect()).collect();
    let line = door.wait_log("unable to hand a connection off");
    assert!(line.contains("Too many references"), "{line}");
    let queued = door.count_log("doorward: allow ");
    assert!(queued > 10 && queued < 64, "{queued}");
    clients.iter().for_each(Client::assert_open);
    fs::write(fence, "").unwrap();
    for client in &mut clients {
        pid(&client.read_text());
    }
}

#[test]
fn client_that_left_before_its_hand_off_disturbs_nobody() {
    for to in ["backend", "client", "none"] {
        let door = door().args(["--notify-to", to]).serve(backend(&[]));
        door.pause();
        // In the kernel's queue, and gone, when doorward looks again.
        let left: Vec<_> = (0..5).map(|_| door.connect()).collect();
        drop(left);
        door.resume();
        let mut client = door.connect();
        if to == "client" {
            assert_eq!(client.recv_greeting().0, b"doorward 1\n");
        }
        order(&mut client, "pid");
        pid(&client.read_text());
        assert_eq!(door.count_log(": error:"), 0, "{:?}", door.log());
        assert_eq!(door.count_log("backend exit"), 0);
        eventually("no slot in use", || {
            door.signal(Signal::SIGUSR1);
            door.wait_log("status ").contains("slots=0/")
        });
    }
}

#[test]
fn deny_text_and_rules_of_options_hold_here_too() {
    need!(root);
    let door = door()
        .args([
            "--mode",
            "0666",
            "--allow",
            "user:0",
            "--deny-text",
            "not you",
        ])
        .serve(backend(&[]));
    assert_eq!(
        door.connect_as(&User::new(4321, 4321)).read_text(),
        "not you\n"
    );
    assert!(ask(&door, "message").starts_with("payload "));
}

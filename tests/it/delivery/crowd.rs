//! Many connections at once, and then none; more than the system gives, which pauses the service and never ends it.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::support::{Client, Door, Served, User, eventually, inspect};

const CROWD: usize = 2000;

#[test]
fn two_thousand_at_once_leave_no_descriptor_and_no_slot_behind() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = CROWD as u64 + 1000;
    if soft < wanted {
        assert!(hard >= wanted, "this test needs {wanted} descriptors");
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).unwrap();
    }
    let limit = (CROWD + 10).to_string();
    let door = Door::new()
        .args(["--inetd", "--max", &limit, "--max-per-user", &limit])
        .serve(["cat"]);
    let before = door.fds().len();
    for round in 0..2 {
        let mut clients: Vec<Client> = (0..CROWD).map(|_| door.connect()).collect();
        for client in &mut clients {
            client.send(b"x");
        }
        for client in &mut clients {
            assert_eq!(client.read_exactly(1), b"x");
        }
        door.signal(Signal::SIGUSR1);
        assert!(
            door.wait_log("doorward: status ")
                .contains(&format!("slots={CROWD}/{limit}"))
        );
        // A descriptor for each child and none for its connection.
        assert!(door.fds().len() <= before + CROWD, "{round}");
        // A child's own table is as small as the first one's.
        let child = door.children()[CROWD / 2];
        assert_eq!(
            inspect::fds(child).into_keys().collect::<Vec<_>>(),
            [0, 1, 2]
        );

        drop(clients);
        eventually("no slot taken", || {
            door.signal(Signal::SIGUSR1);
            door.wait_log("doorward: status ").contains("slots=0/")
        });
        eventually("the descriptors of before", || door.fds().len() == before);
        door.wait_children(0);
    }
    assert_eq!(
        (door.count_log("doorward: deny "), door.count_log("warning")),
        (0, 0),
        "{:#?}",
        door.log()
    );
}

/// What it looks like when a limit is in the way: told, not spinning, alive; and over when clients leave.
#[track_caller]
fn assert_pauses_and_serves_again(mut door: Served, many: usize, warning: &str) {
    let start = std::time::Instant::now();
    let mut clients: Vec<Client> = (0..many).map(|_| door.connect()).collect();
    for client in &mut clients {
        let _ = client.try_send(b"x");
    }
    let line = door.wait_log(warning);
    assert!(
        line.starts_with("doorward: warning: unable to ") && line.contains("pausing"),
        "{line}"
    );

    let (begun, ticks) = (std::time::Instant::now(), inspect::cpu_ticks(door.pid()));
    eventually("half a second", || begun.elapsed().as_millis() > 500);
    let used = inspect::cpu_ticks(door.pid()) - ticks;
    assert!(used < 25, "{used} of some 50 ticks: it spins");
    let lines = door.count_log(warning);
    let seconds = start.elapsed().as_secs() as usize;
    assert!(lines <= 1 + seconds, "{lines} lines in {seconds} seconds");

    // Each of them is served in the end, as others leave: none was lost to the limit.
    while !clients.is_empty() {
        eventually("somebody who is served", || {
            clients.iter().any(Client::is_readable)
        });
        let (answered, waiting): (Vec<Client>, _) =
            clients.into_iter().partition(Client::is_readable);
        clients = waiting;
        for mut client in answered {
            assert_eq!(client.read_exactly(1), b"x");
        }
    }
    let mut client = door.connect();
    assert_eq!(client.ask(b"again"), b"again");
    assert!(door.running());
}

#[test]
fn a_full_descriptor_table_pauses_the_service() {
    need!("prlimit");
    let door = Door::new()
        .args(["--inetd", "--max", "0"])
        .wrap(["prlimit", "--nofile=130:130"])
        .serve(["cat"]);
    // Up to 64 children need no descriptor; with more, each does.
    assert_pauses_and_serves_again(door, 200, "Too many open files");
}

#[test]
fn a_full_process_table_pauses_the_service() {
    need!(root, "prlimit", "setpriv");
    let door = Door::new().args(["--inetd", "--max", "0"]);
    let uid = User::unique().uid;
    std::os::unix::fs::chown(door.dir(), Some(uid), None).unwrap();
    let [reuid, regid] = ["reuid", "regid"].map(|option| format!("--{option}={uid}"));
    let user = ["setpriv", &reuid, &regid, "--clear-groups"];
    // Threads of doorward count.
    let door = door
        .wrap(user)
        .wrap(["prlimit", "--nproc=40:40"])
        .serve(["cat"]);
    assert_pauses_and_serves_again(door, 100, "unable to create a child");
}

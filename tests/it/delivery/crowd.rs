//! Many connections at once, and then none.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::support::{Client, Door, eventually, inspect};

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

//! What went wrong once: each test fails without the change that it came with.

use crate::support::{Door, probe};

/// The program that reports what it was given, on the connection.
fn reporter() -> [String; 3] {
    [
        probe().to_str().unwrap().to_owned(),
        "report".to_owned(),
        "7".to_owned(),
    ]
}

#[test]
fn a_number_of_doorward_s_own_does_not_pass_for_one_that_was_open_at_the_start() {
    for option in ["--keep-fd", "--ready-fd"] {
        let door = Door::new().args([option, "3"]);
        let socket = door.path("s");
        door.fails(reporter()).assert(100, [option, "3", "open"]);
        assert!(!socket.exists(), "{option}");
    }
}

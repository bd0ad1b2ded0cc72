//! What a child gets: its environment, its descriptors, and nothing else; and how it ends.

mod crowd;
mod ending;
mod environment;
mod greeting_limits;
mod layout;
mod lifetime;
mod notify;
mod peer_name;
mod pidfd;
mod process;
mod program;
mod together;

use crate::support::{Client, Door, Report, probe};

/// The probe, told to report on `fd`.
fn reporter(fd: &str) -> [String; 3] {
    [
        probe().to_str().unwrap().to_owned(),
        "report".to_owned(),
        fd.to_owned(),
    ]
}

/// The report of one child of `door`, in the default layout.
#[track_caller]
fn report_of(door: Door) -> Report {
    Report::parse(door.serve(reporter("7")).connect().read_to_end())
}

/// The greeting, and the client's end of the notification socket.
#[track_caller]
fn take_greeting(client: &mut Client) -> Client {
    let (bytes, mut descriptors) = client.recv_greeting();
    assert_eq!(bytes, b"doorward 1\n");
    assert_eq!(descriptors.len(), 1);
    Client::from(descriptors.remove(0))
}

//! Debian's s6-ftrigrd as a child of `spawn --inetd`: it sends a descriptor on its connection, which must be the socket itself.

use super::{compile, counted, read_counted};
use crate::support::{Client, Door, Scratch, Served};
use std::os::fd::OwnedFd;
use std::process::Command;

const BEFORE: &[u8] = b"ftrigr v1.0 (b)\n";
const AFTER: &[u8] = b"ftrigr v1.0 (a)\n";

/// `words` then is how s6-ftrigrd is started.
fn serve<const N: usize>(words: [&str; N]) -> Served {
    let door = Door::new().args(["-v", "--inetd"]);
    door.serve(words.into_iter().chain(["s6-ftrigrd"]))
}

/// The client's banner, and the server's first message: a byte that is no frame, with the pipe for events.
#[track_caller]
fn begin(client: &mut Client) -> OwnedFd {
    client.send(&counted(BEFORE));
    receive_pipe(client)
}

#[track_caller]
fn receive_pipe(client: &mut Client) -> OwnedFd {
    let (byte, mut descriptors) = client.recv_greeting();
    assert_eq!((byte.as_slice(), descriptors.len()), (&b"|"[..], 1));
    descriptors.remove(0)
}

/// The reason for the other test's preload: if this fails, the library was cured.
#[test]
fn its_own_library_repeats_the_descriptor_until_its_time_is_up() {
    need!("s6-ftrigrd");
    let door = serve([]);
    let mut client = door.connect();
    let first = begin(&mut client);
    let second = receive_pipe(&mut client);
    drop((first, second, client));
    door.wait_log("unable to sync with client");
    door.wait_log("status=111");
}

#[test]
fn with_that_one_function_cured_a_client_subscribes_and_hears_the_event() {
    need!("s6-ftrigrd", "s6-mkfifodir", "s6-ftrig-notify", "gcc");
    let scratch = Scratch::new();
    let cure = compile(&scratch, "send_once.c", &["-shared", "-fPIC"]);
    let preload = format!("LD_PRELOAD={}", cure.display());
    let door = serve(["env", &preload]);
    let directory = scratch.path("events");
    let run = |program: &str, last: &[&str]| {
        let status = Command::new(program).arg(&directory).args(last).status();
        assert!(status.expect(program).success(), "{program}");
    };
    run("s6-mkfifodir", &[]);

    let mut client = door.connect();
    let pipe = begin(&mut client);
    let mut events = Events::from(pipe);
    assert_eq!(events.next(), AFTER, "first on the pipe");
    assert_eq!(read_counted(&mut client), AFTER, "then on the connection");
    let path = directory.to_str().unwrap();
    client.send(&counted(&subscription(path, "b+U")));
    assert_eq!(read_counted(&mut client), [0]);
    run("s6-ftrig-notify", &["abU"]);
    assert_eq!(
        events.next(),
        [0, 0, b'!', b'U'],
        "id 0, the last byte that matched"
    );
    drop(client);
    door.wait_log("status=0");
}

/// Id 0, once: `L`, options, two lengths, two strings that end in a zero byte.
fn subscription(path: &str, pattern: &str) -> Vec<u8> {
    let length = |text: &str| u32::try_from(text.len()).unwrap().to_be_bytes();
    let mut command = vec![0, 0, b'L', 0, 0, 0, 0];
    command.extend([length(path), length(pattern)].concat());
    for text in [path, pattern] {
        command.extend_from_slice(text.as_bytes());
        command.push(0);
    }
    command
}

/// Frames from a pipe that does not block.
struct Events(std::fs::File);

impl From<OwnedFd> for Events {
    fn from(pipe: OwnedFd) -> Events {
        Events(pipe.into())
    }
}

impl Events {
    #[track_caller]
    fn next(&mut self) -> Vec<u8> {
        let length: [u8; 4] = self.exactly(4).try_into().unwrap();
        self.exactly(u32::from_be_bytes(length) as usize)
    }

    #[track_caller]
    fn exactly(&mut self, count: usize) -> Vec<u8> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        crate::support::eventually("an event on the pipe", || {
            let mut rest = vec![0; count - bytes.len()];
            match self.0.read(&mut rest) {
                Ok(0) => panic!("the pipe was closed after {bytes:?}"),
                Ok(came) => bytes.extend_from_slice(&rest[..came]),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            bytes.len() == count
        });
        bytes
    }
}

//! The example `http_uid`: an async backend, a page for each user.

use super::example;
use crate::support::{Dial, Door, User};

#[test]
fn a_web_server_knows_its_callers() {
    need!(root);
    let door = Door::new()
        .command("handoff")
        .args(["--mode", "0666", "--notify-to", "none"])
        .serve([example("http_uid")]);
    let get = |user: &User, path: &str| {
        let mut client = Dial::to(door.socket()).user(user).connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.send(request.as_bytes());
        client.read_text()
    };
    let text = get(&User::nobody(), "/");
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with("you are user 65534, group 65534\n"),
        "{text}"
    );
    assert!(get(&User::nobody(), "/admin").starts_with("HTTP/1.1 403"));
    assert!(get(&User::me(), "/admin").ends_with("welcome, root\n"));
    let mut nonsense = Dial::to(door.socket()).connect();
    nonsense.send(b"\0\x01\x02 nonsense\r\n\r\n");
    assert!(nonsense.read_text().starts_with("HTTP/1.1 400"));
    assert!(get(&User::me(), "/nowhere").starts_with("HTTP/1.1 404"));
}

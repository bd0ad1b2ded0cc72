//! The backends of contrib/backends, in three languages: the same conversation with each, started by doorward and listening.

mod channel;
mod hostile;
mod listening;
mod room;
mod started;
mod supervised;
mod systemd;
mod trust;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::neighbour::project;
use crate::support::{Client, Door};

/// What a backend is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Language {
    Python,
    C,
    Go,
}

const ALL: [Language; 3] = [Language::Python, Language::C, Language::Go];

impl Language {
    /// The service, built as contrib/backends/README.md says. Beside it stands what it needs.
    #[track_caller]
    fn program(self) -> &'static Path {
        static BUILT: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
        BUILT[self as usize].get_or_init(|| self.build())
    }

    fn build(self) -> PathBuf {
        let source = project().join("contrib/backends");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("backends/{self:?}"));
        fs::create_dir_all(&target).unwrap();
        let program = target.join("watch");
        match self {
            Language::Python => {
                let module = source.join("python/doorward_backend.py");
                run(Command::new("cp").args([&module, &target]));
                run(Command::new("cp").args([&source.join("python/watch.py"), &program]));
            }
            Language::C => run(Command::new("gcc")
                .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
                .args([&program, &source.join("c/watch.c")])),
            Language::Go => run(Command::new("go")
                .args(["build", "-buildvcs=false", "-o"])
                .arg(&program)
                .arg("./watch")
                .current_dir(source.join("go"))
                .env("GOCACHE", target.join("cache"))
                .env("GOPATH", target.join("path"))
                .env("CGO_ENABLED", "0")),
        }
        program
    }

    /// A door that hands off to it, started; without patience for who does not finish.
    fn door(self) -> (Door, [String; 3]) {
        let words = [self.program().to_str().unwrap(), "--grace", "0"];
        (
            Door::new().command("handoff").args(["--mode", "0666"]),
            words.map(str::to_owned),
        )
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A client that was greeted: what it asks on the connection, what it hears on its notification socket.
struct Guest {
    client: Client,
    events: Client,
}

impl Guest {
    /// Takes the greeting, first thing on the connection.
    #[track_caller]
    fn greeted(mut client: Client) -> Guest {
        let (text, mut descriptors) = client.recv_greeting();
        assert_eq!(String::from_utf8_lossy(&text), "doorward 1\n");
        assert_eq!(descriptors.len(), 1, "the end of the notification socket");
        let events = Client::from(descriptors.remove(0));
        Guest { client, events }
    }

    #[track_caller]
    fn ask(&mut self, line: &str) -> String {
        self.client.send(format!("{line}\n").as_bytes());
        self.client.read_line()
    }
}

/// What every backend answers, whoever started it and however it was reached: two users, of whom one hears of what the other sets.
#[track_caller]
fn converse(connect: impl Fn(u32) -> Client) {
    let mut listening = Guest::greeted(connect(1000));
    let mut setting = Guest::greeted(connect(1001));
    let me = listening.ask("whoami");
    assert!(me.starts_with("ok uid=1000 gid=1000 pid="), "{me}");
    assert!(me.ends_with(" groups=7,1000"), "{me}");

    assert_eq!(listening.ask("get lamp"), "none");
    assert_eq!(listening.ask("watch lamp"), "ok");
    assert_eq!(setting.ask("set other 1"), "ok", "of which nobody is told");
    assert_eq!(setting.ask("set lamp on and bright"), "ok");
    assert_eq!(
        listening.events.read_line(),
        "changed lamp 1001 on and bright"
    );
    assert_eq!(listening.ask("get lamp"), "ok on and bright");
    assert_eq!(listening.ask("set lamp off"), "error not yours");
    setting.events.assert_open();

    // Itself is told as well.
    assert_eq!(setting.ask("watch lamp"), "ok");
    assert_eq!(setting.ask("set lamp off"), "ok");
    for guest in [&mut listening, &mut setting] {
        assert_eq!(guest.events.read_line(), "changed lamp 1001 off");
    }

    for (line, answer) in [
        ("dance", "error unknown command"),
        ("get", "error unknown command"),
        ("set lamp", "error unknown command"),
        ("get lamp now", "error unknown command"),
        ("set b\u{e4}d 1", "error not a key"),
        ("get  lamp", "error not a key"),
        ("set lamp \u{1b}[2J", "error control characters"),
    ] {
        assert_eq!(setting.ask(line), answer, "{line:?}");
    }
    assert_eq!(
        setting.ask(&format!("get {}", "k".repeat(65))),
        "error not a key"
    );

    assert_eq!(setting.ask("quit"), "ok");
    setting.client.assert_closed();
    setting.events.assert_closed();
    assert_eq!(listening.ask("get lamp"), "ok off", "the others stay");
}

//! The example of privileges without setuid, as an administrator installs it: operators restart one service, and nobody
//! else anything. The callers are real users inside, with groups of the system's own making.

mod hostile;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::support::neighbour::project;
use crate::support::{Systemd, eventually_some, inspect};

/// A member of `operators`, which is none of its primary groups.
const OPERATOR: &str = "dw-operator";
const STRANGER: &str = "dw-stranger";

/// What is installed.
const FILES: [&str; 4] = [
    "units/doorward-restart@.socket",
    "units/doorward-restart@.service",
    "contrib/call/restart-unit",
    "contrib/call/restart",
];

/// The commands of the README that install it.
fn installation() -> String {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let blocks = readme.split("\n\n");
    let is_it = |block: &&str| block.starts_with("    ") && block.contains("restart-unit");
    blocks.filter(is_it).collect::<Vec<_>>().join("\n")
}

/// The system with the users, and all installed as the README says.
fn prepared() -> &'static Systemd {
    static ONCE: OnceLock<()> = OnceLock::new();
    let systemd = Systemd::boot();
    ONCE.get_or_init(|| {
        for user in [OPERATOR, STRANGER] {
            systemd.run(["useradd", "--user-group", "--no-create-home", user]);
        }
        for file in FILES {
            systemd.put(&project().join(file), &format!("/run/dwr-source/{file}"));
        }
        let commands = installation().replace("alice", OPERATOR);
        let _alone = systemd.without_reloads();
        systemd.run(["sh", "-ec", &format!("cd /run/dwr-source\n{commands}")]);
    });
    systemd
}

/// What is restarted, and the pair of units that lets operators do so.
struct Thing {
    systemd: &'static Systemd,
    name: &'static str,
}

impl Thing {
    /// It runs, and its door is open. Its start waits while there is a file `hold`, and fails while there is one
    /// `broken`.
    fn new(name: &'static str, drop_ins: &[(&str, &str)]) -> Thing {
        let systemd = prepared();
        let thing = Thing { systemd, name };
        for (kind, text) in drop_ins {
            let drop_in = format!("doorward-restart@{name}.{kind}.d/test.conf");
            systemd.install(&drop_in, text);
        }
        thing.service(name);
        systemd.start_unit(&thing.door("socket"));
        thing
    }

    /// A service, started.
    fn service(&self, name: &str) {
        let hold = self.flag("hold");
        let broken = self.flag("broken");
        let text = format!(
            "[Service]\nExecStartPre=/bin/sh -c 'while [ -e {hold} ]; do sleep 0.05; done; [ ! -e {broken} ]'\n\
             ExecStart=/bin/sleep infinity\n"
        );
        self.systemd.install(&format!("{name}.service"), &text);
        self.systemd.start_unit(&format!("{name}.service"));
    }

    fn flag(&self, what: &str) -> String {
        format!("/run/{}-{what}", self.name)
    }

    fn unit(&self) -> String {
        format!("{}.service", self.name)
    }

    fn door(&self, kind: &str) -> String {
        format!("doorward-restart@{}.{kind}", self.name)
    }

    fn socket(&self) -> String {
        format!("/run/doorward/restart/{}.sock", self.name)
    }

    /// Which run of the thing this is.
    fn run(&self) -> String {
        self.systemd.show(&self.unit(), "InvocationID")
    }

    /// `doorward call WORDS` of a user's, behind `before`.
    fn calling(&self, user: &str, before: &[&str], words: &[&str]) -> Command {
        let call = ["doorward", "call", "--server", "user:root"];
        self.command(user, &[before, &call, &[&self.socket()], words].concat())
    }

    fn command(&self, user: &str, words: &[&str]) -> Command {
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        let become_user = ["setpriv", &uid, &gid, "--init-groups", "--"];
        let mut command = self.systemd.enter(become_user.iter().chain(words));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn called(&self, user: &str, words: &[&str]) -> Called {
        Called::of(self.calling(user, &[], words).output().unwrap())
    }

    /// Waits for the one line of the door's journal.
    fn wait_journal(&self, text: &str) -> String {
        self.systemd.wait_journal(&self.door("service"), text)
    }

    fn doorward(&self) -> i32 {
        let service = self.door("service");
        eventually_some("doorward", || self.systemd.main_pid(&service))
    }

    /// The systemctl that waits for the thing's restart.
    fn systemctl(&self) -> i32 {
        let is_it = |&pid: &i32| inspect::status_line(pid, "Name").as_deref() == Some("systemctl");
        eventually_some("systemctl", || {
            let all = inspect::descendants(self.doorward());
            all.into_iter().find(is_it)
        })
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        for flag in ["hold", "broken"] {
            let _ = fs::remove_file(self.systemd.path(self.flag(flag)));
        }
        let (socket, service) = (self.door("socket"), self.door("service"));
        let units = ["stop", &socket, &service, &self.unit()];
        let _ = self.systemd.systemctl(&units);
    }
}

/// A call that has ended.
struct Called {
    code: Option<i32>,
    output: String,
    errors: String,
}

impl Called {
    fn of(output: Output) -> Called {
        Called {
            code: output.status.code(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn assert(&self, code: i32, words: &str) {
        let errors = &self.errors;
        assert_eq!(self.code, Some(code), "{errors}");
        assert!(errors.contains(words), "{words:?} is not in: {errors}");
    }
}

/// `id -u` inside.
fn uid(user: &str) -> String {
    prepared().run(["id", "-u", user]).trim().to_owned()
}

#[test]
fn an_operator_restarts_the_thing_and_the_journal_says_who_it_was() {
    need_systemd!();
    let thing = Thing::new("web", &[]);
    let mut before = thing.run();
    for words in [
        &["restart", thing.name][..],
        &["doorward", "call", &thing.socket()],
    ] {
        let called = Called::of(thing.command(OPERATOR, words).output().unwrap());
        called.assert(0, "");
        assert_eq!(called.output + &called.errors, "", "it is done: no words");
        let after = thing.run();
        assert_ne!(after, before, "another run of the thing");
        assert_eq!(thing.systemd.show(&thing.unit(), "ActiveState"), "active");
        before = after;
    }
    let user = format!("user={}", uid(OPERATOR));
    thing.wait_journal(&format!("doorward: call {user} "));
    let end = thing.wait_journal("doorward: end ");
    assert!(end.contains(&user) && end.contains("status=0"), "{end}");
}

#[test]
fn nobody_else_restarts_anything() {
    need_systemd!();
    let thing = Thing::new("dwr-closed", &[]);
    let before = thing.run();
    // The socket keeps a stranger from even starting the service; root passes there and is no operator.
    thing.called(STRANGER, &[]).assert(111, "Permission denied");
    let service = thing.door("service");
    assert_eq!(thing.systemd.show(&service, "ActiveState"), "inactive");
    let root = thing.called("root", &[]);
    root.assert(1, "not you, or not now");
    let denied = thing.wait_journal("doorward: deny user=0 ");
    assert!(denied.contains("reason=rule"), "{denied}");
    assert_eq!(thing.run(), before);
}

#[test]
fn with_the_socket_open_to_all_the_rule_refuses_and_logs_a_stranger() {
    need_systemd!();
    let open = ("socket", "[Socket]\nSocketMode=0666\n");
    let thing = Thing::new("dwr-open", &[open]);
    let before = thing.run();
    let stranger = thing.called(STRANGER, &[]);
    stranger.assert(1, "not you, or not now");
    assert_eq!(stranger.output, "");
    let denied = thing.wait_journal(&format!("doorward: deny user={} ", uid(STRANGER)));
    assert!(denied.contains("reason=rule"), "{denied}");
    assert_eq!(thing.run(), before);
    thing.called(OPERATOR, &[]).assert(0, "");
    assert_ne!(thing.run(), before);
}

#[test]
fn a_restart_that_fails_is_told_as_systemctl_tells_it() {
    need_systemd!();
    let thing = Thing::new("dwr-broken", &[]);
    thing.systemd.write(&thing.flag("broken"), "");
    let failed = thing.called(OPERATOR, &[]);
    failed.assert(1, "Job for dwr-broken.service failed");
    assert!(!failed.errors.contains("not you"), "{}", failed.errors);
    let end = thing.wait_journal("doorward: end ");
    assert!(end.contains("status=1"), "{end}");

    let unit = thing.systemd.path("/run/systemd/system/dwr-broken.service");
    fs::remove_file(unit).unwrap();
    thing
        .systemd
        .run(["systemctl", "reset-failed", &thing.unit()]);
    thing.systemd.run(["systemctl", "daemon-reload"]);
    let missing = thing.called(OPERATOR, &[]);
    missing.assert(5, "Unit dwr-broken.service not found");
}

//! Which of a caller's variables reach the program.

use std::fs;

use super::{answer, call, report};
use crate::support::{Door, Report, Served, probe};

fn server(door: Door, options: &[&str]) -> Served {
    answer(door, options, [probe()])
}

/// What the program of a caller with these variables finds.
#[track_caller]
fn with(server: &Served, variables: &[(&str, &str)]) -> Report {
    let mut call = call(&server.socket(), &[]);
    for (name, value) in variables {
        call = call.env(name, value);
    }
    report(call)
}

#[test]
fn the_server_decides_by_what_is_set_and_empty_or_by_name() {
    let door = Door::new()
        .env("OFFERED", "")
        .env("UNUSED", "")
        .env("OWN", "kept");
    let server = server(door, &["--pass-env", "NAMED", "--pass-env", "NAMED_TOO"]);
    let sent = [
        ("OFFERED", "a=b\nc"),
        ("OWN", "x"),
        ("NAMED", "d"),
        ("NAMED_TOO", ""),
        ("ELSE", "x"),
    ];
    let report = with(&server, &sent);
    let env = |name| report.env(name);
    assert_eq!(env("OFFERED").as_deref(), Some("a=b\nc"));
    assert_eq!(env("UNUSED").as_deref(), Some(""));
    assert_eq!(env("OWN").as_deref(), Some("kept"));
    assert_eq!(env("NAMED").as_deref(), Some("d"));
    assert_eq!(env("NAMED_TOO").as_deref(), Some(""));
    assert_eq!(env("ELSE"), None);
    // What doorward says of the caller is there, and what it says of its own affairs is not.
    assert_eq!(
        env("IPCREMOTEEUID"),
        Some(nix::unistd::geteuid().to_string())
    );
    assert!(
        !report
            .env_names()
            .iter()
            .any(|name| name.starts_with("DOORWARD_RULE"))
    );
}

/// The list of the contract, with one name for each pattern.
const NEVER: [&str; 22] = [
    "PROTO",
    "IPCREMOTEEUID",
    "IPCREMOTEEGID",
    "IPCREMOTEGROUPS",
    "IPCREMOTEPID",
    "IPCREMOTEPATH",
    "IPCLOCALPATH",
    "IPCCONNNUM",
    "IPCANYTHING",
    "REMOTE_ADDR",
    "NOTIFYFD",
    "PIDFD",
    "HANDOFF",
    "HANDOFF_FDS",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
    "DOORWARD_RULE_NAMES",
];

#[test]
fn nothing_that_doorward_says_ever_comes_from_a_caller() {
    let door = Door::new()
        .args(["--proto", "UNIX"])
        .env("UNIXANYTHING", "");
    // All set and empty where answer starts, which offers everything else.
    let again: Vec<String> = NEVER.iter().map(|name| format!("{name}=")).collect();
    let mut words: Vec<String> = vec!["env".into()];
    words.extend(again.into_iter().filter(|word| word != "PROTO="));
    words.push(crate::support::doorward().display().to_string());
    words.push("answer".into());
    words.push(probe().display().to_string());
    let server = door.args(["--mode", "0666"]).serve(words);
    let mut sent: Vec<(&str, &str)> = NEVER.iter().map(|name| (*name, "forged")).collect();
    sent.extend([
        ("UNIXREMOTEPATH", "forged"),
        ("UNIXREMOTEEUID", "forged"),
        ("UNIXANYTHING", "forged"),
    ]);
    // call itself would leave those out that were meant for it alone: they go by a request made by hand.
    let report = by_hand(&server, &sent);
    for (name, _) in sent {
        assert_ne!(report.env(name).as_deref(), Some("forged"), "{name}");
    }
    assert_eq!(report.env("PROTO").as_deref(), Some("UNIX"));
}

/// The same with a request that no `call` has made.
fn by_hand(server: &Served, variables: &[(&str, &str)]) -> Report {
    use std::os::fd::AsFd;
    let entries: Vec<Vec<u8>> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}").into_bytes())
        .collect();
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let mut caller = super::request::caller(server);
    let path = server.path("report");
    let output = fs::File::create(&path).unwrap();
    let setting: &[u8] = b"DESCRIPTORS=stdout";
    let message = super::request::request(&[setting], &[b"report", b"1"], &entries);
    caller.send_fds(&message, &[output.as_fd()]);
    assert_eq!(super::request::answer(&mut caller), ('S', 0));
    assert_eq!(super::request::answer(&mut caller), ('E', 0));
    Report::parse(fs::read(&path).unwrap())
}

#[test]
fn what_a_rule_has_touched_never_comes_from_a_caller() {
    need!(root);
    let door = Door::new()
        .env("OFFERED", "")
        .env("GONE", "")
        .env("ROLE", "");
    let rule = door.path("rules/uid/default");
    fs::create_dir_all(rule.join("env")).unwrap();
    fs::write(rule.join("allow"), "").unwrap();
    // Set to nothing, set, and removed.
    fs::write(rule.join("env/ROLE"), "\n").unwrap();
    fs::write(rule.join("env/GIVEN"), "by rule\n").unwrap();
    fs::write(rule.join("env/GONE"), "").unwrap();
    let rules = door.path("rules").display().to_string();
    let named = [
        "--pass-env",
        "ROLE",
        "--pass-env",
        "GIVEN",
        "--pass-env",
        "GONE",
    ];
    let server = server(door.args(["--rules", &rules]), &named);
    let sent = [
        ("ROLE", "forged"),
        ("GIVEN", "forged"),
        ("GONE", "forged"),
        ("OFFERED", "mine"),
        ("DOORWARD_RULE_NAMES", ""),
    ];
    let report = with(&server, &sent);
    let env = |name| report.env(name);
    assert_eq!(env("ROLE").as_deref(), Some(""));
    assert_eq!(env("GIVEN").as_deref(), Some("by rule"));
    assert_eq!(env("GONE"), None);
    assert_eq!(env("OFFERED").as_deref(), Some("mine"));
    assert_eq!(env("DOORWARD_RULE_NAMES"), None);
}

#[test]
fn what_changes_what_is_run_passes_by_name_alone() {
    let names = [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "IFS",
        "BASH_ENV",
        "ENV",
        "PYTHONPATH",
        "PERL5LIB",
    ];
    let mut door = Door::new();
    for name in names {
        door = door.env(name, "");
    }
    let offered = server(door, &[]);
    let sent: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (*name, "/nonsense"))
        .chain([("PATH", "/usr/bin:/forged")])
        .collect();
    let report = with(&offered, &sent);
    for name in names {
        assert_eq!(report.env(name).as_deref(), Some(""), "{name}");
    }
    assert!(!report.env("PATH").unwrap().contains("forged"));
    // That is the server's own decision.
    let named = server(
        Door::new(),
        &["--pass-env", "BASH_ENV", "--pass-env", "PATH"],
    );
    let report = with(&named, &sent);
    assert_eq!(report.env("BASH_ENV").as_deref(), Some("/nonsense"));
    assert_eq!(report.env("PATH").as_deref(), Some("/usr/bin:/forged"));
    assert_eq!(report.env("LD_LIBRARY_PATH"), None);
}

#[test]
fn of_two_values_the_first_counts() {
    let server = server(Door::new(), &["--pass-env", "TWICE"]);
    let report = by_hand(&server, &[("TWICE", "first"), ("TWICE", "second")]);
    assert_eq!(report.env("TWICE").as_deref(), Some("first"));
}

#[test]
fn no_environment_is_sent_where_none_is_wanted() {
    let server = server(Door::new(), &["--pass-env", "SECRET"]);
    let quiet = report(call(&server.socket(), &["--no-env"]).env("SECRET", "x"));
    assert_eq!(quiet.env("SECRET"), None);
    assert_eq!(
        with(&server, &[("SECRET", "x")]).env("SECRET").as_deref(),
        Some("x")
    );
}

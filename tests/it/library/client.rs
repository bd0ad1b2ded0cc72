//! `client::Service`: the same service, started here and reached through doorward.

use crate::support::{Door, Report, probe};
use doorward::client::{Error, Service};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;

fn report(service: &mut Service) -> Report {
    let mut text = Vec::new();
    service.connection.read_to_end(&mut text).expect("a report");
    Report::parse(text)
}

fn of_the_connection(report: &Report) -> BTreeMap<String, Option<String>> {
    let ours = [
        "IPC", "PROTO", "NOTIFY", "REMOTE", "LISTEN", "HANDOFF", "PIDFD",
    ];
    report
        .env_names()
        .into_iter()
        .filter(|name| ours.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| {
            let value = report.env(&name);
            (name, value)
        })
        .collect()
}

#[test]
fn a_service_that_is_started_finds_what_one_behind_doorward_finds() {
    let command: [&OsStr; 3] = [probe().leak().as_os_str(), "report".as_ref(), "7".as_ref()];
    let door = Door::new().args(["--notify"]).serve(command);
    let behind = report(&mut Service::connect(door.socket()).expect("connect"));
    let mut service = Service::spawn(command).expect("spawn");
    let started = report(&mut service);

    let (mut theirs, ours) = (of_the_connection(&behind), of_the_connection(&started));
    // No path leads to it.
    let path = theirs.insert("IPCLOCALPATH".into(), Some(String::new()));
    assert_eq!(path.flatten().as_deref(), door.socket().to_str());
    assert_eq!(ours, theirs);
    assert_eq!(started.argv(), behind.argv());
    assert_eq!(started.number("pid"), started.number("pgid"));
    assert_eq!(Some(started.number("pid").unsigned_abs()), service.pid());
    for set in ["blocked", "ignored", "caught"] {
        assert_eq!(started.get(set), behind.get(set), "{set}");
    }
    let sockets = |report: &Report| -> Vec<(i32, String)> {
        let fds = report.fds().into_iter();
        // 1 and 2 are the parent's own.
        fds.filter(|(number, _)| !(1..=2).contains(number))
            .map(|(number, fd)| (number, fd.socket))
            .collect()
    };
    assert_eq!(sockets(&started), sockets(&behind));
    assert_eq!(started.fds()[&0].link, "/dev/null");
    assert_eq!(started.fd_numbers(), [0, 1, 2, 6, 7, 8]);
    assert!(service.end().expect("end").expect("started here").success());
}

#[test]
fn a_refusal_comes_in_the_words_of_the_door() {
    let door = Door::new()
        .args(["--notify", "--deny", "all", "--deny-text", "not today"])
        .serve(["sleep", "1"]);
    let result = Service::connect(door.socket());
    assert!(
        matches!(&result, Err(Error::Refused(text)) if text == "not today"),
        "{result:?}"
    );
}

#[test]
fn a_path_of_any_length_and_an_abstract_name_lead_to_a_service() {
    let door = Door::new();
    let deep = door.path(&"d".repeat(120));
    std::fs::create_dir(&deep).expect("mkdir");
    let far = deep.join("socket");
    let name = format!("@doorward-it-{}", std::process::id());
    let door = door
        .bind(&far)
        .args(["--notify", "--bind", &name])
        .serve(["true"]);
    for path in [far.as_os_str(), name.as_ref()] {
        Service::connect(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }
    drop(door);
    let result = Service::connect(&far);
    assert!(matches!(result, Err(Error::System(..))), "{result:?}");
}

//! What people read, compared with the program: options, exit codes, descriptors and variables in the man page, and the
//! options in the README.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::connect::{connect, report as report_of, script};
use crate::support::neighbour::project;
use crate::support::{Door, Report, Scratch, User, doorward, probe};

/// An entry of the man page: what stands behind `.TP`, and what is said of it.
struct Entry {
    tag: String,
    body: String,
}

/// The commands that there are.
const COMMANDS: [&str; 12] = [
    "spawn",
    "handoff",
    "activate",
    "admit",
    "bind",
    "connect",
    "relay",
    "call",
    "answer",
    "rules check",
    "rules compile",
    "rules dump",
];

fn page() -> String {
    fs::read_to_string(project().join("man/doorward.1")).unwrap()
}

/// What stands between the heading `from` and the next of its kind or above.
#[track_caller]
fn section(from: &str) -> String {
    let page = page();
    let mut lines = page.lines().skip_while(|line| *line != from);
    assert!(lines.next().is_some(), "no {from} in the man page");
    let ends = |line: &&str| {
        line.starts_with(".SH") || (from.starts_with(".SS") && line.starts_with(".SS"))
    };
    let lines: Vec<&str> = lines.take_while(|line| !ends(line)).collect();
    format!("\n{}", lines.join("\n"))
}

fn entries(section: &str) -> Vec<Entry> {
    let entries = section.split("\n.TP\n").skip(1).map(|entry| {
        let entry = entry
            .split("\n.PP")
            .next()
            .unwrap_or_default()
            .split("\n.SS")
            .next()
            .unwrap_or_default();
        let (tag, body) = entry.split_once('\n').unwrap_or((entry, ""));
        Entry {
            tag: plain(tag),
            body: plain(body),
        }
    });
    entries.collect()
}

/// The text without its markup.
fn plain(text: &str) -> String {
    let text = text
        .replace("\\-", "-")
        .replace("\\fR", "")
        .replace("\\fP", "");
    let lines = text.lines().map(|line| match line.split_once(' ') {
        Some((macro_, rest)) if macro_.starts_with('.') => rest.replace('"', ""),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// `--option` and `-o`, wherever they stand in `text`.
fn options(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c: char| !is_word(c));
    words
        .filter(|word| match word.strip_prefix("--") {
            Some(name) => name.starts_with(|c: char| c.is_ascii_alphabetic()),
            None => word.len() == 2 && word.starts_with('-') && *word != "--",
        })
        .map(str::to_owned)
        .collect()
}

fn numbers(text: &str) -> BTreeSet<i32> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(doorward()).args(arguments).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The help of a command, or of a part of one.
fn help_of(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
    help(&words)
}

/// The options that `--help` lists (its lines that begin with one).
fn options_of_help() -> BTreeSet<String> {
    let help = COMMANDS.map(help_of).concat() + &help(&["--help"]);
    let tags = help.lines().filter(|line| line.trim().starts_with('-'));
    tags.flat_map(|line| options(line.split(" <").next().unwrap_or(line)))
        .collect()
}

#[test]
fn every_option_stands_in_the_man_page_and_no_other() {
    let told = entries(&section(".SH OPTIONS"));
    let told: BTreeSet<String> = told.iter().flat_map(|entry| options(&entry.tag)).collect();
    assert!(told.len() > 20, "{told:?}");
    assert_eq!(told, options_of_help());
}

#[test]
fn every_option_that_the_page_or_the_readme_speaks_of_exists() {
    // Options of other programs that the examples run.
    let foreign = [
        "--accept",
        "--also",
        "--batch",
        "--clear-groups",
        "--install",
        "--line-buffered",
        "--now",
        "--quick",
        "--regid",
        "--release",
        "--reuid",
        "--target",
    ];
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let known = options_of_help();
    for (text, what) in [(plain(&page()), "doorward.1"), (readme, "README.md")] {
        let unknown: Vec<String> = options(&text)
            .into_iter()
            .filter(|option| option.starts_with("--"))
            .filter(|option| !known.contains(option) && !foreign.contains(&option.as_str()))
            .collect();
        assert_eq!(unknown, [""; 0], "{what}");
    }
}

#[test]
fn defaults_of_the_man_page_are_those_of_the_help() {
    let help = COMMANDS.map(help_of).concat();
    let mut compared = 0;
    for entry in entries(&section(".SH OPTIONS")) {
        let Some(option) = entry.tag.split(' ').next() else {
            continue;
        };
        let begins = format!("      {option} ");
        let Some(lines) = help.split(&begins).nth(1) else {
            continue;
        };
        let own = lines.split("\n      -").next().unwrap_or(lines);
        let default = own.split("[default: ").nth(1);
        let number = default.and_then(|text| text.split(']').next()?.parse::<u32>().ok());
        if let Some(number) = number {
            let told = format!("Default: {number}");
            assert!(entry.body.contains(&told), "{option}: {}", entry.body);
            compared += 1;
        }
    }
    assert!(compared >= 3, "--max, --grace and --ahead have numbers");
}

#[test]
fn exit_status_is_what_the_page_and_the_help_say() {
    let told: BTreeSet<i32> = entries(&section(".SH EXIT STATUS"))
        .iter()
        .flat_map(|entry| numbers(&entry.tag))
        .collect();
    let mut helped = BTreeSet::new();
    for command in COMMANDS {
        let help = help_of(command);
        helped.extend(numbers(help.split("Exit status: ").nth(1).unwrap()));
    }
    assert_eq!(told, helped);

    let occupied = Door::new();
    fs::write(occupied.path("s"), "").unwrap();
    let not_executable = Door::new();
    let plain = not_executable.path("plain");
    fs::write(&plain, "").unwrap();
    let mut seen = BTreeSet::from([
        Door::new().no_bind().fails(["true"]).code(),
        occupied.fails(["true"]).code(),
        not_executable.fails([plain]).code(),
        Door::new().fails(["/nowhere/at/all"]).code(),
        Door::new().serve(["true"]).stop().code().unwrap(),
    ]);
    let scratch = Scratch::new();
    let listening = UnixListener::bind(scratch.path("s")).unwrap();
    let impatient = ["--notify", "--connect-timeout", "0.1"];
    seen.insert(
        connect(&scratch.path("s"), impatient)
            .fails(["true"])
            .code(),
    );
    drop(listening);
    let closed = Door::new()
        .args(["--notify", "--deny", "all"])
        .serve(["true"]);
    seen.insert(
        connect(&closed.socket(), ["--notify"])
            .fails(["true"])
            .code(),
    );
    // Nothing known brings doorward to say that it has a bug.
    seen.insert(101);
    assert_eq!(seen, told);
}

/// A child's report with `--notify` and `--pidfd`, its client bound to a path.
fn report(layout: &str, out: &str) -> Report {
    let door = Door::new()
        .args(["--notify", "--pidfd", "--layout", layout])
        .serve([probe().as_os_str(), "report".as_ref(), out.as_ref()]);
    let mut client = door.dial().bound_to(door.path("client")).connect();
    client.recv_greeting();
    Report::parse(client.read_text())
}

#[test]
fn descriptors_of_a_child_are_those_of_the_man_page() {
    let told = entries(&section(".SS \"Of a child\""));
    let of = |tag: &str| {
        let entry = told.iter().find(|entry| entry.tag == tag);
        numbers(&entry.unwrap_or_else(|| panic!("no entry {tag}")).body)
    };
    for (layout, out) in [("ucspi", "7"), ("inetd", "1"), ("systemd", "3")] {
        let mut numbers = of(&format!("--layout {layout}"));
        assert!(numbers.insert(8) && numbers.insert(9), "{layout}");
        assert_eq!((of("--notify"), of("--pidfd")), ([8].into(), [9].into()));
        let open: BTreeSet<i32> = report(layout, out).fd_numbers().into_iter().collect();
        assert_eq!(open, numbers, "{layout}");
    }
}

#[test]
fn what_the_program_of_connect_gets_is_what_the_man_page_says() {
    let server = Door::new().args(["--notify"]).serve(["sleep", "60"]);
    let report = report_of(connect(&server.socket(), ["--notify"]));
    let told = entries(&section(".SS \"Of the program of doorward connect\""));
    let told: BTreeSet<i32> = told.iter().flat_map(|entry| numbers(&entry.body)).collect();
    let open: BTreeSet<i32> = report.fd_numbers().into_iter().collect();
    assert_eq!(open, told);
    let told: BTreeSet<String> =
        entries(&section(".SS \"Set for the program of doorward connect\""))
            .iter()
            .map(|entry| entry.tag.trim().to_owned())
            .collect();
    let mut set: BTreeSet<String> = report.env_names().into_iter().collect();
    set.retain(|name| name != "PATH" && !name.starts_with("DOORWARD_TEST"));
    assert_eq!(set, told);
}

#[test]
fn variables_of_a_child_are_those_of_the_man_page() {
    need!(root);
    let told: BTreeSet<String> = entries(&section(".SS \"Set for a child\""))
        .iter()
        .flat_map(|entry| entry.tag.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    let mut set: BTreeSet<String> = report("systemd", "3").env_names().into_iter().collect();
    // The one that takes the place of another.
    let door = Door::new().args(["--mode", "0666"]).serve([
        probe().as_os_str(),
        "report".as_ref(),
        "7".as_ref(),
    ]);
    let many = User::new(4711, 4711).groups(1_000_000..1_002_000);
    let crowded = Report::parse(door.connect_as(&many).read_text());
    set.extend(crowded.env_names());
    // The one that a rule with variables brings.
    let door = Door::new();
    let rule = door.path("rules/uid/default");
    fs::create_dir_all(rule.join("env")).unwrap();
    fs::write(rule.join("allow"), "").unwrap();
    fs::write(rule.join("env/PATH"), "/bin\n").unwrap();
    let rules = door.path("rules").display().to_string();
    let door = door.args(["--rules", &rules]).serve([
        probe().as_os_str(),
        "report".as_ref(),
        "7".as_ref(),
    ]);
    let ruled = Report::parse(door.connect().read_text());
    set.extend(ruled.env_names());
    // The environment that the test gives to doorward.
    set.retain(|name| name != "PATH" && !name.starts_with("DOORWARD_TEST"));
    assert_eq!(set, told);
}

#[test]
fn the_ten_lines_of_the_readme_are_a_backend() {
    need!("python3");
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let lines = readme.split("```python\n#!").nth(1).unwrap();
    let lines = lines.split("```").next().unwrap();
    let door = Door::new().command("handoff");
    let module = project().join("contrib/backends/python/doorward_backend.py");
    fs::copy(module, door.path("doorward_backend.py")).unwrap();
    let backend = door.script("who.py", &format!("#!{lines}"));
    let door = door.env("PYTHONDONTWRITEBYTECODE", "1").serve([backend]);
    let said = script(
        connect(&door.socket(), ["--notify", "--connect-timeout", "20"]),
        "cat <&6; cat <&8",
    );
    let me = User::me().uid;
    assert_eq!(
        said,
        [format!("you are user {me}"), "that was all".to_owned()]
    );
}

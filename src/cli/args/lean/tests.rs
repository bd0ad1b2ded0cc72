//! The lean way and clap's, side by side.
#![forbid(unsafe_code)]

use super::super::{command, parse_with_clap, plainly_right};
use clap::{Arg, ArgAction, FromArgMatches as _};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// As text, what the lean way makes of a line, if anything. A line that it leaves to clap must be left as it was.
fn read_leanly(line: &[OsString]) -> Option<String> {
    let mut words = line.to_vec();
    let read = plainly_right(&mut words).map(|command| format!("{command:?}"));
    if read.is_none() {
        assert_eq!(words, line);
    }
    read
}

/// As text, what clap makes of a line; a parser is made once for many.
fn read_with_clap(clap: &mut clap::Command, line: &[OsString]) -> Result<String, clap::Error> {
    let mut matches = clap.try_get_matches_from_mut(line)?;
    let arguments = super::super::Arguments::from_arg_matches_mut(&mut matches)?;
    Ok(format!("{:?}", arguments.command))
}

#[track_caller]
fn assert_same(line: &[OsString]) {
    let with_clap = parse_with_clap(line).map(|arguments| format!("{:?}", arguments.command));
    assert_eq!(read_leanly(line), with_clap.ok(), "{line:?}");
}

#[track_caller]
fn assert_lean(line: &[&str]) {
    let line = words(line);
    assert!(read_leanly(&line).is_some(), "left to clap: {line:?}");
    assert_same(&line);
}

#[track_caller]
fn assert_left_to_clap(line: &[OsString]) {
    assert_eq!(read_leanly(line), None, "{line:?}");
}

/// The commands as clap has them; those of `rules` are its alone.
fn lean_commands() -> Vec<clap::Command> {
    let all = command();
    let lean = all
        .get_subcommands()
        .filter(|one| one.get_name() != "rules");
    lean.cloned().collect()
}

fn options(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional())
}

fn takes_value(option: &Arg) -> bool {
    !matches!(option.get_action(), ArgAction::SetTrue)
}

/// Every value that an option may have, where they are words; else one that it can have.
fn values(option: &Arg) -> Vec<String> {
    let words = option.get_possible_values();
    if takes_value(option) && !words.is_empty() {
        return words
            .iter()
            .map(|word| word.get_name().to_owned())
            .collect();
    }
    let name = option.get_value_names().and_then(|names| names.first());
    let value = if name.is_some_and(|name| name == "N") {
        "70"
    } else {
        "some-word"
    };
    vec![value.to_owned()]
}

/// What may follow the options of `command` where `option` is among them.
fn operands(command: &clap::Command, option: &str) -> &'static [&'static str] {
    match (command.get_name(), option) {
        ("relay", _) | ("handoff", "backend") => &[],
        _ => &["a", "b"],
    }
}

#[test]
fn every_option_of_every_command_is_known() {
    for command in lean_commands() {
        for option in options(&command) {
            let long = option.get_long().unwrap();
            let rest = operands(&command, long);
            let assert = |words: &[&str]| {
                assert_lean(&[&["doorward", command.get_name()], words, rest].concat());
            };
            if takes_value(option) {
                for value in values(option) {
                    assert(&[&format!("--{long}"), &value]);
                    assert(&[&format!("--{long}={value}")]);
                    assert(&[&format!("--{long}"), &value, "--"]);
                }
            } else {
                assert(&[&format!("--{long}")]);
                if let Some(short) = option.get_short() {
                    assert(&[&format!("-{short}")]);
                }
            }
        }
    }
}

#[test]
fn all_options_together_are_known() {
    for command in lean_commands() {
        let mut line = words(&["doorward", command.get_name()]);
        for option in options(&command).filter(|option| option.get_id() != "backend") {
            line.push(format!("--{}", option.get_long().unwrap()).into());
            if takes_value(option) {
                line.push(values(option).remove(0).into());
            }
        }
        line.extend(words(operands(&command, "")));
        assert!(read_leanly(&line).is_some(), "{line:?}");
        assert_same(&line);
    }
}

#[test]
fn what_follows_the_options_is_kept_as_it_is() {
    for command in lean_commands()
        .iter()
        .map(clap::Command::get_name)
        .filter(|name| *name != "relay")
    {
        assert_lean(&[
            "doorward", command, "a", "--", "-q", "--bind", "x", "--help",
        ]);
        assert_lean(&["doorward", command, "--", "--", "--help", "-"]);
        assert_lean(&["doorward", command, "--", "-q", ""]);
        assert_lean(&["doorward", command, "", "--no-such-option"]);
    }
    let mut line = words(&["doorward", "admit", "-q", "a"]);
    line.push(OsString::from_vec(b"\xff".to_vec()));
    assert!(read_leanly(&line).is_some());
    assert_same(&line);
}

#[test]
fn what_is_wrong_or_only_odd_is_left_to_clap() {
    let wrong: &[&[&str]] = &[
        &[],
        &["doorward"],
        &["doorward", "--help"],
        &["doorward", "--", "admit", "a"],
        &["doorward", "no-such-command", "a"],
        &[
            "doorward", "rules", "check", "--user", "0", "--allow", "all",
        ],
        &["doorward", "admit"],
        &["doorward", "admit", "--"],
        &["doorward", "bind", "path"],
        &["doorward", "relay", "a"],
        &["doorward", "handoff"],
        &["doorward", "handoff", "--backend", "x", "a"],
        &["doorward", "handoff", "--backend", "x", "--workers", "1"],
        &["doorward", "handoff", "--backend", "x", "--lazy"],
    ];
    for line in wrong {
        assert_left_to_clap(&words(line));
    }
    let options: &[&[&str]] = &[
        &["-h"],
        &["--help"],
        &["-V"],
        &["--version"],
        &["-"],
        &["---"],
        &["--="],
        &["-x"],
        &["-q=1"],
        &["-qv"],
        &["-q", "--quiet"],
        &["--quiet", "--quiet"],
        &["--quiet=true"],
        &["--keep_fd", "3"],
        &["--keep-fd", "-1"],
        &["--keep-fd", "4294967296"],
        &["--keep-fd", "three"],
        &["--keep-fd="],
        &["--rules"],
        &["--rules", "x", "--rules=x"],
        &["--rules", "--allow"],
        &["--rul", "x"],
        &["--proto", "IPC", "--proto", "IPC"],
        &["--proto=IPC", "--proto", "X"],
        &["--layout", "Inetd"],
        &["--layout", "inet"],
        &["--deny-text", "--"],
        &["--deny-text", "-x"],
        &["--deny-text", ""],
        &["--prog", "x"],
        &["--in-order", "x"],
        &["--connection", "x"],
    ];
    for options in options {
        assert_left_to_clap(&words(&[&["doorward", "admit"], *options, &["a"]].concat()));
    }
    let bytes = |option: &str| {
        let value = OsString::from_vec([option.as_bytes(), b"=\xff"].concat());
        [words(&["doorward", "admit"]), vec![value, "a".into()]].concat()
    };
    assert_left_to_clap(&bytes("--proto"));
    assert_left_to_clap(&bytes("--\u{e9}"));
    assert!(read_leanly(&bytes("--deny-text")).is_some());
    assert_same(&bytes("--deny-text"));
}

/// xorshift64*, of a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// Words that are right in some places, wrong in others, and odd in most.
const ODD: [&[u8]; 24] = [
    b"",
    b"-",
    b"--",
    b"---",
    b"--=",
    b"-q",
    b"-v",
    b"-qv",
    b"-h",
    b"-V",
    b"--help",
    b"--version",
    b"--no-such-option",
    b"--prog",
    b"--rules",
    b"--allow=all",
    b"--quiet=",
    b"-q=",
    b"\xff",
    b"--\xff",
    b"--proto=\xff",
    b"--bind=\xff",
    b"=",
    b"-1",
];

const VALUES: [&str; 14] = [
    "0",
    "7",
    "+5",
    "007",
    "4294967295",
    "4294967296",
    "stream",
    "inetd",
    "backend",
    "listen",
    "IPC",
    "x=y",
    "a b",
    "",
];

/// One option of `command`, mostly as it should be.
fn push_option(line: &mut Vec<OsString>, command: &clap::Command, random: &mut Random) {
    let all: Vec<&Arg> = options(command).collect();
    let option = random.one(&all);
    let mut word = OsString::from(match (random.below(60), option.get_long().unwrap()) {
        (0, long) => format!("--{}", long.replace('-', "_")),
        (1, long) => format!("--{}", long.to_uppercase()),
        (2, long) => format!("-{long}"),
        (3, long) => format!("--{}", &long[1..]),
        (4, long) => format!("--{}", &long[..long.len() - 1]),
        (_, long) => format!("--{long}"),
    });
    let value = match random.below(8) {
        0 => OsString::from(random.one(&VALUES)),
        1 => OsStr::from_bytes(random.one(&ODD)).to_owned(),
        _ => values(option).swap_remove(0).into(),
    };
    let attached = random.below(4) == 0;
    if takes_value(option) != (random.below(40) == 0) {
        if attached {
            word.push("=");
            word.push(&value);
            line.push(word);
        } else {
            line.extend([word, value]);
        }
    } else {
        line.push(word);
    }
}

#[test]
fn whatever_is_read_leanly_clap_reads_the_same_way() {
    const LINES: usize = 20_000;
    let commands = lean_commands();
    let mut clap = command();
    let mut random = Random(0x6a09_e667_f3bc_c908);
    let mut lean = vec![0; commands.len()];
    for _ in 0..LINES {
        let which = random.below(commands.len());
        let mut line = words(&["doorward", commands[which].get_name()]);
        for _ in 0..random.below(5) {
            // An option of another command is known to this one or not.
            let other = if random.below(20) == 0 {
                random.below(commands.len())
            } else {
                which
            };
            match random.below(10) {
                0 => line.push(OsStr::from_bytes(random.one(&ODD)).to_owned()),
                _ => push_option(&mut line, &commands[other], &mut random),
            }
        }
        if random.below(4) == 0 {
            line.push("--".into());
        }
        for _ in 0..random.below(2 + 2 * operands(&commands[which], "").len()) {
            match random.below(3) {
                0 => line.push(OsStr::from_bytes(random.one(&ODD)).to_owned()),
                1 => push_option(&mut line, &commands[which], &mut random),
                _ => line.push("word".into()),
            }
        }
        if let Some(read) = read_leanly(&line) {
            lean[which] += 1;
            assert_eq!(
                Some(read),
                read_with_clap(&mut clap, &line).ok(),
                "{line:?}"
            );
        }
    }
    // Neither way may have been tried on next to nothing.
    for (command, lean) in commands.iter().zip(lean) {
        let share = lean * 100 * commands.len() / LINES;
        assert!(
            (10..90).contains(&share),
            "{}: {share} %",
            command.get_name()
        );
    }
}

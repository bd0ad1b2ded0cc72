//! `doorward rules`: carries a task out, and tells what a check came to.
#![forbid(unsafe_code)]

use super::open_rules;
use super::plan::{CheckPlan, RulePlan};
use crate::admission::{Change, Form, Peer, RuleName, Rules, Verdict, escaped};
use crate::exit::{self, Unable as _};
use crate::{convert, privileges};
use nix::unistd::{getegid, geteuid};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;

pub(super) fn run(plan: RulePlan) -> exit::Result<u8> {
    match plan {
        RulePlan::Check(plan) => check(plan),
        RulePlan::Compile {
            directory,
            file,
            mode,
        } => convert::compile(&directory, &file, mode).map(|()| 0),
        RulePlan::Dump { file, directory } => convert::dump(&file, &directory).map(|()| 0),
    }
}

/// Asks as a service would: with its credentials, the rules opened by them.
fn check(plan: CheckPlan) -> exit::Result<u8> {
    if let Some(identity) = &plan.run_as {
        privileges::become_identity(identity)?;
    }
    let rules = open_rules::rules(plan.rules)?;
    let peer = Peer {
        uid: Some(plan.peer.uid),
        gid: Some(plan.peer.gid),
        pid: None,
        groups: plan.peer.groups,
    };
    let verdict = rules.judge(&peer);
    let told = tell(plan.name.as_deref(), &peer, &rules, &verdict);
    let mut out = std::io::stdout().lock();
    let written = out.write_all(told.as_bytes()).and_then(|()| out.flush());
    written.unable("write to standard output")?;
    Ok(match verdict {
        Verdict::Allow { .. } => 0,
        Verdict::Deny(_) | Verdict::Failed(_) => exit::REFUSED,
    })
}

/// A paragraph: who was asked about, what becomes of it and why, and what a program would get.
fn tell(name: Option<&str>, peer: &Peer, rules: &Rules, verdict: &Verdict) -> String {
    let mut text = who(name, peer);
    // Writing into a String cannot fail.
    match verdict {
        Verdict::Allow { rule, env, exec } => {
            let _ = writeln!(text, " would be admitted.\n{}", why(rule, rules));
            changes(&mut text, env);
            if let Some(exec) = exec {
                let exec = escaped(exec);
                let _ = writeln!(
                    text,
                    "In place of the program runs execlineb with this text: {exec}"
                );
            }
        }
        Verdict::Deny(rule) => {
            let _ = writeln!(text, " would be refused.\n{}", why(rule, rules));
        }
        Verdict::Failed(cause) => {
            let _ = writeln!(text, " would be refused.\nThe rules failed: {cause}.");
        }
    }
    let (uid, gid) = (geteuid(), getegid());
    let _ = writeln!(
        text,
        "So it is for a service with uid {uid} and gid {gid}, which \"self\" stands for."
    );
    text
}

fn who(name: Option<&str>, peer: &Peer) -> String {
    let number = |id: Option<u32>| id.map_or("unmapped".to_owned(), |id| id.to_string());
    let (uid, gid) = (number(peer.uid), number(peer.gid));
    let name = name.map_or_else(
        || "User".to_owned(),
        |name| format!("User {}", escaped(name.as_bytes())),
    );
    let mut text = format!("{name} (uid {uid}, gid {gid}");
    let others = peer.groups.iter().filter(|group| Some(**group) != peer.gid);
    let others: Vec<String> = others.map(u32::to_string).collect();
    if !others.is_empty() {
        let _ = write!(text, ", groups {}", others.join(", "));
    }
    text.push(')');
    text
}

/// Which rule decides, and where it lies.
fn why(rule: &RuleName, rules: &Rules) -> String {
    match (rule, rules) {
        (RuleName::Key(key), Rules::Stored(stored)) => {
            let path = escaped(stored.path().as_os_str().as_bytes());
            match stored.form() {
                Form::Directory => {
                    format!("The rule {key} decides, in the directory {path}/{key}.")
                }
                Form::File => format!("The rule {key} decides, a record of the file {path}."),
            }
        }
        (_, Rules::Stored(stored)) => {
            let path = escaped(stored.path().as_os_str().as_bytes());
            format!("No rule of {path} matches, and who matches none is refused.")
        }
        (RuleName::Option(who), _) => {
            format!(
                "Of the options it is \"{}\" that matches first.",
                escaped(who.as_bytes())
            )
        }
        _ => "No option matches: with an --allow the others are refused, else they are admitted."
            .to_owned(),
    }
}

/// What the rule does to the environment of the program, by name.
fn changes(text: &mut String, env: &[Change]) {
    let mut sorted: Vec<&Change> = env.iter().collect();
    sorted.sort_unstable();
    for (name, value) in sorted {
        let name = escaped(name);
        let _ = match value {
            Some(value) => writeln!(text, "It sets {name}={}", escaped(value)),
            None => writeln!(text, "It removes {name}."),
        };
    }
}

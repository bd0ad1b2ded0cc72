//! `doorward rules`, understood.
#![forbid(unsafe_code)]

use super::super::args::{Check, Compile, RuleTask};
use super::{RuleSource, mode, rules};
use crate::exit::{Result, wrong_use};
use crate::privileges::{self, Identity};
use crate::report::Escaped;
use std::path::PathBuf;

/// What is to be done with rules.
#[derive(Debug)]
pub(in crate::cli) enum RulePlan {
    Check(CheckPlan),
    Compile {
        directory: PathBuf,
        file: PathBuf,
        mode: u32,
    },
    Dump {
        file: PathBuf,
        directory: PathBuf,
    },
}

/// Whom to ask the rules about.
#[derive(Debug)]
pub(in crate::cli) struct CheckPlan {
    /// Of the account, if there is one.
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) peer: Identity,
    /// Who would serve; else the caller.
    pub(in crate::cli) run_as: Option<Identity>,
    pub(in crate::cli) rules: RuleSource,
}

pub(in crate::cli) fn rule_task(task: RuleTask) -> Result<RulePlan> {
    match task {
        RuleTask::Check(words) => check(&words).map(RulePlan::Check),
        RuleTask::Compile(words) => compile(words),
        RuleTask::Dump(words) => Ok(RulePlan::Dump {
            file: words.file,
            directory: words.directory,
        }),
    }
}

fn check(words: &Check) -> Result<CheckPlan> {
    if let Some(text) = &words.rules.deny_text {
        let text = Escaped(std::os::unix::ffi::OsStrExt::as_bytes(text.as_os_str())).to_string();
        return Err(wrong_use(format!(
            "--deny-text {text} and rules check make no sense together: nobody is connected who could be told"
        )));
    }
    let rules = rules(&words.rules)?;
    if rules == RuleSource::None {
        return Err(wrong_use(
            "rules check needs rules: --rules, or --allow and --deny",
        ));
    }
    let run_as = words.run_as.as_deref();
    let run_as = run_as.map(|text| privileges::identity("--run-as", text));
    let (name, peer) =
        privileges::user_and_group(("--user", &words.user), ("--group", words.group.as_deref()))?;
    Ok(CheckPlan {
        name,
        peer,
        run_as: run_as.transpose()?,
        rules,
    })
}

fn compile(words: Compile) -> Result<RulePlan> {
    let bits = mode(&words.mode)?;
    if bits & 0o022 != 0 {
        return Err(wrong_use(format!(
            "--mode {}: who can write FILE decides who comes in, so that is its owner alone",
            words.mode
        )));
    }
    Ok(RulePlan::Compile {
        directory: words.directory,
        file: words.file,
        mode: bits,
    })
}

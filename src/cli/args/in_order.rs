//! `--allow` and `--deny` in the order in which they were given, which decides; a parser keeps the two apart.
#![forbid(unsafe_code)]

use super::lean::Lean;
use super::line::Line;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};

/// Of each option whether it allows, and WHO.
#[derive(Debug)]
pub(in crate::cli) struct InOrder(pub(in crate::cli) Vec<(bool, String)>);

/// The two options as they are declared, and as clap has their values.
#[derive(Args)]
struct Apart {
    /// Admit WHO: user:NAME|UID, group:NAME|GID (effective or supplementary), self (the user that doorward runs as) or all;
    /// repeatable: of all --allow and --deny, in the order given, the first that matches decides [default: who matches none is
    /// refused if there is an --allow, else admitted]
    #[arg(long, value_name = "WHO")]
    allow: Vec<String>,
    /// Refuse WHO, as in --allow; repeatable
    #[arg(long, value_name = "WHO")]
    deny: Vec<String>,
}

impl Args for InOrder {
    fn augment_args(command: Command) -> Command {
        Apart::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Apart::augment_args_for_update(command)
    }
}

impl FromArgMatches for InOrder {
    fn from_arg_matches(matches: &ArgMatches) -> Result<InOrder, Error> {
        let places = |name| matches.indices_of(name).into_iter().flatten();
        let (allows, denies) = (places("allow"), places("deny"));
        let apart = Apart::from_arg_matches(matches)?;
        let allows = allows.zip(apart.allow.into_iter().map(|who| (true, who)));
        let denies = denies.zip(apart.deny.into_iter().map(|who| (false, who)));
        let mut all: Vec<_> = allows.chain(denies).collect();
        all.sort_by_key(|(place, _)| *place);
        Ok(InOrder(all.into_iter().map(|(_, option)| option).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = InOrder::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Lean for InOrder {
    fn defaults() -> Option<InOrder> {
        Some(InOrder(Vec::new()))
    }

    fn take(&mut self, line: &mut Line<'_>) -> Option<bool> {
        let allows = line.is("allow");
        if !allows && !line.is("deny") {
            return Some(false);
        }
        self.0.push((allows, line.value()?));
        Some(true)
    }
}

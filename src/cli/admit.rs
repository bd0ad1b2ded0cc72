//! `doorward admit`: puts the parts together in the order in which they must come.
#![forbid(unsafe_code)]

use super::args::Admit;
use super::{Parent, descriptors, open_rules::rules, plan};
use crate::chain::{self, Admission, Given};
use crate::delivery::{Layout, Program};
use crate::exit;

pub(super) fn run(words: Admit, parent: Parent) -> exit::Result<u8> {
    let given = Given::find(&parent.activation);
    let found = given.as_ref().map_or(Layout::Inetd, |given| given.layout);
    let plan = plan::admit(words, found)?;
    // Before this process opens anything: a number that the parent left closed must not turn out to be one of ours.
    descriptors::must_be_kept(&plan.keep_fds)?;
    descriptors::pass_only(&plan.keep_fds)?;
    // A mistyped program is told as such, whoever the client is.
    let program = Program::look_up(plan.prog)?;
    let given = given?;
    let rules = rules(plan.rules)?;
    chain::admit(Admission {
        given,
        rules,
        deny_text: plan.deny_text,
        proto: plan.proto,
        channels: plan.channels,
        program,
    })
}

//! `doorward call` and `doorward answer`, understood.
#![forbid(unsafe_code)]

use super::super::args;
use super::chain::{limit, trusted};
use super::{address, seconds};
use crate::call::{Allowed, Call, Post, Protocol};
use crate::chain::Dial;
use crate::exit::{Result, wrong_use};
use crate::source::Type;

pub(in crate::cli) fn call(words: args::Call) -> Result<Call> {
    for (given, option, why) in [
        (words.cwd, "--cwd", "a directory"),
        (words.detach, "--detach", "detaching"),
        (words.pty, "--pty", "terminals"),
    ] {
        if words.s6 && given {
            return Err(wrong_use(format!(
                "--s6 and {option} make no sense together: s6-sudod knows nothing of {why}"
            )));
        }
    }
    if words.pty && words.detach {
        return Err(wrong_use(
            "--pty and --detach make no sense together: the terminal hangs up when this process dies",
        ));
    }
    let mut rest = words.path_and_arguments.into_iter();
    let path = rest.next().unwrap_or_default();
    let address = address("unable to call", &path)?;
    let dial = Dial {
        address,
        kind: Type::Stream,
        servers: trusted(&words.server.server)?,
        limit: limit("--connect-timeout", words.patience.connect_timeout)?,
    };
    Ok(Call {
        dial,
        protocol: protocol(words.s6),
        arguments: rest.collect(),
        standard: [!words.no_stdin, !words.no_stdout, !words.no_stderr],
        environment: !words.no_env,
        detach: words.detach,
        directory: words.cwd,
        pty: words.pty,
    })
}

pub(in crate::cli) fn answer(words: args::Answer) -> Result<Post> {
    for (given, option, why) in [
        (words.allow_cwd, "--allow-cwd", "a directory"),
        (words.allow_detach, "--allow-detach", "detaching"),
        (words.allow_pty, "--allow-pty", "terminals"),
    ] {
        if words.s6 && given {
            return Err(wrong_use(format!(
                "--s6 and {option} make no sense together: s6-sudo knows nothing of {why}"
            )));
        }
    }
    Ok(Post {
        prog: words.prog,
        message_timeout: seconds("--message-timeout", &words.message_timeout, false)?,
        pass_env: words.pass_env,
        allowed: Allowed {
            detach: words.allow_detach,
            directory: words.allow_cwd,
            terminal: words.allow_pty,
        },
        protocol: protocol(words.s6),
    })
}

fn protocol(s6: bool) -> Protocol {
    if s6 { Protocol::S6 } else { Protocol::Doorward }
}

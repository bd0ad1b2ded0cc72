//! What the words of the command line mean together; every conflict is settled here.
#![forbid(unsafe_code)]

mod activate;
mod admit;
mod call;
mod chain;
mod rules;
mod serve;
mod sockets;

pub(super) use activate::{ActivatePlan, activate};
pub(super) use admit::admit;
pub(super) use call::{answer, call};
pub(super) use chain::{bind, connect, relay};
pub(super) use rules::{CheckPlan, RulePlan, rule_task};
pub(super) use serve::{BackendSource, DeliveryPlan, HandoffPlan, ServePlan, handoff, spawn};

use super::args::{Connection, Kept, Log, Rules};
use crate::admission::{Effect, Rate, Who};
use crate::delivery::{Channels, Layout};
use crate::exit::{Result, wrong_use};
use crate::report::{Escaped, Verbosity};
use crate::source::Address;
use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

/// doorward's own descriptors stand at this number and above, unless `--keep-fd` moves it up. A table of up to 64 descriptors is the
/// cheapest that the kernel makes for a child: so they begin below that, with room underneath for what the doors have in hand.
pub(super) const LOW: RawFd = 40;

/// The highest number that `--keep-fd` and `--ready-fd` take.
const HIGHEST: u32 = 1023;

/// Where the rules come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RuleSource {
    None,
    /// In order, each with its text for `rule=`.
    Options(Vec<(Effect, Who, String)>),
    /// A directory or a database.
    Stored(PathBuf),
}

/// `-v` and `-q`.
pub(super) fn verbosity(log: &Log) -> Result<Verbosity> {
    match (log.verbose, log.quiet) {
        (true, true) => Err(wrong_use("--verbose and --quiet make no sense together")),
        (true, false) => Ok(Verbosity::Everything),
        (false, true) => Ok(Verbosity::Failures),
        (false, false) => Ok(Verbosity::Refusals),
    }
}

/// The text to send to whoever is refused, with its newline.
fn deny_text(rules: &mut Rules) -> Option<Vec<u8>> {
    rules.deny_text.take().map(|text| {
        let mut text = text.into_vec();
        text.push(b'\n');
        text
    })
}

/// A path or `@name`; `what` says in the message what was to be done with it.
fn address(what: &str, text: &OsStr) -> Result<Address> {
    Address::parse(text)
        .map_err(|why| wrong_use(format!("{what} {}: {why}", Escaped(text.as_bytes()))))
}

/// `--proto`.
fn proto(text: String) -> Result<String> {
    if is_prefix(&text) {
        Ok(text)
    } else {
        Err(wrong_use(format!(
            "--proto {text}: a prefix has letters, digits and _, and no digit first"
        )))
    }
}

/// `--layout` and what goes beside the connection; `default` is where the command puts it unless told.
fn channels(words: &Connection, default: Layout) -> Result<Channels> {
    let layout = match (words.layout, words.inetd) {
        (Some(layout), true) if layout != Layout::Inetd => {
            return Err(wrong_use(format!(
                "--inetd and --layout {} make no sense together",
                layout.word()
            )));
        }
        (_, true) => Layout::Inetd,
        (layout, false) => layout.unwrap_or(default),
    };
    Ok(Channels {
        layout,
        notify: words.notify,
        pidfd: words.pidfd,
    })
}

/// `--keep-fd`; `user` says which option wants a number for something else.
fn keep_fds(words: &Kept, user: impl Fn(RawFd) -> Option<String>) -> Result<Vec<RawFd>> {
    let numbers = words.keep_fd.iter();
    numbers.map(|&number| keep_fd(number, &user)).collect()
}

/// Where doorward's own descriptors begin.
fn low(keep_fds: &[RawFd]) -> RawFd {
    let low = keep_fds.iter().map(|number| number + 1);
    low.chain([LOW]).max().unwrap_or(LOW)
}

/// The option by which a child finds something of doorward's on `fd`.
fn user_of(fd: RawFd, channels: Channels) -> Option<String> {
    channels.uses(fd).then(|| match fd {
        8 => "--notify".to_owned(),
        9 => "--pidfd".to_owned(),
        _ => format!("--layout {}", channels.layout.word()),
    })
}

fn keep_fd(number: u32, user: impl Fn(RawFd) -> Option<String>) -> Result<RawFd> {
    let fd = RawFd::try_from(number)
        .ok()
        .filter(|_| (3..=HIGHEST).contains(&number));
    let Some(fd) = fd else {
        return Err(wrong_use(format!(
            "--keep-fd {number}: the number must be 3 to {HIGHEST}"
        )));
    };
    if let Some(option) = user(fd) {
        return Err(wrong_use(format!(
            "--keep-fd {number} and {option} make no sense together: both want descriptor {number}"
        )));
    }
    Ok(fd)
}

fn ready_fd(number: u32, keep_fds: &[RawFd]) -> Result<RawFd> {
    let fd = RawFd::try_from(number).ok().filter(|_| number <= HIGHEST);
    let Some(fd) = fd else {
        return Err(wrong_use(format!(
            "--ready-fd {number}: the number must be 0 to {HIGHEST}"
        )));
    };
    if keep_fds.contains(&fd) {
        return Err(wrong_use(format!(
            "--ready-fd {number} and --keep-fd {number} make no sense together"
        )));
    }
    Ok(fd)
}

/// `--server WHO`: who must be behind a listening socket; each with its text.
fn servers(words: &[String]) -> Result<Vec<(Who, String)>> {
    let server = |text: &String| match Who::parse(text) {
        Ok(Who::All) => Err(wrong_use(
            "--server all would trust anybody; name who serves the socket",
        )),
        Ok(who) => Ok((who, text.clone())),
        Err(why) => Err(wrong_use(format!("--server {text}: {why}"))),
    };
    words.iter().map(server).collect()
}

fn rules(words: &Rules) -> Result<RuleSource> {
    match (&words.rules, words.in_order.0.first()) {
        (Some(_), Some((allows, who))) => {
            let option = if *allows { "--allow" } else { "--deny" };
            Err(wrong_use(format!(
                "--rules and {option} {who} make no sense together: one source of rules at a time"
            )))
        }
        (Some(path), None) => Ok(RuleSource::Stored(path.clone())),
        (None, None) => Ok(RuleSource::None),
        (None, Some(_)) => {
            let option = |(allows, text): &(bool, String)| {
                let (effect, word) = if *allows {
                    (Effect::Allow, "allow")
                } else {
                    (Effect::Deny, "deny")
                };
                let who =
                    Who::parse(text).map_err(|why| wrong_use(format!("--{word} {text}: {why}")))?;
                Ok((effect, who, text.clone()))
            };
            Ok(RuleSource::Options(
                words
                    .in_order
                    .0
                    .iter()
                    .map(option)
                    .collect::<Result<Vec<_>>>()?,
            ))
        }
    }
}

/// Octal permission bits.
fn mode(text: &str) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| digits && *mode <= 0o777);
    mode.ok_or_else(|| wrong_use(format!("--mode {text}: a mode is octal, 0 to 0777")))
}

/// `N/SECONDS`.
fn rate(text: &str) -> Result<Rate> {
    let wrong = || {
        wrong_use(format!(
            "--rate {text}: a rate is N/SECONDS, both whole numbers above 0"
        ))
    };
    let (burst, period) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u32>().ok())
            .flatten()
            .filter(|number| *number > 0)
    };
    match (number(burst), number(period)) {
        (Some(burst), Some(period)) => Ok(Rate {
            burst,
            period: Duration::from_secs(u64::from(period)),
        }),
        _ => Err(wrong()),
    }
}

/// Seconds, with a fraction if need be; at most about 136 years.
fn seconds(option: &str, text: &str, zero_is_fine: bool) -> Result<Duration> {
    let plain = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = text
        .parse::<f64>()
        .ok()
        .filter(|number| plain && *number <= f64::from(u32::MAX));
    let duration = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    duration
        .filter(|duration| zero_is_fine || !duration.is_zero())
        .ok_or_else(|| {
            wrong_use(format!(
                "{option} {text}: not a number of seconds{}",
                if zero_is_fine { "" } else { " above 0" }
            ))
        })
}

fn is_prefix(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_has_permission_bits_alone() {
        assert_eq!(mode("0420").ok(), Some(0o420));
        assert_eq!(mode("777").ok(), Some(0o777));
        for text in ["999", "1000", "04755", "+1", "-1", "", "0o600", "rw"] {
            assert!(mode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_rate_is_two_numbers_above_zero() {
        assert_eq!(
            rate("10/2").ok(),
            Some(Rate {
                burst: 10,
                period: Duration::from_secs(2)
            })
        );
        for text in [
            "10", "0/1", "1/0", "/", "1/", "/1", "1/1/1", "-1/1", "+1/1", "1.5/1",
        ] {
            assert!(rate(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_and_nothing_else() {
        assert_eq!(
            seconds("--grace", "0.25", true).ok(),
            Some(Duration::from_millis(250))
        );
        assert_eq!(seconds("--grace", "0", true).ok(), Some(Duration::ZERO));
        assert!(seconds("--lifetime", "0", false).is_err());
        for text in ["", ".", "-1", "inf", "nan", "1e3", "99999999999", "1s"] {
            assert!(seconds("--grace", text, true).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_prefix_can_begin_a_variable_s_name() {
        assert!(is_prefix("UNIX") && is_prefix("_a1"));
        for text in ["", "1A", "A=", "A B", "ä"] {
            assert!(!is_prefix(text), "{text:?}");
        }
    }
}

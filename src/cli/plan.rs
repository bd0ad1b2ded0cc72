//! What the words of the command line mean together; every conflict is settled here.
#![forbid(unsafe_code)]

use super::args::{Admission, Common, Connect, Delivery, Handoff, ReadyWhen, Source, Spawn};
use crate::admission::{Effect, Limits, Rate, Who};
use crate::connect::Errand;
use crate::delivery::{Channels, Layout, NotifyTo};
use crate::exit::{Result, wrong_use};
use crate::privileges::{self, Identity};
use crate::report::Verbosity;
use crate::source::{Address, Owner, Wanted};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// doorward's own descriptors stand at this number and above, unless `--keep-fd` moves it up. A child's table of up to 64 descriptors
/// is the cheapest that the kernel makes.
pub(super) const LOW: RawFd = 64;

/// The highest number that `--keep-fd` and `--ready-fd` take.
const HIGHEST: u32 = 1023;

/// Where the rules come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RuleSource {
    None,
    /// In order, each with its text for `rule=`.
    Options(Vec<(Effect, Who, String)>),
    Directory(PathBuf),
}

/// A command that serves, understood.
#[derive(Debug)]
pub(super) struct ServePlan {
    pub(super) wanted: Wanted,
    pub(super) run_as: Option<Identity>,
    pub(super) rules: RuleSource,
    pub(super) limits: Limits,
    pub(super) deny_text: Option<Vec<u8>>,
    pub(super) proto: String,
    pub(super) keep_fds: Vec<RawFd>,
    pub(super) ready_fd: Option<RawFd>,
    pub(super) grace: Duration,
    pub(super) delivery: DeliveryPlan,
}

/// What becomes of an admitted connection.
#[derive(Debug)]
pub(super) enum DeliveryPlan {
    Spawn {
        channels: Channels,
        lifetime: Option<Duration>,
        prog: Vec<OsString>,
    },
    Handoff(HandoffPlan),
}

/// `doorward handoff`, as far as it differs.
#[derive(Debug)]
pub(super) struct HandoffPlan {
    pub(super) backend: BackendSource,
    pub(super) notify_to: NotifyTo,
    pub(super) pidfd: bool,
    pub(super) ahead: usize,
    /// Ready only when every backend is.
    pub(super) ready_backend: bool,
}

#[derive(Debug)]
pub(super) enum BackendSource {
    Started {
        prog: Vec<OsString>,
        workers: u32,
        lazy: bool,
    },
    /// Where it listens, and who it may be, each with its text.
    Listening {
        path: PathBuf,
        servers: Vec<(Effect, Who, String)>,
    },
}

impl ServePlan {
    /// What goes beside the connection, and at which numbers.
    pub(super) fn channels(&self) -> Channels {
        match &self.delivery {
            DeliveryPlan::Spawn { channels, .. } => *channels,
            // A worker gets its end of the channel where socket activation has it.
            DeliveryPlan::Handoff(_) => Channels {
                layout: Layout::Systemd,
                notify: false,
                pidfd: false,
            },
        }
    }
}

/// `-v` and `-q`.
pub(super) fn verbosity(common: &Common) -> Result<Verbosity> {
    match (common.log.verbose, common.log.quiet) {
        (true, true) => Err(wrong_use("--verbose and --quiet make no sense together")),
        (true, false) => Ok(Verbosity::Everything),
        (false, true) => Ok(Verbosity::Failures),
        (false, false) => Ok(Verbosity::Refusals),
    }
}

pub(super) fn spawn(spawn: Spawn) -> Result<ServePlan> {
    let channels = channels(&spawn.delivery)?;
    let keep_fds = spawn
        .delivery
        .keep_fd
        .iter()
        .map(|&number| keep_fd(number, channels))
        .collect::<Result<Vec<_>>>()?;
    let lifetime = spawn
        .delivery
        .lifetime
        .as_deref()
        .map(|text| seconds("--lifetime", text, false))
        .transpose()?;
    let delivery = DeliveryPlan::Spawn {
        channels,
        lifetime,
        prog: spawn.prog,
    };
    serve(spawn.common, spawn.delivery.proto, keep_fds, delivery)
}

pub(super) fn handoff(handoff: Handoff) -> Result<ServePlan> {
    let words = handoff.delivery;
    let backend = match words.backend {
        Some(path) => listening(path, &words.server)?,
        // The parser lets this pass: what excludes --backend excludes the need of it, too.
        None if !words.server.is_empty() => {
            return Err(wrong_use(
                "--server and PROG make no sense together: it says who may serve --backend",
            ));
        }
        None => {
            let workers = words.workers.unwrap_or(1);
            if workers == 0 {
                return Err(wrong_use(
                    "--workers 0 would leave nobody to take connections",
                ));
            }
            BackendSource::Started {
                prog: handoff.prog,
                workers,
                lazy: words.lazy,
            }
        }
    };
    let ready_backend = words.ready == ReadyWhen::Backend;
    if ready_backend && words.lazy {
        return Err(wrong_use(
            "--ready backend and --lazy make no sense together: the backend starts at the first connection",
        ));
    }
    let Some(ahead) = usize::try_from(words.ahead).ok().filter(|ahead| *ahead > 0) else {
        return Err(wrong_use("--ahead 0 would let no connection through"));
    };
    let plan = HandoffPlan {
        backend,
        notify_to: words.notify_to,
        pidfd: words.pidfd,
        ahead,
        ready_backend,
    };
    serve(
        handoff.common,
        words.proto,
        Vec::new(),
        DeliveryPlan::Handoff(plan),
    )
}

pub(super) fn connect(connect: Connect) -> Result<Errand> {
    let mut words = connect.path_and_prog.into_iter();
    let path = words.next().unwrap_or_default();
    let address = Address::parse(&path).map_err(|why| {
        let shown = crate::report::Escaped(&path.into_vec()).to_string();
        wrong_use(format!("unable to connect to {shown}: {why}"))
    })?;
    let limit = connect.connect_timeout.as_deref();
    let limit = limit.map(|text| seconds("--connect-timeout", text, false));
    Ok(Errand {
        address,
        kind: connect.kind,
        notify: connect.notify,
        limit: limit.transpose()?,
        prog: words.collect(),
    })
}

fn listening(path: OsString, server: &[String]) -> Result<BackendSource> {
    let shown = crate::report::Escaped(&path.clone().into_vec()).to_string();
    let path = PathBuf::from(path);
    if nix::sys::socket::UnixAddr::new(&path).is_err() || path.as_os_str().is_empty() {
        return Err(wrong_use(format!(
            "--backend {shown}: not a path that a socket can have"
        )));
    }
    let mut servers = Vec::new();
    for text in server {
        match Who::parse(text) {
            Ok(Who::All) => {
                return Err(wrong_use(
                    "--server all would trust anybody; name who serves the backend",
                ));
            }
            Ok(who) => servers.push((Effect::Allow, who, text.clone())),
            Err(why) => return Err(wrong_use(format!("--server {text}: {why}"))),
        }
    }
    if servers.is_empty() {
        servers.push((Effect::Allow, Who::Myself, "self".to_owned()));
        servers.push((
            Effect::Allow,
            Who::User("0".to_owned()),
            "user:0".to_owned(),
        ));
    }
    Ok(BackendSource::Listening { path, servers })
}

fn serve(
    common: Common,
    proto: String,
    keep_fds: Vec<RawFd>,
    delivery: DeliveryPlan,
) -> Result<ServePlan> {
    let ready_fd = common
        .life
        .ready_fd
        .map(|number| ready_fd(number, &keep_fds))
        .transpose()?;
    let low = keep_fds
        .iter()
        .map(|number| number + 1)
        .chain([LOW])
        .max()
        .unwrap_or(LOW);
    let wanted = wanted(&common.source, low)?;
    let run_as = common
        .source
        .run_as
        .as_deref()
        .map(|text| privileges::identity("--run-as", text))
        .transpose()?;
    let max = common.admission.max;
    let limits = Limits {
        max,
        // Three quarters, rounded up, so that one user cannot take every place.
        max_per_user: common
            .admission
            .max_per_user
            .or((max > 0).then(|| max - max / 4)),
        rate: common.admission.rate.as_deref().map(rate).transpose()?,
    };
    if limits.max_per_user == Some(0) {
        return Err(wrong_use(
            "--max-per-user 0 admits nobody; leave it out, or give --max 0, for no limit",
        ));
    }
    let rules = rules(&common.admission)?;
    let deny_text = common.admission.deny_text.map(|text| {
        let mut text = text.into_vec();
        text.push(b'\n');
        text
    });
    if !is_prefix(&proto) {
        return Err(wrong_use(format!(
            "--proto {proto}: a prefix has letters, digits and _, and no digit first"
        )));
    }
    let grace = seconds("--grace", &common.life.grace, true)?;
    Ok(ServePlan {
        wanted,
        run_as,
        rules,
        limits,
        deny_text,
        proto,
        keep_fds,
        ready_fd,
        grace,
        delivery,
    })
}

fn wanted(source: &Source, low: RawFd) -> Result<Wanted> {
    let binds = source.bind.iter().map(|text| {
        Address::parse(text).map_err(|why| {
            wrong_use(format!(
                "--bind {}: {why}",
                crate::report::Escaped(&text.clone().into_vec())
            ))
        })
    });
    let binds = binds.collect::<Result<Vec<_>>>()?;
    if let Some((index, twice)) = binds
        .iter()
        .enumerate()
        .find(|(index, address)| binds.iter().take(*index).any(|other| other == *address))
    {
        return Err(wrong_use(format!(
            "--bind {twice} is given twice (option {} of --bind)",
            index + 1
        )));
    }
    let mode = source.mode.as_deref().map(mode).transpose()?;
    let all_abstract = !binds.is_empty()
        && binds
            .iter()
            .all(|address| matches!(address, Address::Abstract(_)));
    for (option, given) in [
        ("--mode", mode.is_some()),
        ("--owner", source.owner.is_some()),
    ] {
        if given && all_abstract {
            return Err(wrong_use(format!(
                "{option} and --bind {} make no sense together: an abstract name has no node",
                binds[0]
            )));
        }
    }
    let owner = source
        .owner
        .as_deref()
        .map(|text| privileges::owner("--owner", text))
        .transpose()?;
    let backlog = source
        .backlog
        .map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    Ok(Wanted {
        binds,
        names: source.name.clone(),
        mode,
        owner: owner.map(|(uid, gid)| Owner { uid, gid }),
        backlog,
        kind: source.kind,
        relisten: source.relisten,
        low,
    })
}

fn channels(delivery: &Delivery) -> Result<Channels> {
    let layout = match (delivery.layout, delivery.inetd) {
        (Some(layout), true) if layout != Layout::Inetd => {
            return Err(wrong_use(format!(
                "--inetd and --layout {} make no sense together",
                layout.word()
            )));
        }
        (_, true) => Layout::Inetd,
        (layout, false) => layout.unwrap_or(Layout::Ucspi),
    };
    Ok(Channels {
        layout,
        notify: delivery.notify,
        pidfd: delivery.pidfd,
    })
}

fn keep_fd(number: u32, channels: Channels) -> Result<RawFd> {
    let fd = RawFd::try_from(number)
        .ok()
        .filter(|_| (3..=HIGHEST).contains(&number));
    let Some(fd) = fd else {
        return Err(wrong_use(format!(
            "--keep-fd {number}: the number must be 3 to {HIGHEST}"
        )));
    };
    if channels.uses(fd) {
        let option = match fd {
            8 => "--notify".to_owned(),
            9 => "--pidfd".to_owned(),
            _ => format!("--layout {}", channels.layout.word()),
        };
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

fn rules(admission: &Admission) -> Result<RuleSource> {
    match (&admission.rules, admission.in_order.first()) {
        (Some(_), Some((allows, who))) => {
            let option = if *allows { "--allow" } else { "--deny" };
            Err(wrong_use(format!(
                "--rules and {option} {who} make no sense together: one source of rules at a time"
            )))
        }
        (Some(directory), None) => Ok(RuleSource::Directory(directory.clone())),
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
                admission
                    .in_order
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

//! The commands that serve, understood.
#![forbid(unsafe_code)]

use super::super::args::{Common, Handoff, ReadyWhen, Spawn};
use super::sockets::{connected, run_as, wanted};
use super::{
    RuleSource, address, channels, deny_text, keep_fds, low, proto, rate, ready_fd, rules, seconds,
    servers, user_of,
};
use crate::admission::{Limits, Who};
use crate::delivery::{Channels, Layout, NotifyTo};
use crate::exit::{Result, wrong_use};
use crate::privileges::Identity;
use crate::source::{Address, Kinds, Wanted};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::time::Duration;

/// A command that serves, understood.
#[derive(Debug)]
pub(in crate::cli) struct ServePlan {
    pub(in crate::cli) wanted: Wanted,
    pub(in crate::cli) run_as: Option<Identity>,
    pub(in crate::cli) rules: RuleSource,
    pub(in crate::cli) limits: Limits,
    pub(in crate::cli) deny_text: Option<Vec<u8>>,
    pub(in crate::cli) proto: String,
    pub(in crate::cli) keep_fds: Vec<RawFd>,
    pub(in crate::cli) ready_fd: Option<RawFd>,
    pub(in crate::cli) grace: Duration,
    pub(in crate::cli) delivery: DeliveryPlan,
}

/// What becomes of an admitted connection.
#[derive(Debug)]
pub(in crate::cli) enum DeliveryPlan {
    Spawn {
        channels: Channels,
        lifetime: Option<Duration>,
        prog: Vec<OsString>,
    },
    Handoff(HandoffPlan),
}

/// `doorward handoff`, as far as it differs.
#[derive(Debug)]
pub(in crate::cli) struct HandoffPlan {
    pub(in crate::cli) backend: BackendSource,
    pub(in crate::cli) notify_to: NotifyTo,
    pub(in crate::cli) pidfd: bool,
    pub(in crate::cli) ahead: usize,
    /// Ready only when every backend is.
    pub(in crate::cli) ready_backend: bool,
}

#[derive(Debug)]
pub(in crate::cli) enum BackendSource {
    Started {
        prog: Vec<OsString>,
        workers: u32,
        lazy: bool,
    },
    /// Where it listens, and who it may be, each with its text.
    Listening {
        address: Address,
        servers: Vec<(Who, String)>,
    },
}

impl ServePlan {
    /// What goes beside the connection, and at which numbers.
    pub(in crate::cli) fn channels(&self) -> Channels {
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

pub(in crate::cli) fn spawn(spawn: Spawn) -> Result<ServePlan> {
    let channels = channels(&spawn.connection, Layout::Ucspi)?;
    let keep_fds = keep_fds(&spawn.connection.kept, |fd| user_of(fd, channels))?;
    let lifetime = spawn.lifetime.as_deref();
    let lifetime = lifetime.map(|text| seconds("--lifetime", text, false));
    let delivery = DeliveryPlan::Spawn {
        channels,
        lifetime: lifetime.transpose()?,
        prog: spawn.prog,
    };
    serve(
        "spawn",
        spawn.common,
        spawn.connection.proto,
        keep_fds,
        delivery,
    )
}

pub(in crate::cli) fn handoff(handoff: Handoff) -> Result<ServePlan> {
    let words = handoff.delivery;
    let backend = match words.backend {
        Some(path) => listening(path, &words.server.server)?,
        // The parser lets this pass: what excludes --backend excludes the need of it, too.
        None if !words.server.server.is_empty() => {
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
        "handoff",
        handoff.common,
        words.proto,
        Vec::new(),
        DeliveryPlan::Handoff(plan),
    )
}

fn listening(path: OsString, server: &[String]) -> Result<BackendSource> {
    let address = address("--backend", &path)?;
    let mut servers = servers(server)?;
    if servers.is_empty() {
        servers.push((Who::Myself, "self".to_owned()));
        servers.push((Who::User("0".to_owned()), "user:0".to_owned()));
    }
    Ok(BackendSource::Listening { address, servers })
}

fn serve(
    command: &str,
    mut common: Common,
    prefix: String,
    keep_fds: Vec<RawFd>,
    delivery: DeliveryPlan,
) -> Result<ServePlan> {
    let ready_fd = common
        .life
        .readiness
        .ready_fd
        .map(|number| ready_fd(number, &keep_fds))
        .transpose()?;
    connected(common.node.kind, command)?;
    let low = low(&keep_fds);
    let wanted = wanted(&common.sockets, &common.node, low, Kinds::Connected)?;
    let run_as = run_as(&common.node)?;
    let max = common.places.max;
    let limits = Limits {
        max,
        // Three quarters, rounded up, so that one user cannot take every place.
        max_per_user: common
            .places
            .max_per_user
            .or((max > 0).then(|| max - max / 4)),
        rate: common.places.rate.as_deref().map(rate).transpose()?,
    };
    if limits.max_per_user == Some(0) {
        return Err(wrong_use(
            "--max-per-user 0 admits nobody; leave it out, or give --max 0, for no limit",
        ));
    }
    let rules = rules(&common.rules)?;
    let deny_text = deny_text(&mut common.rules);
    let proto = proto(prefix)?;
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

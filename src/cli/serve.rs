//! The commands that serve: puts the parts together in the order in which they must come.
#![forbid(unsafe_code)]

use super::Parent;
use super::descriptors::{close_to_children, must_be_kept, must_be_usable, ready_fd};
use super::open_rules::rules;
use super::plan::{BackendSource, DeliveryPlan, HandoffPlan, ServePlan};
use super::start_line::start_line;
use crate::admission::{Mapping, Room, Rules, Servers};
use crate::delivery::{
    Channel, Delivery, Handing, Landings, Layout, NotifyTo, Program, Recipe, Template, execlineb,
};
use crate::exit::{self, Unable as _, wrong_use};
use crate::report::{self, info};
use crate::serve::{self, BackendPlan, Manager, Orders, Workers};
use crate::source::{self, Listening};
use crate::variables::inherited;
use crate::{privileges, sys};
use std::ffi::CStr;
use std::os::fd::{AsFd as _, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

pub(super) fn run(plan: ServePlan, parent: Parent) -> exit::Result<u8> {
    let low = plan.wanted.low;
    // Before this process opens anything: a number that the parent left closed must not turn out to be one of ours.
    named_descriptors(&plan)?;
    let nofile = serve::raise_descriptor_limit(low).map_err(exit::system)?;
    let null = close_to_children(&plan.keep_fds, low)?;
    // Unless it is about to carry the news that we are ready, 0 is not ours to read.
    if plan.channels().layout != Layout::Inetd && plan.ready_fd != Some(0) {
        sys::fd::replace_standard(null.as_fd(), 0).unable("replace descriptor 0")?;
    }
    let ready_fd = plan
        .ready_fd
        .map(|number| ready_fd(number, null.as_fd(), low))
        .transpose()?;
    report::take_terminal(low);
    let signals = sys::signal::set_up().unable("set up signals")?;
    // Before anything is bound: a mistyped program leaves no trace.
    let program = program(&plan.delivery)?;

    let sockets = source::obtain(&plan.wanted, parent.activation)?;
    let count = sockets.iter().count();
    let channels = plan.channels();
    let doors = match &plan.delivery {
        DeliveryPlan::Spawn { .. } => serve::spawning_doors_each(count) * count,
        DeliveryPlan::Handoff(_) => count,
    };
    // One more than doors: for starting backends.
    let landings =
        Landings::reserve(null.as_fd(), doors + 1, channels, low).unable("reserve descriptors")?;
    if let Some(identity) = &plan.run_as {
        privileges::become_identity(identity)?;
        if let Some(program) = &program {
            Program::look_up(program.argv.clone())?;
        }
    }
    sockets.iter().for_each(Listening::warn_if_it_stays);
    let rules = rules(plan.rules)?;
    let manager = Manager::at(parent.notify_socket.as_deref(), low);
    let template = Template::new(inherited(), plan.proto, channels);
    let low = landings.low();
    let lifetime = match &plan.delivery {
        DeliveryPlan::Spawn { lifetime, .. } => *lifetime,
        DeliveryPlan::Handoff(_) => None,
    };
    // A pidfd for each child (or a lease for each hand-off), a copy of each connection whose greeting is unread, and a score of our own.
    let mut each = 1 + u32::from(channels.notify);
    let ready_backend =
        matches!(&plan.delivery, DeliveryPlan::Handoff(handoff) if handoff.ready_backend);
    let (delivery, backend) = match plan.delivery {
        DeliveryPlan::Spawn { channels, .. } => {
            let Some(program) = program else {
                return Err(wrong_use("spawn needs a program"));
            };
            let recipe = Recipe {
                program,
                execlineb: execlineb(),
                template,
                channels,
                low,
                nofile,
                null,
                is_proven: AtomicBool::new(false),
            };
            (Delivery::Spawn(recipe), None)
        }
        DeliveryPlan::Handoff(handoff) => {
            each += u32::from(handoff.notify_to == NotifyTo::Client);
            let counted = plan.limits.max > 0 || plan.limits.max_per_user.is_some();
            let env = template.inherited().to_vec();
            let handing = handing(&handoff, template, counted, low)?;
            (
                Delivery::Handoff(handing),
                Some(backend(handoff.backend, program, env, nofile)?),
            )
        }
    };
    serve::warn_about_limits(
        plan.limits.max,
        each,
        low.unsigned_abs() + 64,
        backend.is_none(),
    );
    let sockets = sockets.listen()?;
    start_line(&sockets, delivery.words());
    if matches!(rules, Rules::None) {
        info!("no rules: the mode and owner of the socket decide alone who may come in");
    }
    let orders = Orders {
        sockets,
        rules,
        room: Room::new(plan.limits),
        mapping: Mapping::read(),
        delivery,
        backend,
        ready_backend,
        deny_text: plan.deny_text,
        lifetime,
        grace: plan.grace,
    };
    serve::run(
        orders,
        landings,
        signals,
        manager,
        ready_fd,
        parent.watchdog,
    )
}

/// The program that is to run, if there is one.
fn program(delivery: &DeliveryPlan) -> exit::Result<Option<Program>> {
    let prog = match delivery {
        DeliveryPlan::Spawn { prog, .. } => prog,
        DeliveryPlan::Handoff(HandoffPlan {
            backend: BackendSource::Started { prog, .. },
            ..
        }) => prog,
        DeliveryPlan::Handoff(_) => return Ok(None),
    };
    Program::look_up(prog.clone()).map(Some)
}

fn handing(
    plan: &HandoffPlan,
    template: Template,
    lease: bool,
    low: RawFd,
) -> exit::Result<Handing> {
    let channel = Channel::new(low).unable("make the channel to the backends")?;
    Ok(Handing {
        template,
        notify_to: plan.notify_to,
        pidfd: plan.pidfd,
        lease,
        ahead: plan.ahead,
        low,
        channel: RwLock::new(Arc::new(channel)),
        broken: AtomicBool::new(false),
        unattended: AtomicBool::new(true),
    })
}

fn backend(
    source: BackendSource,
    program: Option<Program>,
    env: Vec<&'static CStr>,
    nofile: Option<nix::libc::rlimit>,
) -> exit::Result<BackendPlan> {
    match (source, program) {
        (BackendSource::Started { workers, lazy, .. }, Some(program)) => {
            Ok(BackendPlan::Started(Workers {
                program,
                count: workers,
                lazy,
                env,
                nofile,
            }))
        }
        (BackendSource::Listening { address, servers }, _) => {
            let servers = Servers::resolve(&servers).map_err(wrong_use)?;
            Ok(BackendPlan::Listening { address, servers })
        }
        (BackendSource::Started { .. }, None) => {
            Err(wrong_use("handoff needs a program or --backend"))
        }
    }
}

fn named_descriptors(plan: &ServePlan) -> exit::Result<()> {
    must_be_kept(&plan.keep_fds)?;
    plan.ready_fd
        .map_or(Ok(()), |fd| must_be_usable("--ready-fd", fd))
}

//! One child: clone that shares memory and descriptor table, a private low part of the table, exec.
//!
//! Copying a descriptor table costs more the more descriptors are open (with 12,000 children held, their pidfds made a plain fork 12
//! times slower). So the child starts with our very table (CLONE_FILES) and its first act is `close_range(LOW, ~0, UNSHARE)`: a copy of
//! the numbers below LOW alone. The caller keeps everything that a child needs below LOW, and the rest of its own above.
//!
//! Who creates it waits until its exec (CLONE_VFORK), or has it in a [`Cradle`] until then.

mod child;
#[cfg(feature = "cli")]
mod cradle;
mod stack;

#[cfg(feature = "cli")]
pub(crate) use cradle::{Cradle, Launch, Note};
pub(crate) use stack::Stack;

use super::cvec::CVec;
use child::{Orders, Origin, Report};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// What a child becomes.
pub(crate) struct Job<'a> {
    /// The program's path, as execve takes it.
    pub(crate) path: &'a CStr,
    pub(crate) argv: &'a mut CVec,
    pub(crate) envp: &'a mut CVec,
    /// Where in `envp` the child writes its own pid (LISTEN_PID): what `CVec::push_pid_room` gave.
    pub(crate) pid_at: Option<usize>,
    /// Descriptors to put at fixed numbers: (from, to), each `from` below `low` and none of them among the `to`.
    pub(crate) places: &'a [(RawFd, RawFd)],
    /// The child's table holds the numbers below this alone.
    pub(crate) low: u32,
    /// The descriptor limit to give back, if this process raised its own.
    pub(crate) nofile: Option<libc::rlimit>,
    /// The controlling terminal, in whose foreground the child's group begins.
    pub(crate) foreground: Option<RawFd>,
}

/// A child that runs its program.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: libc::pid_t,
    /// Readable when the child has ended; close-on-exec.
    pub(crate) pidfd: OwnedFd,
}

/// A child whose pid was noted before it ran.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) pid: libc::pid_t,
    /// As in [`Child`], where one was wanted.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// Why there is no child.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no process: a limit, or no memory. Worth trying again.
    NoProcess(io::Error),
    /// The process was there, and execve refused.
    NoProgram(io::Error),
}

impl Failure {
    /// What a child's report says.
    fn reported((errno, at_exec): (libc::c_int, bool)) -> Failure {
        let cause = io::Error::from_raw_os_error(errno);
        if at_exec {
            Failure::NoProgram(cause)
        } else {
            Failure::NoProcess(cause)
        }
    }
}

/// After so many tries, some seconds, execve's refusal is final whatever it was short of.
pub(crate) const MOST_SHORT: u32 = 60;

/// Whether execve was only short of something, which may pass.
pub(crate) fn is_short(errno: libc::c_int) -> bool {
    matches!(
        errno,
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE
    )
}

/// Creates a child in a process group of its own, with default signals, none blocked, and returns when it runs its program.
///
/// The signal dispositions are the caller's (see `signal::set_up`: all default but one that does nothing); descriptors that are not
/// close-on-exec and stand below `low` pass to the child.
pub(crate) fn spawn(stack: &mut Stack, job: Job<'_>) -> Result<Child, Failure> {
    start(stack, job, Origin::Doorward)
}

/// The same from any process, whatever handlers, ignored signals and inheritable descriptors it has: the child loses them all.
///
/// Its table is a copy of the whole one in which the numbers from `low` are close-on-exec, so that each `from` may stand anywhere.
pub(crate) fn spawn_from_anywhere(stack: &mut Stack, job: Job<'_>) -> Result<Child, Failure> {
    // A handler of the caller's must not run in the child, which shares its memory.
    let mut before = SigSet::empty();
    pthread_sigmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut before),
    )
    .map_err(|error| Failure::NoProcess(error.into()))?;
    let child = start(stack, job, Origin::Anywhere);
    // The mask was valid a moment ago, so this cannot fail.
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    child
}

fn start(stack: &mut Stack, job: Job<'_>, origin: Origin) -> Result<Child, Failure> {
    match create(stack, job, origin, libc::CLONE_PIDFD, ptr::null_mut())? {
        Noted {
            pid,
            pidfd: Some(pidfd),
        } => Ok(Child { pid, pidfd }),
        // The kernel has no success without it.
        Noted { pidfd: None, .. } => Err(Failure::NoProcess(io::ErrorKind::Unsupported.into())),
    }
}

/// `flags` may have CLONE_PIDFD, and CLONE_CHILD_SETTID with a `note` that outlives the child's exec.
fn create(
    stack: &mut Stack,
    job: Job<'_>,
    origin: Origin,
    flags: libc::c_int,
    note: *mut libc::pid_t,
) -> Result<Noted, Failure> {
    let report = Report::default();
    let orders = Orders::of(job, origin, &raw const report, ptr::null());
    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the child runs on `stack`, which is ours, large enough for its few frames, and not in use; CLONE_VFORK keeps this thread, and so
    // everything that `orders` point to, in place until the child has execed or exited; the child neither unwinds nor allocates. With
    // CLONE_PIDFD the kernel stores a new descriptor, owned by nobody else, through the fifth argument; with CLONE_CHILD_SETTID a pid through
    // the seventh, when the child begins to run, while the caller lends it.
    let pid = unsafe {
        libc::clone(
            child::begin,
            stack.top(),
            flags,
            (&raw const orders).cast_mut().cast(),
            &raw mut pidfd,
            ptr::null_mut::<libc::c_void>(),
            note,
        )
    };
    if pid == -1 {
        return Err(Failure::NoProcess(io::Error::last_os_error()));
    }
    // SAFETY: clone succeeded and has stored a number, so `pidfd` is open and ours.
    let pidfd = (pidfd != -1).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    let Some(reported) = report.get() else {
        return Ok(Noted { pid, pidfd });
    };
    // The child is gone already or about to be (it exits right after its report); nobody else knows of it.
    let mut status = 0;
    // SAFETY: `status` is a whole int; `pid` is our unreaped child.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == -1
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
    Err(Failure::reported(reported))
}

//! One child: clone that shares memory and descriptor table, a private low part of the table, exec.
//!
//! Copying a descriptor table costs more the more descriptors are open (with 12,000 children held, their pidfds made a plain fork 12
//! times slower). So the child starts with our very table (CLONE_FILES) and its first act is `close_range(LOW, ~0, UNSHARE)`: a copy of
//! the numbers below LOW alone. The caller keeps everything that a child needs below LOW, and the rest of its own above.

use super::cvec::{CVec, PID_DIGITS};
use super::cvt;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicI32;

/// The memory on which a child runs from clone to exec; each door has one, used by one child at a time.
pub(crate) struct Stack {
    base: *mut libc::c_void,
}

// SAFETY: a plain private mapping, owned by this value alone; nothing in it depends on the thread.
unsafe impl Send for Stack {}

const STACK: usize = 64 * 1024;
const GUARD: usize = 64 * 1024;

impl Stack {
    /// Maps the stack with a guard below it, so that running over its end faults and never writes into a neighbour.
    pub(crate) fn new() -> io::Result<Stack> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUARD + STACK,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack { base };
        // SAFETY: the range lies inside the mapping made above.
        cvt(unsafe {
            libc::mprotect(
                stack.base.byte_add(GUARD),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        })?;
        Ok(stack)
    }

    fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping; a page boundary, so aligned for any ABI.
        unsafe { self.base.byte_add(GUARD + STACK) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone and no child runs on it: CLONE_VFORK returned only after its exec or exit.
        unsafe { libc::munmap(self.base, GUARD + STACK) };
    }
}

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

/// In which process a child begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Its signals are in the state that `signal::set_up` makes, and its numbers below `low` are in order.
    Doorward,
    /// Nothing is known of it.
    Anywhere,
}

struct Shared<'a> {
    path: *const libc::c_char,
    argv: *const *mut libc::c_char,
    envp: *const *mut libc::c_char,
    /// Room for the digits of the pid, and a zero byte; NULL: not wanted.
    pid_text: *mut u8,
    places: &'a [(RawFd, RawFd)],
    low: u32,
    nofile: Option<libc::rlimit>,
    foreground: Option<RawFd>,
    origin: Origin,
    /// errno of the step that failed, written by the child into our memory.
    error: libc::c_int,
    /// Whether that step was execve.
    at_exec: bool,
}

/// Creates a child in a process group of its own, with default signals, none blocked, and returns when it runs its program.
///
/// The signal dispositions are the caller's (see `signal::set_up`: all default but one that does nothing); descriptors that are not
/// close-on-exec and stand below `low` pass to the child.
pub(crate) fn spawn(stack: &mut Stack, job: Job<'_>) -> Result<Child, Failure> {
    start(stack, job, Origin::Doorward)
}

/// The same, with the child's pid in `note` before the child does anything: however early it ends, who reaps it can know it. It has a pidfd
/// if one is wanted: to make and to close one costs a tenth of a connection.
pub(crate) fn spawn_noted(
    stack: &mut Stack,
    job: Job<'_>,
    note: &AtomicI32,
    wants_pidfd: bool,
) -> Result<Noted, Failure> {
    let flags = if wants_pidfd { libc::CLONE_PIDFD } else { 0 };
    create(
        stack,
        job,
        Origin::Doorward,
        flags | libc::CLONE_CHILD_SETTID,
        note.as_ptr(),
    )
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
    let argv = job.argv.seal().as_ptr();
    let envp = job.envp.seal().as_ptr();
    let pid_text = job
        .pid_at
        .and_then(|at| job.envp.address(at))
        .unwrap_or(ptr::null_mut());
    let mut shared = Shared {
        path: job.path.as_ptr(),
        argv,
        envp,
        pid_text,
        places: job.places,
        low: job.low,
        nofile: job.nofile,
        foreground: job.foreground,
        origin,
        error: 0,
        at_exec: false,
    };
    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: `child` runs on `stack`, which is ours, large enough for its few frames, and not in use; CLONE_VFORK keeps this thread, and so
    // everything that `shared` points to, in place until the child has execed or exited; `child` neither unwinds nor returns nor
    // allocates. With CLONE_PIDFD the kernel stores a new descriptor, owned by nobody else, through the fifth argument; with CLONE_CHILD_SETTID
    // a pid through the seventh, when the child begins to run, while the caller lends it.
    let pid = unsafe {
        libc::clone(
            child,
            stack.top(),
            flags,
            (&raw mut shared).cast(),
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
    // SAFETY: a plain read; volatile because it was written by another process behind the compiler's back.
    let error = unsafe { ptr::read_volatile(&raw const shared.error) };
    if error == 0 {
        return Ok(Noted { pid, pidfd });
    }
    // The child is gone already or about to be (it exits right after writing the error); nobody else knows of it.
    let mut status = 0;
    // SAFETY: `status` is a whole int; `pid` is our unreaped child.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == -1
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
    // SAFETY: as above.
    let at_exec = unsafe { ptr::read_volatile(&raw const shared.at_exec) };
    let cause = io::Error::from_raw_os_error(error);
    Err(if at_exec {
        Failure::NoProgram(cause)
    } else {
        Failure::NoProcess(cause)
    })
}

/// The child, from clone to exec: system calls only, on memory that the waiting parent owns.
extern "C" fn child(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `argument` is the `Shared` of `spawn`, whose thread waits (CLONE_VFORK), so this is the only access.
    let shared = unsafe { &mut *argument.cast::<Shared<'_>>() };
    let error = become_program(shared);
    // SAFETY: as above; volatile so that the store is made before the exit.
    unsafe {
        ptr::write_volatile(&raw mut shared.error, error);
        libc::_exit(127)
    }
}

/// Execs, or says with which errno it could not.
fn become_program(shared: &mut Shared<'_>) -> libc::c_int {
    // SAFETY (of every block here): plain system calls with numbers, or with pointers into memory that outlives the call. Until the first
    // one has succeeded the descriptor table is the parent's own, so nothing else may touch it.
    let flags = match shared.origin {
        Origin::Doorward => libc::CLOSE_RANGE_UNSHARE,
        Origin::Anywhere => libc::CLOSE_RANGE_UNSHARE | libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: gives this process a table of its own with the numbers below `low`, or with those from `low` close-on-exec; the parent's
    // table is not changed.
    if unsafe { libc::syscall(libc::SYS_close_range, shared.low, u32::MAX, flags) } == -1 {
        return errno();
    }
    for &(from, to) in shared.places {
        // SAFETY: numbers only; the table is this process's own. The copy is not close-on-exec.
        if unsafe { libc::dup2(from, to) } == -1 {
            // `from` is open: it is `to` that is beyond the limit, for which dup2(2) has the same word.
            return match errno() {
                libc::EBADF => libc::EMFILE,
                other => other,
            };
        }
    }
    if let Some(limit) = &shared.nofile {
        // SAFETY: `limit` is a whole rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) } == -1 {
            return errno();
        }
    }
    // SAFETY: no memory is involved; 0 and 0 mean this process, as leader of a group of its own.
    unsafe { libc::setpgid(0, 0) };
    if let Some(terminal) = shared.foreground {
        // SAFETY: no arguments; the raw call, because a cached answer would be the parent's.
        let own = unsafe { libc::syscall(libc::SYS_getpid) } as libc::pid_t;
        // SAFETY: the request reads one pid. No SIGTTOU stops this process: all signals are blocked here.
        if unsafe { libc::ioctl(terminal, libc::TIOCSPGRP, &raw const own) } == -1 {
            return errno();
        }
    }
    if !shared.pid_text.is_null() {
        write_pid(shared.pid_text);
    }
    if shared.origin == Origin::Anywhere {
        default_signals();
    }
    // The handlers that are left do nothing, so from here on a signal does to this process what it would do to the program.
    let none = [0u64; 1];
    // SAFETY: `none` is as large as the kernel's signal set (8 bytes); the previous mask is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            ptr::null_mut::<u64>(),
            8usize,
        )
    };
    shared.at_exec = true;
    // SAFETY: a C string and two NULL-terminated vectors of C strings, made by `CVec::seal`, all alive while the parent waits.
    unsafe { libc::execve(shared.path, shared.argv.cast(), shared.envp.cast()) };
    errno()
}

/// Every signal at its default: exec leaves ignored ones ignored. The table of handlers is this process's own (no CLONE_SIGHAND).
fn default_signals() {
    // The kernel's struct sigaction; all zero means SIG_DFL, four words hold it on every 64-bit machine.
    let default = [0usize; 8];
    for number in 1..=64 {
        // SAFETY: the array is at least as large as the kernel's struct, and 8 is the size of its signal set. SIGKILL and SIGSTOP, which
        // cannot be set, are at their default.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                ptr::null_mut::<usize>(),
                8usize,
            )
        };
    }
}

/// Writes this process's pid, without leading zeros (some readers take those for octal), and a zero byte.
fn write_pid(text: *mut u8) {
    // SAFETY: no arguments; the raw call, because a cached answer would be the parent's.
    let mut pid = unsafe { libc::syscall(libc::SYS_getpid) };
    let mut digits = [0u8; PID_DIGITS];
    let mut first = PID_DIGITS;
    while first > 0 && (pid > 0 || first == PID_DIGITS) {
        first -= 1;
        if let Some(digit) = digits.get_mut(first) {
            *digit = b'0' + (pid % 10) as u8;
        }
        pid /= 10;
    }
    // SAFETY: `text` points to room for PID_DIGITS bytes and the zero byte that `CVec::push_pid_room` put behind them, in a buffer that only
    // this process uses while its parent waits; at most PID_DIGITS + 1 bytes are written.
    unsafe {
        ptr::copy_nonoverlapping(digits.as_ptr().add(first), text, PID_DIGITS - first);
        text.add(PID_DIGITS - first).write(0);
    }
}

fn errno() -> libc::c_int {
    // SAFETY: the calling thread's errno; the child uses that of the parent's waiting thread, whose storage it shares.
    unsafe { *libc::__errno_location() }
}

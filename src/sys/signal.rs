//! Signals: blocked everywhere, read as a descriptor by the control thread; one real-time signal wakes doors.

use super::cvt;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// What the control thread reads. SIGUSR2 is blocked and read by nobody: kept free for an upgrade in place.
const READ: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
];

/// The signal that makes a door leave accept4 or a pause: it does nothing but interrupt.
fn wake() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn nothing(_: libc::c_int) {}

/// The next signal that a descriptor of signals holds; `None`: none that waits.
pub(crate) fn next(signals: &SignalFd) -> Option<Signal> {
    loop {
        let info = signals.read_signal().ok()??;
        let number = i32::try_from(info.ssi_signo).ok();
        // A number without a name is nobody's here.
        if let Some(signal) = number.and_then(|number| Signal::try_from(number).ok()) {
            return Some(signal);
        }
    }
}

/// Brings the process's signals into a known state, whatever the parent left, and returns the descriptor of the read ones.
///
/// Every disposition becomes the default, so that children inherit nothing but defaults (Rust ignores SIGPIPE and catches SIGSEGV and
/// SIGBUS; a parent may have left others ignored, 32 and 33 included). What the parent ignored, SIGPIPE and SIGXFSZ (both come
/// of writing a log line) are blocked instead, which for this process amounts to the same. Only [`wake`] has a handler, an empty one: it is
/// safe even in a child that shares our memory.
/// Call it before the first thread is started: the mask is inherited.
pub(crate) fn set_up() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for number in 1..=64 {
        if reset(number)?
            && let Ok(signal) = Signal::try_from(number)
        {
            mask.add(signal);
        }
    }
    for signal in READ
        .into_iter()
        .chain([Signal::SIGUSR2, Signal::SIGPIPE, Signal::SIGXFSZ])
    {
        mask.add(signal);
    }
    let action = libc::sigaction {
        sa_sigaction: nothing as *const () as usize,
        // SAFETY: an all-zero signal set is a valid (empty) one.
        sa_mask: unsafe { std::mem::zeroed() },
        // No SA_RESTART: accept4 shall return EINTR.
        sa_flags: 0,
        sa_restorer: None,
    };
    // SAFETY: the handler does nothing, so it is async-signal-safe; `action` outlives the call.
    cvt(unsafe { libc::sigaction(wake(), &raw const action, std::ptr::null_mut()) })?;
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    let read: SigSet = READ.into_iter().collect();
    Ok(SignalFd::with_flags(
        &read,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// Blocks SIGCHLD in this thread, and in those that it starts from now on, and returns a descriptor that is readable when a child has ended
/// since it was read last, however many have.
pub(crate) fn ends_of_children() -> io::Result<SignalFd> {
    let set = SigSet::from(Signal::SIGCHLD);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// Every signal at its default: for a program that takes this process over, and for a process that waits for its children.
pub(crate) fn all_default() -> io::Result<()> {
    (1..=64).try_for_each(|number| reset(number).map(drop))
}

/// Whether `signal` is ignored, as by nohup or a shell's background job.
pub(crate) fn is_ignored(signal: Signal) -> io::Result<bool> {
    // SAFETY: an all-zero sigaction is valid; with no new action the call only fills `old`.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above; `old` outlives the call.
    cvt(unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut old) })?;
    Ok(old.sa_sigaction == libc::SIG_IGN)
}

/// Ends this process by signal `number`, without a core file. Comes back only where that signal ends no process.
pub(crate) fn die_of(number: libc::c_int) {
    // Neither can fail in a way that matters: at worst there is a core file.
    let _ = nix::sys::prctl::set_dumpable(false);
    let _ = reset(number);
    // SAFETY: an all-zero set is a valid, empty one; the calls fill it, change the mask of this thread and send a signal to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        if libc::sigemptyset(&raw mut set) == 0 && libc::sigaddset(&raw mut set, number) == 0 {
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        }
        libc::raise(number);
    }
}

/// Ends this process as a write to a pipe without readers ends a filter, whatever Rust or the parent made of SIGPIPE. It returns where
/// that does not help.
pub(crate) fn die_of_broken_pipe() {
    let set = SigSet::from(Signal::SIGPIPE);
    let unblocked = pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
    if reset(libc::SIGPIPE).is_ok() && unblocked.is_ok() {
        let _ = nix::sys::signal::raise(Signal::SIGPIPE);
    }
}

/// Sets one signal to its default; says whether it was ignored.
///
/// The bare system call, because the C library refuses to touch 32 and 33, which some parents leave ignored.
fn reset(number: libc::c_int) -> io::Result<bool> {
    if number == libc::SIGKILL || number == libc::SIGSTOP {
        return Ok(false);
    }
    // The kernel's struct: handler, flags, (restorer,) mask; four words hold it on every 64-bit machine, all zero means SIG_DFL.
    let default = [0usize; 8];
    let mut old = [0usize; 8];
    // SAFETY: both arrays are at least as large as the kernel's struct sigaction, and 8 is the size of the kernel's signal set.
    let read = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            std::ptr::null::<usize>(),
            old.as_mut_ptr(),
            8usize,
        )
    };
    if read == -1 {
        return Err(io::Error::last_os_error());
    }
    let ignored = old[0] == libc::SIG_IGN;
    // 32 to 34 belong to the C library where it has a handler for them.
    if old[0] == libc::SIG_DFL || (32..=34).contains(&number) && !ignored {
        return Ok(false);
    }
    // SAFETY: as above; SIG_DFL runs no code of ours.
    let set = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            number,
            default.as_ptr(),
            std::ptr::null_mut::<usize>(),
            8usize,
        )
    };
    if set == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ignored)
    }
}

/// Interrupts the system call in which the thread of `handle` waits, if it waits in one.
pub(crate) fn interrupt<T>(handle: &JoinHandle<T>) {
    // SAFETY: a thread that was not joined or detached keeps its pthread_t valid, and `handle` is the proof that it was not.
    // An error (the thread has ended) means there is nothing to interrupt.
    // The standard library's word for a thread is a number where musl's is a pointer.
    unsafe { libc::pthread_kill(handle.as_pthread_t() as libc::pthread_t, wake()) };
}

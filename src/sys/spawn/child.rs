//! The child, from clone to exec: system calls only, on memory that is its parent's.
//!
//! It shares not only the memory of the thread that made it but its thread-local storage, and that thread may be running (see
//! [`super::Cradle`]). So no system call here goes through libc, which would write errno there.

use super::super::cvec::PID_DIGITS;
use super::{Job, MOST_SHORT, is_short};
use libc::c_int;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use syscalls::{Errno, Sysno, syscall};

/// In which process a child begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its signals are in the state that `signal::set_up` makes, and its numbers below `low` are in order.
    Doorward,
    /// Nothing is known of it.
    Anywhere,
}

/// What a child is to do. It reads them in its parent's memory, in which all that the pointers point to stays until its exec or exit.
pub(super) struct Orders {
    pub(super) path: *const libc::c_char,
    pub(super) argv: *const *mut libc::c_char,
    pub(super) envp: *const *mut libc::c_char,
    /// Room for the digits of the pid, and a zero byte; NULL: not wanted.
    pub(super) pid_text: *mut u8,
    pub(super) places: *const [(RawFd, RawFd)],
    pub(super) low: u32,
    pub(super) nofile: Option<libc::rlimit>,
    pub(super) foreground: Option<RawFd>,
    pub(super) origin: Origin,
    /// Where the child says that it has failed.
    pub(super) report: *const Report,
    /// Where a child that may wait says what it is short of; NULL: it may not, and fails.
    pub(super) short: *const AtomicI32,
}

impl Orders {
    /// What `job` says, in pointers: valid until what it borrows is changed.
    pub(super) fn of(
        job: Job<'_>,
        origin: Origin,
        report: *const Report,
        short: *const AtomicI32,
    ) -> Orders {
        let pid_at = job.pid_at;
        Orders {
            path: job.path.as_ptr(),
            argv: job.argv.seal().as_ptr(),
            envp: job.envp.seal().as_ptr(),
            pid_text: pid_at
                .and_then(|at| job.envp.address(at))
                .unwrap_or(ptr::null_mut()),
            places: job.places,
            low: job.low,
            nofile: job.nofile,
            foreground: job.foreground,
            origin,
            report,
            short,
        }
    }
}

/// Why a child has not become its program, written by the child into its parent's memory: which child, at which step, and errno.
#[derive(Debug, Default)]
pub(super) struct Report(AtomicU64);

/// Set in a report: the step that failed was execve.
const AT_EXEC: u64 = 1 << 31;

impl Report {
    fn put(&self, failed: Failed) {
        self.set(pid(), failed.errno.into_raw(), failed.at_exec);
    }

    fn set(&self, pid: usize, errno: c_int, at_exec: bool) {
        let step = if at_exec { AT_EXEC } else { 0 };
        // No child has pid 0, so neither is the word.
        let word = (pid as u64) << 32 | step | u64::from(errno.unsigned_abs());
        self.0.store(word, Ordering::Release);
    }

    /// What the only child that could write it says: errno, and whether it is that of execve.
    pub(super) fn get(&self) -> Option<(c_int, bool)> {
        let word = self.0.load(Ordering::Acquire);
        (word != 0).then(|| parts(word))
    }

    /// Takes the report of this child, if there is one: errno, and whether it is that of execve.
    pub(super) fn take(&self, pid: libc::pid_t) -> Option<(c_int, bool)> {
        let word = self.0.load(Ordering::Acquire);
        let is_its = word != 0 && word >> 32 == u64::from(pid.unsigned_abs());
        // Who is late finds it gone, and another child's stays.
        let is_mine = is_its
            && self
                .0
                .compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        is_mine.then(|| parts(word))
    }
}

fn parts(word: u64) -> (c_int, bool) {
    ((word & (AT_EXEC - 1)) as c_int, word & AT_EXEC != 0)
}

/// The step that failed.
struct Failed {
    errno: Errno,
    at_exec: bool,
}

/// Any step before execve.
impl From<Errno> for Failed {
    fn from(errno: Errno) -> Failed {
        Failed {
            errno,
            at_exec: false,
        }
    }
}

/// What a child is short of may be there a little later.
static WAIT: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Where clone(2) begins: `argument` is the `Orders`.
pub(super) extern "C" fn begin(argument: *mut libc::c_void) -> c_int {
    // SAFETY: `argument` is the `Orders` of whoever called clone, which stay as they are until the child has execed or exited.
    let orders = unsafe { &*argument.cast::<Orders>() };
    if let Err(failed) = become_program(orders) {
        // SAFETY: as above, also for what its pointers point to.
        unsafe { &*orders.report }.put(failed);
    }
    // What clone's wrapper exits with.
    127
}

/// Execs, or says with which errno it could not.
fn become_program(orders: &Orders) -> Result<(), Failed> {
    // SAFETY (of every block here): plain system calls with numbers, or with pointers into memory that outlives the call. Until the first
    // one has succeeded the descriptor table may be the parent's own, so nothing else may touch it.
    let flags = match orders.origin {
        Origin::Doorward => libc::CLOSE_RANGE_UNSHARE,
        Origin::Anywhere => libc::CLOSE_RANGE_UNSHARE | libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: gives this process a table of its own with the numbers below `low`, or with those from `low` close-on-exec; a table that was
    // the parent's is not changed.
    unsafe { syscall!(Sysno::close_range, orders.low, u32::MAX, flags)? };
    while let Err(errno) = put_in_place(orders) {
        if orders.short.is_null() || errno != Errno::EMFILE {
            return Err(errno.into());
        }
        // The limit was lowered under us. Its door would try again with a new child; this one waits until it may have as many as that.
        wait(orders, errno);
        set_limit(&limit_of_parent()?)?;
    }
    if let Some(limit) = &orders.nofile {
        set_limit(limit)?;
    }
    // SAFETY: no memory is involved; 0 and 0 mean this process, as leader of a group of its own.
    let _ = unsafe { syscall!(Sysno::setpgid, 0, 0) };
    if let Some(terminal) = orders.foreground {
        let own = pid() as libc::pid_t;
        // SAFETY: the request reads one pid. No SIGTTOU stops this process: all signals are blocked here.
        unsafe { syscall!(Sysno::ioctl, terminal, libc::TIOCSPGRP, &raw const own)? };
    }
    if !orders.pid_text.is_null() {
        write_pid(orders.pid_text);
    }
    if orders.origin == Origin::Anywhere {
        default_signals();
    }
    // The handlers that are left do nothing, so from here on a signal does to this process what it would do to the program.
    let none = [0u64; 1];
    // SAFETY: `none` is as large as the kernel's signal set (8 bytes); the previous mask is not asked for.
    let _ = unsafe {
        syscall!(
            Sysno::rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            0,
            8
        )
    };
    Err(Failed {
        errno: exec(orders),
        at_exec: true,
    })
}

/// Gives each descriptor its number.
fn put_in_place(orders: &Orders) -> Result<(), Errno> {
    // SAFETY: the slice is alive as `orders` are.
    for &(from, to) in unsafe { &*orders.places } {
        // SAFETY: numbers only; the table is this process's own. The copy is not close-on-exec.
        let put = unsafe { syscall!(Sysno::dup3, from, to, 0) };
        // `from` is open: where dup3(2) says EBADF, it is `to` that is beyond the limit.
        put.map_err(|errno| {
            if errno == Errno::EBADF {
                Errno::EMFILE
            } else {
                errno
            }
        })?;
    }
    Ok(())
}

/// How many descriptors our parent may have.
fn limit_of_parent() -> Result<libc::rlimit, Errno> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: no arguments.
    let parent = unsafe { syscall!(Sysno::getppid)? };
    // SAFETY: `limit` is a whole rlimit, which has 64 bits on every machine that we run on; no new one is given.
    unsafe {
        syscall!(
            Sysno::prlimit64,
            parent,
            libc::RLIMIT_NOFILE,
            0,
            &raw mut limit
        )?
    };
    Ok(limit)
}

fn set_limit(limit: &libc::rlimit) -> Result<(), Errno> {
    // SAFETY: `limit` is a whole rlimit, as above; 0 is this process, and the one before is not asked for.
    unsafe {
        syscall!(
            Sysno::prlimit64,
            0,
            libc::RLIMIT_NOFILE,
            ptr::from_ref(limit),
            0
        )?
    };
    Ok(())
}

/// Execs; comes back with what is in the way, at once or, where it may pass and the child may wait, after some seconds.
fn exec(orders: &Orders) -> Errno {
    let mut waits = 0;
    loop {
        // SAFETY: a C string and two NULL-terminated vectors of C strings, made by `CVec::seal`, all alive as `orders` are.
        let Err(errno) =
            (unsafe { syscall!(Sysno::execve, orders.path, orders.argv, orders.envp) })
        else {
            // Whose success does not come back.
            continue;
        };
        if orders.short.is_null() || !is_short(errno.into_raw()) || waits == MOST_SHORT {
            return errno;
        }
        waits += 1;
        wait(orders, errno);
    }
}

/// Waits a little for what this child is short of, and says so.
fn wait(orders: &Orders, errno: Errno) {
    close_others(orders);
    // SAFETY: only a child whose `short` is not NULL waits; it is alive as `orders` are.
    unsafe { &*orders.short }.store(errno.into_raw(), Ordering::Relaxed);
    // SAFETY: `WAIT` is a whole timespec; the rest is not asked for. A signal that ends the wait early does no harm.
    let _ = unsafe { syscall!(Sysno::nanosleep, &raw const WAIT, 0) };
}

/// Closes what execve would: connections of other doors, whose clients must not wait for this child.
fn close_others(orders: &Orders) {
    // SAFETY: the slice is alive as `orders` are.
    let places = unsafe { &*orders.places };
    for number in 0..orders.low.cast_signed() {
        if places.iter().any(|(from, _)| *from == number) {
            continue;
        }
        // SAFETY: numbers only; the table is this process's own.
        let flags = unsafe { syscall!(Sysno::fcntl, number, libc::F_GETFD) };
        if flags.is_ok_and(|flags| flags & libc::FD_CLOEXEC as usize != 0) {
            // SAFETY: as above; nothing in this process uses the descriptor.
            let _ = unsafe { syscall!(Sysno::close, number) };
        }
    }
}

/// Every signal at its default: exec leaves ignored ones ignored. The table of handlers is this process's own (no CLONE_SIGHAND).
fn default_signals() {
    // The kernel's struct sigaction; all zero means SIG_DFL, four words hold it on every 64-bit machine.
    let default = [0usize; 8];
    for number in 1..=64 {
        // SAFETY: the array is at least as large as the kernel's struct, and 8 is the size of its signal set. SIGKILL and SIGSTOP, which
        // cannot be set, are at their default.
        let _ = unsafe { syscall!(Sysno::rt_sigaction, number, default.as_ptr(), 0, 8) };
    }
}

/// This process's pid.
fn pid() -> usize {
    // SAFETY: no arguments; it cannot fail.
    unsafe { syscall!(Sysno::getpid) }.unwrap_or(0)
}

/// Writes this process's pid, without leading zeros (some readers take those for octal), and a zero byte.
fn write_pid(text: *mut u8) {
    let mut pid = pid();
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
    // this process uses until its exec; at most PID_DIGITS + 1 bytes are written.
    unsafe {
        ptr::copy_nonoverlapping(digits.as_ptr().add(first), text, PID_DIGITS - first);
        text.add(PID_DIGITS - first).write(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_its_child_s_and_is_taken_once() {
        let report = Report::default();
        assert_eq!(report.take(0), None);
        report.set(7, libc::ENOENT, true);
        assert_eq!(report.take(8), None);
        assert_eq!(report.take(7), Some((libc::ENOENT, true)));
        assert_eq!(report.take(7), None);
        report.set(i32::MAX as usize, libc::EMFILE, false);
        assert_eq!(report.take(i32::MAX), Some((libc::EMFILE, false)));
    }
}

//! A child whose parent goes on at once: it has a place of its own until it is its program.
//!
//! With vfork a door sleeps until its child's exec, and is woken then: two changes of the processor's task for each connection, which with
//! many clients at once cost a tenth of their rate. Here the child gets a copy of the descriptor table in place of a look at ours, so that
//! its door may close the connection and accept the next one meanwhile. That copy grows with the table: it is for who has few children.

use super::child::{self, Orders, Origin, Report};
use super::stack::Stack;
use super::{Failure, Job, Noted, create};
use crate::sys::cvec::CVec;
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// What whoever reaps should know of a cradle's children.
#[derive(Debug, Default)]
pub(crate) struct Note {
    /// The pid of the last one, from before it runs; who reads it says when it means nothing any more, and writes 0.
    pub(crate) pid: AtomicI32,
    report: Report,
}

impl Note {
    /// Why this child, which was launched, has ended without becoming its program. Tells it once.
    pub(crate) fn failure(&self, pid: libc::pid_t) -> Option<Failure> {
        self.report.take(pid).map(Failure::reported)
    }
}

/// What a child that is launched becomes; the fields are those of [`super::Job`].
pub(crate) struct Launch<'a> {
    pub(crate) path: &'static CStr,
    pub(crate) pid_at: Option<usize>,
    pub(crate) places: &'a [(RawFd, RawFd)],
    pub(crate) low: u32,
    pub(crate) nofile: Option<libc::rlimit>,
}

impl Launch<'_> {
    /// The same with these vectors and places.
    fn job<'a>(
        &self,
        argv: &'a mut CVec,
        envp: &'a mut CVec,
        places: &'a [(RawFd, RawFd)],
    ) -> Job<'a> {
        Job {
            path: self.path,
            argv,
            envp,
            pid_at: self.pid_at,
            places,
            low: self.low,
            nofile: self.nofile,
            foreground: None,
        }
    }
}

/// Where one child after the other is prepared, and stays from clone to exec.
pub(crate) struct Cradle {
    /// On the heap, for it must not move while a child is in it.
    place: Box<Place>,
}

struct Place {
    stack: Stack,
    argv: CVec,
    envp: CVec,
    places: Vec<(RawFd, RawFd)>,
    orders: Option<Orders>,
    note: Arc<Note>,
    /// What the child waits for, as errno.
    short: AtomicI32,
    /// Not 0 while a child is in here: the kernel makes it so, and wakes who waits for it (CLONE_CHILD_CLEARTID).
    taken: AtomicI32,
}

// SAFETY: what makes it not `Send` are the pointers of `orders`, which point into the same value, to strings and limits that live as long as
// the process, and to `note`; nothing of that depends on the thread.
unsafe impl Send for Place {}

impl Cradle {
    /// # Errors
    /// There is no memory for the stack.
    pub(crate) fn new(note: Arc<Note>) -> io::Result<Cradle> {
        Ok(Cradle {
            place: Box::new(Place {
                stack: Stack::new()?,
                argv: CVec::default(),
                envp: CVec::default(),
                places: Vec::new(),
                orders: None,
                note,
                short: AtomicI32::new(0),
                taken: AtomicI32::new(0),
            }),
        })
    }

    /// Whether no child is in it.
    pub(crate) fn is_free(&self) -> bool {
        !self.place.is_taken()
    }

    /// Waits until no child is in it.
    ///
    /// # Errors
    /// After `patience` the child still waits for something that it is short of: this.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<()> {
        let place = &*self.place;
        while place.is_taken() {
            place.wait(Some(patience));
            let short = place.short.load(Ordering::Relaxed);
            if short != 0 && place.is_taken() {
                return Err(io::Error::from_raw_os_error(short));
            }
        }
        Ok(())
    }

    /// The arguments and the environment for the next child, once no child is in it.
    pub(crate) fn parts(&mut self) -> (&mut CVec, &mut CVec) {
        self.place.vacate();
        let place = &mut *self.place;
        (&mut place.argv, &mut place.envp)
    }

    /// As [`super::spawn`], with `argv` in place of its own if there is one. The child's pid is in the note before the child does anything:
    /// however early it ends, who reaps it can know it. It has a pidfd if one is wanted: to make and to close one costs a tenth of a
    /// connection.
    pub(crate) fn run(
        &mut self,
        launch: &Launch<'_>,
        argv: Option<&mut CVec>,
        wants_pidfd: bool,
    ) -> Result<Noted, Failure> {
        self.place.vacate();
        let place = &mut *self.place;
        let argv = argv.unwrap_or(&mut place.argv);
        let job = launch.job(argv, &mut place.envp, launch.places);
        let pidfd = if wants_pidfd { libc::CLONE_PIDFD } else { 0 };
        let flags = pidfd | libc::CLONE_CHILD_SETTID;
        let note = place.note.pid.as_ptr();
        create(&mut place.stack, job, Origin::Doorward, flags, note)
    }

    /// As [`Cradle::run`], and does not wait for the exec: a child that cannot become its program ends with status 127, and tells why in the
    /// note. For what may pass it waits some seconds itself. Whoever calls this may close at once what the child was given.
    ///
    /// # Errors
    /// [`Failure::NoProcess`] alone.
    pub(crate) fn launch(&mut self, launch: &Launch<'_>) -> Result<Noted, Failure> {
        self.place.vacate();
        let place = &mut *self.place;
        place.places.clear();
        place.places.extend_from_slice(launch.places);
        place.short.store(0, Ordering::Relaxed);
        let job = launch.job(&mut place.argv, &mut place.envp, &place.places);
        let report = &raw const place.note.report;
        let orders = Orders::of(job, Origin::Doorward, report, &raw const place.short);
        let orders = ptr::from_mut(place.orders.insert(orders)).cast();
        place.taken.store(1, Ordering::Relaxed);
        let flags =
            libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
        // SAFETY: the child runs on this place's stack, which no other child is on (`vacate`) and which is large enough for its few frames.
        // All that `orders` point to is this place's or lives longer, and nobody changes or frees it before `taken` is 0 again (`vacate`, in
        // every method that could), which the kernel writes at exec or exit, when the child is done with our memory. The child neither
        // unwinds nor allocates, and does not touch the thread-local storage that it shares with this thread. Both words that the kernel
        // writes are atomic and live as long; the pid is written before the child runs.
        let pid = unsafe {
            libc::clone(
                child::begin,
                place.stack.top(),
                flags,
                orders,
                place.note.pid.as_ptr(),
                ptr::null_mut::<libc::c_void>(),
                place.taken.as_ptr(),
            )
        };
        if pid == -1 {
            let cause = io::Error::last_os_error();
            place.taken.store(0, Ordering::Relaxed);
            return Err(Failure::NoProcess(cause));
        }
        Ok(Noted { pid, pidfd: None })
    }
}

impl Place {
    fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire) != 0
    }

    fn vacate(&self) {
        while self.is_taken() {
            self.wait(None);
        }
    }

    /// `futex(FUTEX_WAIT)` until no child is in here, at most for `patience`; it may end early. Not private: the kernel's wake is not.
    fn wait(&self, patience: Option<Duration>) {
        let limit = patience.map(|patience| libc::timespec {
            tv_sec: patience.as_secs() as _,
            tv_nsec: patience.subsec_nanos() as _,
        });
        // SAFETY: the word is an aligned int that outlives the call; the limit is NULL or a whole timespec.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.taken.as_ptr(),
                libc::FUTEX_WAIT,
                1,
                limit.as_ref().map_or(ptr::null(), ptr::from_ref),
            )
        };
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.vacate();
    }
}

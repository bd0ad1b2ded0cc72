//! One child for each connection: its descriptors, its arguments, its environment, and the start.
#![forbid(unsafe_code)]

use super::env::Template;
use super::landing::{Landing, Landings};
use super::layout::{Channels, LAYOUTS_END, NOTIFY, PIDFD};
use super::program::Program;
use super::seat::Seat;
use super::{Admitted, Beside, Deliver, Held, Newborn, Trouble};
use crate::report::Escaped;
use crate::sys;
use crate::sys::spawn::{Failure, Launch, MOST_SHORT, Noted, is_short};
use nix::libc;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is the same for every child of this process.
pub(crate) struct Recipe {
    pub(crate) program: Program,
    /// execlineb, if there is one, for the `exec` of a rule.
    pub(crate) execlineb: Option<CString>,
    pub(crate) template: Template,
    pub(crate) channels: Channels,
    /// A child's descriptor table holds the numbers below this alone; doorward keeps its own above.
    pub(crate) low: RawFd,
    /// The descriptor limit that children get back.
    pub(crate) nofile: Option<libc::rlimit>,
    /// Stands in for what is not there.
    pub(crate) null: OwnedFd,
    /// The last child that was waited for has become its program.
    pub(crate) is_proven: AtomicBool,
}

impl Recipe {
    /// Whether so many come that a door is not to wait for its child's exec. With fewer the processors have time, and a door that sleeps
    /// meanwhile leaves its child more of it; and what fails for all is better known by the door.
    fn is_crowded(&self, slots: u32) -> bool {
        slots >= CROWD && self.is_proven.load(Ordering::Relaxed)
    }

    /// A child that was waited for has become its program, or has not.
    fn prove(&self, is_program: bool, became: bool) {
        // All doors read it: it is written when it changes.
        if is_program && self.is_proven.load(Ordering::Relaxed) != became {
            self.is_proven.store(became, Ordering::Relaxed);
        }
    }

    /// What is run: the program, or what runs a rule's script.
    fn path(&self, script: Option<&[u8]>) -> Result<&CStr, Trouble> {
        match (script, &self.execlineb) {
            (None, _) => Ok(&self.program.path),
            (Some(_), Some(execlineb)) => Ok(execlineb),
            (Some(_), None) => {
                let cause = io::Error::from_raw_os_error(libc::ENOENT);
                Err(Trouble::Program("execlineb".to_owned(), cause))
            }
        }
    }
}

/// A door's own place of work: what it uses again for each child, and nobody else touches.
pub(super) struct Bench {
    recipe: &'static Recipe,
    /// Where the last child was prepared.
    seat: Seat,
    /// Where those before it were, the last of them last.
    others: VecDeque<Seat>,
    /// Numbers that a child can have, for what stands too high.
    landing: Landing,
    /// How often in a row execve was short of something.
    short: u32,
    newborn: Arc<Newborn>,
}

/// So many children of a door may be on their way to their programs at the same time.
const SEATS: usize = 4;
/// Slots in use that make a crowd.
const CROWD: u32 = 4;

/// A descriptor at a number that a child can have.
struct Landed {
    number: RawFd,
    /// Whether it stands on a landing (which then must be cleared).
    moved: bool,
}

impl Bench {
    /// # Errors
    /// There is no memory for the stack, or no landing left.
    pub(super) fn new(recipe: &'static Recipe, landings: &mut Landings) -> io::Result<Bench> {
        let newborn = Arc::new(Newborn::default());
        let landing = landings
            .take()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        Ok(Bench {
            recipe,
            seat: Seat::new(recipe, &newborn.note)?,
            others: VecDeque::new(),
            landing,
            short: 0,
            newborn,
        })
    }

    fn land(
        &self,
        admitted: &Admitted<'_>,
        beside: &Beside,
        places: &mut Places,
    ) -> Result<(), Trouble> {
        let recipe = self.recipe;
        let connection = self.landed(0, &admitted.connection)?;
        places.moved[0] = connection.moved;
        for &number in recipe.channels.layout.connection() {
            places.put(connection.number, number);
        }
        for (index, descriptor, number) in [(1, &beside.notify, NOTIFY), (2, &beside.pidfd, PIDFD)]
        {
            if let Some(descriptor) = descriptor {
                let landed = self.landed(index, descriptor)?;
                places.moved[index] = landed.moved;
                places.put(landed.number, number);
            }
        }
        Ok(())
    }

    fn landed(&self, index: usize, descriptor: &OwnedFd) -> Result<Landed, Trouble> {
        // Below, the child would put something else on it; from `low` on, it has no copy.
        if (LAYOUTS_END..self.recipe.low).contains(&descriptor.as_raw_fd()) {
            return Ok(Landed {
                number: descriptor.as_raw_fd(),
                moved: false,
            });
        }
        let Some(landing) = self.landing.get(index).and_then(Option::as_ref) else {
            return Err(Trouble::Later(
                "move a descriptor",
                io::Error::from_raw_os_error(libc::EBADF),
            ));
        };
        sys::fd::replace(descriptor.as_fd(), landing)
            .map_err(|error| Trouble::Later("move a descriptor", error))?;
        Ok(Landed {
            number: landing.as_raw_fd(),
            moved: true,
        })
    }

    /// The connection's child: on its way to its program or, where that was to be waited for, there.
    fn start(&mut self, admitted: &Admitted<'_>, places: &Places) -> Result<Noted, Trouble> {
        let recipe = self.recipe;
        let script = admitted.exec;
        let path = recipe.path(script)?;
        self.take_seat()?;
        let launch = Launch {
            path,
            pid_at: self.seat.write_environment(admitted),
            places: places.used(),
            low: recipe.low.unsigned_abs(),
            nofile: recipe.nofile,
        };
        let wants_pidfd = self.newborn.wants_pidfd.load(Ordering::Relaxed);
        let child = if script.is_none() && !wants_pidfd && recipe.is_crowded(admitted.slots) {
            self.seat.launch(&launch)
        } else {
            let child = self.seat.run(&launch, script, wants_pidfd);
            recipe.prove(script.is_none(), child.is_ok());
            child
        };
        self.judge(child, path)
    }

    /// A seat that no child needs any more: the last one, or the one that was used first, or one more.
    fn take_seat(&mut self) -> Result<(), Trouble> {
        if self.seat.is_free() {
            return Ok(());
        }
        let is_free = self.others.front().is_some_and(Seat::is_free);
        let one_more = !is_free && self.others.len() + 1 < SEATS;
        let new = one_more.then(|| Seat::new(self.recipe, &self.newborn.note));
        // Without memory for it there are fewer.
        let new = new.and_then(Result::ok);
        if let Some(next) = new.or_else(|| self.others.pop_front()) {
            self.others.push_back(mem::replace(&mut self.seat, next));
        }
        self.seat.clear()
    }

    /// What is worth trying again, and what is not.
    fn judge(&mut self, child: Result<Noted, Failure>, path: &CStr) -> Result<Noted, Trouble> {
        match child {
            Ok(child) => {
                self.short = 0;
                Ok(child)
            }
            Err(Failure::NoProcess(error)) => Err(Trouble::Later("create a child", error)),
            // execve is short of something that may pass; but a program that always is must not keep the door for ever.
            Err(Failure::NoProgram(error))
                if error.raw_os_error().is_some_and(is_short) && self.short < MOST_SHORT =>
            {
                self.short += 1;
                Err(Trouble::Later("run the program", error))
            }
            Err(Failure::NoProgram(error)) => {
                self.short = 0;
                Err(Trouble::Program(
                    Escaped(path.to_bytes()).to_string(),
                    error,
                ))
            }
        }
    }
}

impl Deliver for Bench {
    fn newborn(&self) -> Option<Arc<Newborn>> {
        Some(Arc::clone(&self.newborn))
    }

    fn deliver(&mut self, admitted: &Admitted<'_>, beside: &mut Beside) -> Result<Held, Trouble> {
        beside.make(self.recipe.channels, admitted)?;
        let mut places = Places::default();
        let child = self
            .land(admitted, beside, &mut places)
            .and_then(|()| self.start(admitted, &places));
        for landing in self
            .landing
            .iter()
            .zip(places.moved)
            .filter_map(|(landing, moved)| landing.as_ref().filter(|_| moved))
        {
            // Cannot fail where it did not before: the number is open and stays so.
            let _ = sys::fd::replace(self.recipe.null.as_fd(), landing);
        }
        child.map(Held::Child)
    }
}

/// Where a child puts what it was given; at most the connection twice, 8 and 9.
#[derive(Default)]
struct Places {
    places: [(RawFd, RawFd); 4],
    count: usize,
    /// Which landings are in use.
    moved: [bool; 3],
}

impl Places {
    fn put(&mut self, from: RawFd, to: RawFd) {
        if let Some(place) = self.places.get_mut(self.count) {
            *place = (from, to);
            self.count += 1;
        }
    }

    fn used(&self) -> &[(RawFd, RawFd)] {
        self.places.get(..self.count).unwrap_or_default()
    }
}

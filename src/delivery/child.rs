//! One child for each connection: its descriptors, its arguments, its environment, and the start.
#![forbid(unsafe_code)]

use super::env::{Connection, Template};
use super::landing::{Landing, Landings};
use super::layout::{Channels, LAYOUTS_END, NOTIFY, PIDFD};
use super::program::Program;
use super::{Admitted, Beside, Deliver, Held, Newborn, Trouble};
use crate::report::Escaped;
use crate::sys;
use crate::sys::cvec::CVec;
use crate::sys::spawn::{Failure, Job, Noted, Stack, spawn_noted};
use nix::libc;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
}

/// A door's own place of work: what it uses again for each child, and nobody else touches.
pub(super) struct Bench {
    recipe: &'static Recipe,
    stack: Stack,
    argv: CVec,
    script_argv: CVec,
    env: CVec,
    /// Where the inherited part of `env` ends.
    inherited: (usize, usize),
    /// Numbers that a child can have, for what stands too high.
    landing: Landing,
    /// How often in a row execve was short of something.
    short: u32,
    newborn: Arc<Newborn>,
}

/// After so many tries, some seconds, execve's refusal is final.
const MOST_SHORT: u32 = 60;

fn is_short(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE)
    )
}

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
        let mut env = CVec::default();
        let inherited = recipe.template.begin(&mut env);
        let mut argv = CVec::default();
        for word in &recipe.program.argv {
            argv.push(&[word.as_bytes()]);
        }
        let landing = landings
            .take()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        Ok(Bench {
            recipe,
            stack: Stack::new()?,
            argv,
            script_argv: CVec::default(),
            env,
            inherited,
            landing,
            short: 0,
            newborn: Arc::default(),
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

    fn start(&mut self, admitted: &Admitted<'_>, places: &Places) -> Result<Noted, Trouble> {
        let recipe = self.recipe;
        let (path, argv): (&CStr, _) = match (admitted.exec, &recipe.execlineb) {
            (None, _) => (&recipe.program.path, &mut self.argv),
            (Some(script), Some(execlineb)) => {
                self.script_argv.clear();
                for word in [b"execlineb", &b"-Pc"[..], script] {
                    self.script_argv.push(&[word]);
                }
                (execlineb, &mut self.script_argv)
            }
            (Some(_), None) => {
                let cause = io::Error::from_raw_os_error(libc::ENOENT);
                return Err(Trouble::Program("execlineb".to_owned(), cause));
            }
        };
        let connection = Connection::of(admitted);
        let (pid_at, changed) = recipe.template.finish(&mut self.env, &connection);
        let child = spawn_noted(
            &mut self.stack,
            Job {
                path,
                argv,
                envp: &mut self.env,
                pid_at,
                places: places.used(),
                low: recipe.low.unsigned_abs(),
                nofile: recipe.nofile,
                foreground: None,
            },
            &self.newborn.pid,
            self.newborn.wants_pidfd.load(Ordering::Relaxed),
        );
        if changed {
            self.inherited = recipe.template.begin(&mut self.env);
        } else {
            self.env.rewind(self.inherited);
        }
        if child.is_ok() {
            self.short = 0;
        }
        child.map_err(|failure| match failure {
            Failure::NoProcess(error) => Trouble::Later("create a child", error),
            // execve is short of something that may pass; but a program that always is must not keep the door for ever.
            Failure::NoProgram(error) if is_short(&error) && self.short < MOST_SHORT => {
                self.short += 1;
                Trouble::Later("run the program", error)
            }
            Failure::NoProgram(error) => {
                self.short = 0;
                Trouble::Program(Escaped(path.to_bytes()).to_string(), error)
            }
        })
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

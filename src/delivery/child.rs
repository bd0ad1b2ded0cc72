//! One child for each connection: its descriptors, its arguments, its environment, and the start.
#![forbid(unsafe_code)]

use super::env::{Connection, Template};
use super::greeting::{Ungreeted, greet};
use super::landing::{END, Landing, Landings};
use super::layout::{Channels, NOTIFY, PIDFD};
use super::program::Program;
use crate::admission::Peer;
use crate::sys;
use crate::sys::cvec::CVec;
use crate::sys::spawn::{Child, Failure, Job, Stack, spawn};
use nix::libc;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

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

/// An admitted connection, to be delivered.
pub(crate) struct Admitted<'a> {
    pub(crate) connection: OwnedFd,
    pub(crate) peer: &'a Peer,
    pub(crate) peer_name: &'a [u8],
    pub(crate) local_path: &'a OsStr,
    pub(crate) number: u32,
    pub(crate) rule_env: &'a [(Vec<u8>, Option<Vec<u8>>)],
    /// The rule's execline script, in place of the program.
    pub(crate) exec: Option<&'a [u8]>,
}

/// Why a connection got no child.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A limit, or no memory: try again with the same connection. What was tried, and why not.
    Later(&'static str, io::Error),
    /// The connection is lost: its client takes no descriptors or is gone.
    Client(&'static str, io::Error),
    /// The program cannot be run.
    Program(io::Error),
}

/// A door's own place of work: what it uses again for each child, and nobody else touches.
pub(crate) struct Bench {
    stack: Stack,
    argv: CVec,
    script_argv: CVec,
    env: CVec,
    /// Where the inherited part of `env` ends.
    inherited: (usize, usize),
    /// Numbers that a child can have, for what stands too high.
    landing: Landing,
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
    pub(crate) fn new(recipe: &Recipe, landings: &mut Landings) -> io::Result<Bench> {
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
            stack: Stack::new()?,
            argv,
            script_argv: CVec::default(),
            env,
            inherited,
            landing,
        })
    }

    /// Starts the child. After [`Trouble::Later`] call it again with the same `Greeted`.
    pub(crate) fn deliver(
        &mut self,
        recipe: &Recipe,
        admitted: &Admitted<'_>,
        greeted: &mut Greeted,
    ) -> Result<Child, Trouble> {
        greeted.prepare(recipe, admitted)?;
        let mut places = Places::default();
        let result = self
            .land(recipe, admitted, greeted, &mut places)
            .and_then(|()| self.start(recipe, admitted, &places));
        for landing in self
            .landing
            .iter()
            .zip(places.moved)
            .filter_map(|(landing, moved)| landing.as_ref().filter(|_| moved))
        {
            // Cannot fail where it did not before: the number is open and stays so.
            let _ = sys::fd::replace(recipe.null.as_fd(), landing);
        }
        result
    }

    fn land(
        &self,
        recipe: &Recipe,
        admitted: &Admitted<'_>,
        greeted: &Greeted,
        places: &mut Places,
    ) -> Result<(), Trouble> {
        let connection = self.landed(recipe, 0, &admitted.connection)?;
        places.moved[0] = connection.moved;
        for &number in recipe.channels.layout.connection() {
            places.put(connection.number, number);
        }
        for (index, descriptor, number) in
            [(1, &greeted.notify, NOTIFY), (2, &greeted.pidfd, PIDFD)]
        {
            if let Some(descriptor) = descriptor {
                let landed = self.landed(recipe, index, descriptor)?;
                places.moved[index] = landed.moved;
                places.put(landed.number, number);
            }
        }
        Ok(())
    }

    fn landed(
        &self,
        recipe: &Recipe,
        index: usize,
        descriptor: &OwnedFd,
    ) -> Result<Landed, Trouble> {
        // Below, the child would put something else on it; from `low` on, it has no copy.
        if (END..recipe.low).contains(&descriptor.as_raw_fd()) {
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

    fn start(
        &mut self,
        recipe: &Recipe,
        admitted: &Admitted<'_>,
        places: &Places,
    ) -> Result<Child, Trouble> {
        let connection = Connection {
            peer: admitted.peer,
            peer_name: admitted.peer_name,
            local_path: admitted.local_path,
            number: admitted.number,
            rule: admitted.rule_env,
        };
        let (pid_at, changed) = recipe.template.finish(&mut self.env, &connection);
        let path: &CStr = match admitted.exec {
            None => &recipe.program.path,
            Some(script) => {
                self.script_argv.clear();
                for word in [b"execlineb", &b"-Pc"[..], script] {
                    self.script_argv.push(&[word]);
                }
                recipe
                    .execlineb
                    .as_deref()
                    .ok_or_else(|| Trouble::Program(io::Error::from_raw_os_error(libc::ENOENT)))?
            }
        };
        let child = spawn(
            &mut self.stack,
            Job {
                path,
                argv: if admitted.exec.is_some() {
                    &mut self.script_argv
                } else {
                    &mut self.argv
                },
                envp: &mut self.env,
                pid_at,
                places: places.used(),
                low: recipe.low.unsigned_abs(),
                nofile: recipe.nofile,
            },
        );
        if changed {
            self.inherited = recipe.template.begin(&mut self.env);
        } else {
            self.env.rewind(self.inherited);
        }
        child.map_err(|failure| match failure {
            Failure::NoProcess(error) => Trouble::Later("create a child", error),
            Failure::NoProgram(error) => Trouble::Program(error),
        })
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

/// What goes beside the connection, made once for each, however often the start is tried.
#[derive(Default)]
pub(crate) struct Greeted {
    notify: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
}

impl Greeted {
    fn prepare(&mut self, recipe: &Recipe, admitted: &Admitted<'_>) -> Result<(), Trouble> {
        let connection = admitted.connection.as_fd();
        if recipe.channels.pidfd && self.pidfd.is_none() {
            let pidfd =
                nix::sys::socket::getsockopt(&connection, nix::sys::socket::sockopt::PeerPidfd);
            self.pidfd = Some(pidfd.map_err(|error| match error {
                nix::errno::Errno::EMFILE
                | nix::errno::Errno::ENFILE
                | nix::errno::Errno::ENOMEM => Trouble::Later("get the peer's pidfd", error.into()),
                error => Trouble::Client("get the peer's pidfd", error.into()),
            })?);
        }
        // Last, because from here on the client has been told that it is served.
        if recipe.channels.notify && self.notify.is_none() {
            self.notify = Some(greet(connection).map_err(|ungreeted| match ungreeted {
                Ungreeted::Later(error) => Trouble::Later("send a greeting", error.into()),
                Ungreeted::Client(error) => Trouble::Client("send a greeting", error.into()),
            })?);
        }
        Ok(())
    }
}

//! Where a child's arguments and environment are written, and stay until it is its program.
#![forbid(unsafe_code)]

use super::child::Recipe;
use super::env::Connection;
use super::{Admitted, Trouble};
use crate::sys::cvec::CVec;
use crate::sys::spawn::{Cradle, Failure, Launch, Note, Noted};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a door waits for the last child before it asks what that is short of.
const PATIENCE: Duration = Duration::from_millis(50);

/// One child's, with what is the same for the next.
pub(super) struct Seat {
    recipe: &'static Recipe,
    /// With the program's arguments.
    cradle: Cradle,
    script_argv: CVec,
    /// Where the inherited part of the environment ends; `None`: the last connection has changed it.
    inherited: Option<(usize, usize)>,
}

impl Seat {
    /// # Errors
    /// There is no memory.
    pub(super) fn new(recipe: &'static Recipe, note: &Arc<Note>) -> io::Result<Seat> {
        let mut cradle = Cradle::new(Arc::clone(note))?;
        let (argv, envp) = cradle.parts();
        for word in &recipe.program.argv {
            argv.push(&[word.as_bytes()]);
        }
        let inherited = Some(recipe.template.begin(envp));
        Ok(Seat {
            recipe,
            cradle,
            script_argv: CVec::default(),
            inherited,
        })
    }

    /// Whether no child needs it any more.
    pub(super) fn is_free(&self) -> bool {
        self.cradle.is_free()
    }

    /// Waits until no child needs it any more.
    ///
    /// # Errors
    /// [`Trouble::Later`]: the last one waits for something that it is short of.
    pub(super) fn clear(&mut self) -> Result<(), Trouble> {
        let cleared = self.cradle.wait(PATIENCE);
        cleared.map_err(|cause| Trouble::Later("run the program", cause))
    }

    /// Writes the environment for this connection; gives where in it the child writes its pid.
    pub(super) fn write_environment(&mut self, admitted: &Admitted<'_>) -> Option<usize> {
        let template = &self.recipe.template;
        let (_, envp) = self.cradle.parts();
        let inherited = match self.inherited {
            Some(mark) => {
                envp.rewind(mark);
                mark
            }
            None => template.begin(envp),
        };
        let (pid_at, changed) = template.finish(envp, &Connection::of(admitted));
        self.inherited = (!changed).then_some(inherited);
        pid_at
    }

    /// Starts the child, with the rule's script for its arguments if there is one, and waits until it is its program.
    pub(super) fn run(
        &mut self,
        launch: &Launch<'_>,
        script: Option<&[u8]>,
        wants_pidfd: bool,
    ) -> Result<Noted, Failure> {
        let argv = script.map(|script| {
            self.script_argv.clear();
            for word in [b"execlineb", &b"-Pc"[..], script] {
                self.script_argv.push(&[word]);
            }
            &mut self.script_argv
        });
        self.cradle.run(launch, argv, wants_pidfd)
    }

    /// Starts the child, and does not wait.
    pub(super) fn launch(&mut self, launch: &Launch<'_>) -> Result<Noted, Failure> {
        self.cradle.launch(launch)
    }
}

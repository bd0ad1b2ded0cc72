//! `doorward relay`, and `doorward connect` without a program: standard input and output on one side, the connection on the other.
#![forbid(unsafe_code)]

use crate::delivery::LAYOUTS_END;
use crate::delivery::Layout;
use crate::exit::{self, Failure, Unable as _};
use crate::relay::{Act, Direction, Ended, Side, Stopped};
use crate::{relay, report, sys};
use nix::libc;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::time::Duration;

/// `doorward relay`: the connection is where UCSPI clients have it.
///
/// # Errors
/// Exit code 100: there is none. Else as [`between`].
pub(crate) fn run(idle: Option<Duration>) -> exit::Result<u8> {
    let &[read, write] = Layout::Ucspi.connection() else {
        return Err(exit::wrong_use("no descriptors to relay"));
    };
    let take = |number| {
        sys::fd::take_inherited(number).ok_or_else(|| {
            exit::wrong_use(format!(
                "descriptor {number} is not open: relay wants a connection on {read} and {write}, as doorward connect gives it"
            ))
        })
    };
    let heard = side(take(read)?, "descriptor 6")?;
    let said = side(take(write)?, "descriptor 7")?;
    between(said, heard, idle)?.tell()
}

/// The same for a connection that this process has made.
pub(super) fn connection(connection: OwnedFd) -> exit::Result<Verdict> {
    let copy = connection.try_clone().unable("copy a descriptor")?;
    let said = side(connection, "the connection")?;
    between(said, side(copy, "the connection")?, None)
}

/// What the exit status tells, once nothing is left to do.
pub(super) enum Verdict {
    Done,
    /// Who read standard output has gone: that ends a filter by SIGPIPE.
    NobodyReads,
}

impl Verdict {
    pub(super) fn tell(self) -> exit::Result<u8> {
        match self {
            Verdict::Done => Ok(0),
            Verdict::NobodyReads => {
                sys::signal::die_of_broken_pipe();
                // Process 1 of a namespace does not die of it.
                Ok(u8::try_from(128 + libc::SIGPIPE).unwrap_or(exit::SYSTEM))
            }
        }
    }
}

/// Relays standard input to `said`, and `heard` to standard output.
///
/// # Errors
/// Exit code 99: nothing moved for so long. 100: one of them is no stream. 111: a side failed, or something that came on standard input
/// was not taken.
fn between(said: Side, heard: Side, idle: Option<Duration>) -> exit::Result<Verdict> {
    let up = Direction {
        from: side(standard(0)?, "standard input")?,
        to: said,
    };
    let down = Direction {
        from: heard,
        to: side(standard(1)?, "standard output")?,
    };
    let target = up.to.name();
    match relay::run([up, down], idle) {
        Ok([_, Ended::Unheard | Ended::Unwanted]) => Ok(Verdict::NobodyReads),
        Ok([Ended::Unwanted, _]) => Err(exit::system(format!(
            "unable to write to {target}: the server takes no more"
        ))),
        // A server that went when nothing was left to say to it may: it need not wait for the end of standard input.
        Ok([Ended::Whole | Ended::Unheard, Ended::Whole]) => Ok(Verdict::Done),
        Err(Stopped::Idle) => Err(Failure {
            code: exit::DEADLINE,
            error: anyhow::anyhow!(
                "unable to go on: nothing moved for {} seconds",
                idle.unwrap_or_default().as_secs_f64()
            ),
        }),
        Err(Stopped::Failed(act, name, error)) => Err(error).unable(match act {
            Act::Read => format!("read from {name}"),
            Act::Write => format!("write to {name}"),
        }),
    }
}

fn side(fd: OwnedFd, name: &'static str) -> exit::Result<Side> {
    Side::new(fd, name).map_err(exit::wrong_use)
}

/// Takes 0 or 1 and leaves /dev/null there, so that who is at its other end hears of its end.
fn standard(number: RawFd) -> exit::Result<OwnedFd> {
    const WHAT: &str = "take over the standard descriptors";
    let null = report::open_null().unable("open /dev/null")?;
    let Some(fd) = sys::fd::standard(number) else {
        return Ok(null);
    };
    let copy = sys::fd::copy_above(fd, LAYOUTS_END).unable(WHAT)?;
    sys::fd::replace_standard(null.as_fd(), number).unable(WHAT)?;
    Ok(copy)
}

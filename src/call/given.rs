//! The connection that `answer` was started with.
#![forbid(unsafe_code)]

use crate::chain::{Given, Unfit, is_same_socket};
use crate::delivery::LAYOUTS_END;
use crate::exit::{self, Unable as _, wrong_use};
use crate::source::Activation;
use crate::{report, sys};
use nix::sys::socket::{SockType, UnixAddr, getpeername, getsockopt, sockopt};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// Takes it from where `admit` would find it. What else of this process is the connection is closed, or becomes /dev/null: no line meant for
/// a log reaches the caller, and nothing but what is returned keeps the connection open.
pub(super) fn take(activation: &Activation) -> exit::Result<OwnedFd> {
    let given = Given::find(activation)?;
    if let Err(Unfit::NoConnection(why) | Unfit::Stranger(why)) = given.check() {
        return Err(wrong_use(why));
    }
    let streams = getsockopt(&given.socket, sockopt::SockType) == Ok(SockType::Stream);
    if !streams || getpeername::<UnixAddr>(given.socket.as_raw_fd()).is_err() {
        return Err(wrong_use(format!(
            "descriptor {} is not the connection of a stream socket",
            given.number
        )));
    }
    let connection =
        sys::fd::copy_above(given.socket, LAYOUTS_END).unable("copy the connection")?;
    for number in 0..LAYOUTS_END {
        if !is_same_socket(connection.as_fd(), number) {
            continue;
        }
        if number > 2 {
            drop(sys::fd::take_inherited(number));
            continue;
        }
        let null = report::open_null().unable("open /dev/null")?;
        sys::fd::replace_standard(null.as_fd(), number).unable("replace a descriptor")?;
    }
    Ok(connection)
}

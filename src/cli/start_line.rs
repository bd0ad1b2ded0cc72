//! The line of the start: what is served, how, and who may come.
#![forbid(unsafe_code)]

use crate::report::event;
use crate::source::{Address, Listening};

/// One line a socket; `layout` are the words for what the program gets.
pub(super) fn start_line(sockets: &[Listening], layout: &str) {
    for socket in sockets {
        let address = &socket.address;
        match (&socket.access, address) {
            (Some(access), _) => event!("start: serving {address}, {layout}, {access}"),
            (None, Address::Path(_)) => event!(
                "start: serving {address}, {layout}, mode unknown: its node is not to be seen from here"
            ),
            (None, _) => event!(
                "start: serving {address}, {layout}, an abstract name: everybody may connect"
            ),
        }
    }
}

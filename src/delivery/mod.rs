//! What an admitted connection is given to: a child of its own.
#![forbid(unsafe_code)]

mod child;
mod env;
mod greeting;
mod landing;
mod layout;
mod program;

pub(crate) use child::{Admitted, Bench, Greeted, Recipe, Trouble};
pub(crate) use env::Template;
pub(crate) use landing::Landings;
pub(crate) use layout::{Channels, Layout};
pub(crate) use program::{Found, Program, find};

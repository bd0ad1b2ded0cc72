//! The greeting: the first thing on a connection with notifications, brought with one descriptor.
#![forbid(unsafe_code)]

/// The version is the number; a later protocol has another one.
pub(crate) const TEXT: &[u8] = b"doorward 1\n";

//! Admission: who is it, may it, is there room.
#![forbid(unsafe_code)]

#[cfg_attr(not(test), allow(dead_code, reason = "the doors ask it"))]
mod rules;
mod trust;

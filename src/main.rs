//! The `doorward` command: hands the process to the library.
#![no_main]

#[path = "sys/start.rs"]
mod start;

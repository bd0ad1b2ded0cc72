//! What every benchmark of doorward needs, whatever it measures: built parts, servers that are ended by pid,
//! a load generator in a process of its own, statistics, and the words that describe the machine.
#![forbid(unsafe_code)]

pub mod load;
pub mod machine;
pub mod memory;
pub mod parts;
pub mod rate;
pub mod scratch;
pub mod server;
pub mod stats;
pub mod systemd;
pub mod table;

//! What every benchmark of doorward needs, whatever it measures: built parts, servers that are ended by pid,
//! a load generator in a process of its own, statistics, and the words that describe the machine.
#![forbid(unsafe_code)]

pub mod cdb;
pub mod cell;
pub mod clients;
pub mod entry;
pub mod generator;
pub mod limits;
pub mod loaded;
pub mod machine;
pub mod memory;
pub mod options;
pub mod page;
pub mod parts;
pub mod programs;
pub mod rate;
pub mod results;
pub mod rules;
pub mod scratch;
pub mod server;
pub mod stats;
pub mod systemd;
pub mod table;

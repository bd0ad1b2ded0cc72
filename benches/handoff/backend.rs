//! A backend as one writes it with the library: `serve-backend BATCH`, with the channel where doorward puts it.
#![forbid(unsafe_code)]

use super::common::clients::ANSWER;
use anyhow::{Context, Result};
use doorward::backend::Backend;
use std::io::Write;
use std::os::unix::net::UnixStream;

/// The word that makes the benchmark's own program this backend.
pub const WORD: &str = "serve-backend";

/// Answers each connection and closes all that came with it.
pub fn main(arguments: &[String]) -> Result<()> {
    let batch = arguments.first().context("no size of a batch")?.parse()?;
    let mut backend = Backend::from_env()?
        .batch(batch)
        .on_drop(|why| eprintln!("dropped a connection: {why}"));
    while let Some(handoff) = backend.recv()? {
        // Who hangs up early is counted by the load generator.
        let _ = UnixStream::from(handoff.connection).write_all(ANSWER);
    }
    Ok(())
}

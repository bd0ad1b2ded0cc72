//! A server of ours and the load generator that is there for it.
#![forbid(unsafe_code)]

use super::cell::Slice;
use super::generator::Generator;
use super::rate::Running;
use super::scratch::Scratch;
use super::server::Server;
use anyhow::{Context, Result};
use std::path::Path;

/// Both run; ended on drop.
pub struct Loaded {
    pub server: Server,
    generator: Generator,
}

impl Loaded {
    /// Starts `command`, and `generator` (the benchmark's own program) for it.
    pub fn start(scratch: &Scratch, generator: &Path, command: &[String]) -> Result<Self> {
        let server = Server::start(scratch, command)?;
        let generator = Generator::start(&[], generator, server.socket())?;
        Ok(Self { server, generator })
    }
}

impl Running for Loaded {
    fn load(&mut self, clients: usize, seconds: f64) -> Result<Slice> {
        let slice = self.generator.load(clients, seconds);
        slice.with_context(|| format!("its last words: {:?}", self.server.last_words()))
    }
}

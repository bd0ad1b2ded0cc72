//! How each benchmark starts: as itself, as one of its helpers, or not at all.
#![forbid(unsafe_code)]

use super::{clients, server};
use anyhow::Result;
use std::process::ExitCode;

/// A helper: the first word of its command line, and what it does with the others.
pub type Helper = (&'static str, fn(&[String]) -> Result<()>);

/// The `main` of a benchmark.
pub fn run(helpers: &[Helper], measure: impl FnOnce() -> Result<()>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = helpers.iter().copied().chain([
        (clients::WORD, clients::main as _),
        (server::WORD, server::main as _),
    ]);
    let helper = arguments.split_first().and_then(|(word, rest)| {
        let (_, main) = all.into_iter().find(|(name, _)| name == word)?;
        Some((main, rest))
    });
    let outcome = match helper {
        Some((main, rest)) => main(rest),
        // `cargo test --benches` only wants to know that it starts.
        None if arguments.iter().any(|word| word == "--test")
            || !arguments.iter().any(|word| word == "--bench") =>
        {
            println!("nothing measured: run it with `cargo bench`");
            Ok(())
        }
        None => measure(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The library: backends and clients as processes, with the real doorward between them.

mod backend;
mod client;
mod http;
mod watch;

use super::support::doorward;
use std::path::PathBuf;
use std::process::Command;

/// The path of an example, built if it is not fresh: `cargo test --test it` builds none. With the features of tests/run.
pub(super) fn example(name: &str) -> PathBuf {
    let profile = doorward().parent().expect("the directory of the binary");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--example", name, "--features", "tokio"]);
    cargo.args([
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
    ]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(
        cargo.status().expect("cargo").success(),
        "unable to build {name}"
    );
    profile.join("examples").join(name)
}

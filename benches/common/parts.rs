//! The parts that are built at run time with `cc`: the smallest child and the floor.
#![forbid(unsafe_code)]

use super::scratch::Scratch;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the built parts are.
pub struct Parts {
    pub child: PathBuf,
    pub floor: PathBuf,
}

impl Parts {
    /// Builds them into `scratch` with `$CC` (default `cc`).
    pub fn build(scratch: &Scratch) -> Result<Self> {
        let child = scratch.join("child");
        let no_libc = [
            "-nostdlib",
            "-ffreestanding",
            "-fno-stack-protector",
            "-fno-pie",
            "-no-pie",
            "-Wl,--build-id=none",
        ];
        compile("common/child.c", &no_libc, &child)?;
        let floor = scratch.join("floor");
        compile("common/floor.c", &["-pthread"], &floor)?;
        Ok(Self { child, floor })
    }
}

/// Builds `output` from one file below benches/.
pub fn compile(source: &str, options: &[&str], output: &Path) -> Result<()> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| OsString::from("cc"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches")
        .join(source);
    let status = Command::new(&compiler)
        .args(["-O2", "-Wall", "-Wextra", "-static"])
        .args(options)
        .arg("-o")
        .args([output, &source])
        .status()
        .with_context(|| {
            format!(
                "unable to run {} (packages gcc and libc6-dev)",
                compiler.display()
            )
        })?;
    if !status.success() {
        bail!("unable to compile {}: {status}", source.display());
    }
    Ok(())
}

//! Links the unwinder into the command where the linker has it as an archive (GNU/Linux with gcc): the shared one is needed for nothing
//! but panics, and loading it takes a tenth of the start of a command that lives for a millisecond, and 100 KiB of each that lives longer.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let host = std::env::var("HOST").unwrap_or_default();
    let is_host = std::env::var("TARGET").is_ok_and(|target| target == host);
    // A static build has it anyway; another target has another linker.
    if !is_host || target("ENV") != "gnu" || target("FEATURE").contains("crt-static") {
        return;
    }
    let found = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    let Ok(found) = found else { return };
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    // An answer without a directory says that there is none.
    if let Some(directory) = Path::new(&path).parent().filter(|_| path.contains('/')) {
        println!("cargo::rustc-link-search=native={}", directory.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

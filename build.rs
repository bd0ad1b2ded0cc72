//! What the linker is told about the command, beyond what Cargo can say.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let env = target("ENV");
    // Of musl it is not said; there a program is static unless told otherwise.
    if env == "musl" || target("FEATURE").contains("crt-static") {
        lay_service_together();
    } else if env == "gnu" && is_for_host() {
        link_unwinder();
    }
}

fn target(key: &str) -> String {
    std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default()
}

/// (Another target has another linker.)
fn is_for_host() -> bool {
    let host = std::env::var("HOST").unwrap_or_default();
    std::env::var("TARGET").is_ok_and(|target| target == host)
}

/// Links the unwinder into the command where the linker has it as an archive (GNU/Linux with gcc): the shared one is needed for nothing
/// but panics, and loading it takes a tenth of the start of a command that lives for a millisecond, and 100 KiB of each that lives longer.
/// A static build has it anyway.
fn link_unwinder() {
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

/// Lays the code of the running service side by side in the build that is made for a small service: it takes half of the memory then.
fn lay_service_together() {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = Path::new(&package).join("service.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    // Understood by linkers and by compilers that call one.
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
}

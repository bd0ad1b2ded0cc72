//! The words that describe where figures were taken. They mean nothing elsewhere; ratios mean a little.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Cores, model, memory, load, kernel, and the versions of what was measured, as one paragraph.
pub fn describe(doorward: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let gibibytes = memory.map_or(0, |kibibytes| kibibytes.div_ceil(1 << 20));
    let kernel = first_line("uname", &["-srm"]).unwrap_or_default();
    // What else runs here takes its share of every figure.
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let mut versions = vec![
        first_line(&doorward.to_string_lossy(), &["--version"])
            .unwrap_or_else(|| "doorward of no version".into()),
    ];
    for package in ["s6", "ucspi-unix", "socat", "systemd", "libc6"] {
        versions.extend(first_line(
            "dpkg-query",
            &["-W", "-f=${Package} ${Version}\n", package],
        ));
    }
    format!(
        "{cores} cores ({model}), {gibibytes} GiB, load {load} now, {kernel}; {}.",
        versions.join(", ")
    )
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .next()
        .map(str::to_owned)
        .filter(|line| !line.is_empty() && output.status.success())
}

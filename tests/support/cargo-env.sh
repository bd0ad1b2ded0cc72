# shellcheck shell=sh
# Sourced: makes `cargo` work, also with a HOME that is not where Rust was installed.

if ! cargo --version >/dev/null 2>&1; then
    HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
    PATH="$HOME/.cargo/bin:$PATH"
    export HOME PATH
    if ! cargo --version >/dev/null; then
        echo "$0: no Rust: see https://rustup.rs (1.88 or later)" >&2
        exit 127
    fi
fi

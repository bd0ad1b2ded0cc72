//! The `doorward` command: hands the process to the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    doorward::main().into()
}

//! The integration tests: one binary, each module one subject.
fn main() {}

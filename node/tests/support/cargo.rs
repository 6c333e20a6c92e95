//! Cargo that is called by a test which Cargo runs.
//!
//! What must never be here: a setting of the user's. What is built for a test is built as everything else.

use std::process::Command;

/// How the names of what Cargo tells a test about itself begin.
const TOLD: [&str; 6] =
    ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_", "CARGO_TARGET_TMPDIR"];

/// What Cargo tells this test about itself is not told to what the test calls: build scripts that look at it
/// would run again, there and in the next build of all, and what stands on them would be built anew.
pub fn tell_nothing(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if TOLD.iter().any(|told| name.to_string_lossy().starts_with(told)) {
            command.env_remove(name);
        }
    }
    command
}

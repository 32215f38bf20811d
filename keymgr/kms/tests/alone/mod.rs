//! Tests that need an environment of their own.

use std::process::Command;

/// Says in which test's process we are.
const MARK: &str = "UNDERCROFT_TEST_ALONE";

/// Runs the test `name` in a process whose environment has `variables`, and nothing else that a cloud's library looks
/// at. True in that process; false in the one that started it, once it has passed.
///
/// # Panics
/// When the test fails there.
pub(crate) fn alone(name: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var_os(MARK).is_some_and(|marked| marked == name) {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (variable, _) in std::env::vars_os() {
        let foreign = ["AWS_", "GOOGLE_", "AZURE_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
        if foreign.iter().any(|prefix| variable.to_string_lossy().starts_with(prefix)) {
            command.env_remove(variable);
        }
    }
    // A home in which nobody has left anything.
    let home = tempfile::tempdir().unwrap();
    command.env("HOME", home.path()).env(MARK, name).envs(variables.iter().copied());
    let output = command.args(["--exact", name, "--nocapture"]).output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    assert!(String::from_utf8_lossy(&said).contains("1 passed"), "no test is called {name}");
    false
}

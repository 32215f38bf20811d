//! Running the foreign programs that make tokens.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Why a simulator could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A program is not installed.
    #[error("cannot run {program}: {error}; install it with: apt-get install {package}")]
    Missing {
        /// The program.
        program: String,
        /// The Debian package that holds it.
        package: &'static str,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A program ran and failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// What it said.
        output: String,
    },
    /// A file or folder.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The simulator was started but does not answer.
    #[error("{0}")]
    NotReady(String),
}

impl SimError {
    /// For `map_err` on file operations.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It is missing (then the error says which Debian `package` has it) or exits with another status than 0.
pub fn run(command: &mut Command, package: &'static str) -> Result<Output, SimError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| SimError::Missing { program, package, error })?;
    if output.status.success() {
        return Ok(output);
    }
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    Err(SimError::Failed { program: format!("{command:?}"), output: text.trim().to_owned() })
}

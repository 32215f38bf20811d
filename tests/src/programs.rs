//! Running programs, ours and others', and keeping what they said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use undercroft_cli::Failure;

/// A program that is about to be run.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    /// As people would type it.
    line: String,
}

impl Tool {
    /// One of our own binaries, from the folder that this program was built into.
    ///
    /// # Errors
    /// It has not been built.
    pub fn ours(name: &str) -> Result<Self, Failure> {
        let path = built(name)?;
        Ok(Self { command: Command::new(path), line: name.to_owned() })
    }

    /// Somebody else's program.
    pub fn foreign(name: &str) -> Self {
        Self { command: Command::new(name), line: name.to_owned() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        let shown = argument.as_ref().to_string_lossy().into_owned();
        let plain = shown.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c));
        self.line += &if plain { format!(" {shown}") } else { format!(" '{shown}'") };
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = S>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets environment variables, which are not shown.
    #[must_use]
    pub fn with(mut self, variables: &[(String, String)]) -> Self {
        self.command.envs(variables.iter().map(|(name, value)| (name, value)));
        self
    }

    /// The command line as people would type it.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The command, to be run in another way.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be run at all.
    pub fn run(mut self) -> Result<Ran, Failure> {
        let output = self
            .command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::unreachable(format!("{}: {error}", self.line)))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran {
            line: self.line,
            // A signal has no number of its own here: it is never what was expected.
            status: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Runs it, and fails unless it exits with 0.
    ///
    /// # Errors
    /// It fails.
    pub fn done(self) -> Result<Ran, Failure> {
        self.run()?.expect(0)
    }
}

/// What became of a program.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command line.
    pub line: String,
    /// The exit status; -1 if a signal ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ran {
    /// Fails unless the exit status is `status`.
    ///
    /// # Errors
    /// It is another.
    pub fn expect(self, status: i32) -> Result<Self, Failure> {
        if self.status == status {
            return Ok(self);
        }
        Err(Failure::failed(format!(
            "`{}` exited with {} instead of {status}: {}{}",
            self.line, self.status, self.stderr, self.stdout
        )))
    }

    /// Fails unless what it said holds `text`.
    ///
    /// # Errors
    /// It does not.
    pub fn says(self, text: &str) -> Result<Self, Failure> {
        match self.stdout.contains(text) || self.stderr.contains(text) {
            true => Ok(self),
            false => Err(Failure::failed(format!(
                "`{}` does not say `{text}` but: {}{}",
                self.line, self.stderr, self.stdout
            ))),
        }
    }

    /// The last line of what it printed, or else of what it complained of.
    pub fn said(&self) -> &str {
        let printed = self.stdout.trim_end();
        let said = if printed.is_empty() { self.stderr.trim_end() } else { printed };
        said.lines().last().unwrap_or_default()
    }
}

/// The folder that cargo builds binaries into: this program's own, or the one above it for tests.
pub(crate) fn built(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::failed(format!("where am I: {error}")))?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder: &Path| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::usage(format!("{name} has not been built; run: cargo build --workspace --bins"))
        })
}

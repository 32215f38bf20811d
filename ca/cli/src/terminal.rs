//! Printing: lines for people, JSON for programs, progress for people who wait.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use crate::Failure;

/// How results and errors are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Lines for people.
    Text,
    /// One JSON object, and errors as JSON on standard error.
    Json,
}

/// Where a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    format: OutputFormat,
}

impl Terminal {
    /// Prints in this format.
    pub fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// Whether it prints for people, and not for programs.
    pub fn is_for_people(&self) -> bool {
        self.format == OutputFormat::Text
    }

    /// Prints a line about what is being done. Programs that read JSON do not see it.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn say(&self, line: impl AsRef<str>) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Text => self.raw(format!("{}\n", line.as_ref()).as_bytes()),
            OutputFormat::Json => Ok(()),
        }
    }

    /// Prints the result of a command: `text` for people, `value` for programs.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let mut line = match self.format {
            OutputFormat::Text => printable(&text()),
            OutputFormat::Json => {
                serde_json::to_string(value).map_err(|error| Failure::failed(error.to_string()))?
            }
        };
        if !line.is_empty() && !line.ends_with('\n') {
            line.push('\n');
        }
        self.raw(line.as_bytes())
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::failed(format!("cannot print: {error}")))
    }

    /// Prints a failure on standard error.
    pub fn fail(&self, program: &str, failure: &Failure) {
        let line = match self.format {
            OutputFormat::Text => printable(&format!("{program}: {failure}\n")),
            OutputFormat::Json => {
                let error = json!({ "error": failure.to_string(), "status": failure.status() as u8 });
                format!("{error}\n")
            }
        };
        // Nobody is left to be told that standard error is closed.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }

    /// A progress bar over `length` units, on a terminal only.
    pub fn progress(&self, length: u64, what: &'static str) -> Progress {
        let bar = match self.format == OutputFormat::Text && io::stderr().is_terminal() {
            true => ProgressBar::new(length),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template("{msg:24} [{bar:30}] {pos}/{len}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }
}

/// Text as a terminal may show it. What strangers wrote into logs and requests must not move its cursor.
fn printable(text: &str) -> String {
    let is_odd = |c: char| c.is_control() && c != '\n';
    text.chars().map(|c| if is_odd(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A progress bar. It disappears when dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// So many units are done.
    pub fn advance(&self, units: u64) {
        self.0.inc(units);
    }

    /// Says what is being done now.
    pub fn doing(&self, what: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.set_message(what);
    }

    /// Prints a line above the bar.
    pub fn above(&self, print: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        self.0.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

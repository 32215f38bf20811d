//! What every command of Undercroft shares.
//!
//! A binary implements [`Program`] for its clap parser and calls [`main`]; it gets help, completions and a man page,
//! `--output text|json`, errors as one paragraph with the right exit status, progress bars on terminals only, and the
//! system's clock and randomness from [`system`], the one file that reads them.

mod daemon;
mod environment;
mod exchange;
mod failure;
mod files;
mod qr;
pub mod system;
mod terminal;
mod trust;

use std::process::ExitCode;

use clap::Parser;
use clap_complete::Shell;

pub use daemon::{LogArgs, notify, ready};
pub use environment::{Environment, StrictArgs, tokens};
pub use exchange::{hand_over, nonce, parts_below, read_aloud, read_vkey, told};
pub use failure::{ExitStatus, Failure};
pub use files::{read_bytes, read_text, write_file, write_private_file};
pub use qr::{Glyphs, QR_CAPACITY, Qr};
pub use terminal::{OutputFormat, Progress, Terminal};
pub use trust::{ActivatorConfig, endorsement_anchors, hsm_anchors, makers, trust};

/// A command line program.
pub trait Program: Parser {
    /// How it prints.
    fn output(&self) -> OutputFormat;

    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, for people, with the exit status.
    fn run(self, terminal: &Terminal) -> Result<(), Failure>;
}

/// Arguments that every program has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Common {
    /// How to print results and errors.
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Text, env = "UNDERCROFT_OUTPUT")]
    pub output: OutputFormat,
}

/// Commands that every program has.
#[derive(Debug, clap::Subcommand)]
pub enum Meta {
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page (roff).
    Man,
}

impl Meta {
    /// Prints what was asked for.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn run<P: Program>(self, terminal: &Terminal) -> Result<(), Failure> {
        let mut command = P::command();
        let mut text = Vec::new();
        match self {
            Self::Completions { shell } => {
                let name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, name, &mut text);
            }
            Self::Man => clap_mangen::Man::new(command)
                .render(&mut text)
                .map_err(|error| Failure::failed(format!("cannot write the manual page: {error}")))?,
        }
        terminal.raw(&text)
    }
}

/// Runs a program and gives its exit status.
///
/// A crash leaves no core: PINs and the daemon's own TLS keys are in memory.
pub fn main<P: Program>() -> ExitCode {
    let no_core = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // It may be lowered by anyone, and where it cannot be, there is nothing more that we could do.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, no_core);
    let program = match P::try_parse() {
        Ok(program) => program,
        Err(error) => {
            // Help and version go to standard output with status 0; everything else is a usage error.
            let status = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done };
            return match error.print() {
                Ok(()) => status.into(),
                Err(_) => ExitStatus::Failed.into(),
            };
        }
    };
    let terminal = Terminal::new(program.output());
    match program.run(&terminal) {
        Ok(()) => ExitStatus::Done.into(),
        Err(failure) => {
            terminal.fail(P::command().get_name(), &failure);
            failure.status().into()
        }
    }
}

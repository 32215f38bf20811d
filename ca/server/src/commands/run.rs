//! `undercroft serve`.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use undercroft_cli::Failure;

use crate::config::Config;
use crate::serve::serve;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The configuration.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: PathBuf,
    /// How the daemon logs what it does, on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "UNDERCROFT_LOG_FORMAT")]
    log_format: LogFormat,
    /// What it logs: a level, or directives as tracing's EnvFilter has them.
    #[arg(long, default_value = "info", env = "UNDERCROFT_LOG")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl ServeArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.log()?;
        let config = Config::read(&self.config, crate::backends())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
        runtime.block_on(serve(config, env!("CARGO_PKG_VERSION")))
    }

    fn log(&self) -> Result<(), Failure> {
        let filter = EnvFilter::try_new(&self.log_level)
            .map_err(|error| Failure::usage(format!("--log-level {}: {error}", self.log_level)))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let set = match self.log_format {
            LogFormat::Text => builder.with_ansi(colour).with_target(false).try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        set.map_err(|error| Failure::failed(format!("cannot log: {error}")))
    }
}

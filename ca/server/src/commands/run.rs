//! `undercroft serve`.

use std::path::PathBuf;

use undercroft_cli::{Failure, LogArgs, StrictArgs};

use crate::config::Config;
use crate::serve::serve;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The configuration.
    #[arg(long, env = "UNDERCROFT_CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl ServeArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.log.start()?;
        let config =
            Config::read(&self.config, self.strict.secrecy(), crate::backends(self.strict.secrecy()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
        runtime.block_on(serve(config, env!("CARGO_PKG_VERSION")))
    }
}

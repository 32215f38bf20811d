//! What programs share that keep running: how they log, and how they tell that they are ready.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;

use tracing_subscriber::EnvFilter;

use crate::Failure;

/// Arguments of programs that keep running.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// How it logs what it does, on standard error.
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

impl LogArgs {
    /// Logs from here on.
    ///
    /// # Errors
    /// The directives cannot be read.
    pub fn start(&self) -> Result<(), Failure> {
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

/// Says `READY=1`, and where we listen, to the service manager that started us, if there is one (sd_notify(3)).
pub fn ready(address: SocketAddr) {
    notify(&format!("READY=1\nSTATUS=listening on {address}\n"));
}

/// Tells the service manager that started us something, if there is one (sd_notify(3)).
pub fn notify(message: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|datagram| datagram.send_to(message.as_bytes(), &socket));
    if let Err(error) = told {
        tracing::warn!(%error, "cannot tell the service manager how we are");
    }
}

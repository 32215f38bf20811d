//! `undercroft-witness`: a witness of logs, in one command.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use serde_json::json;
use tokio::net::TcpListener;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{Common, Failure, LogArgs, Meta, OutputFormat, Program, Terminal, read_text, ready};
use undercroft_keymgr::Backend;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::cosignature::WitnessKey;
use undercroft_log::note::VerifierKey;
use undercroft_witness::config::Config;
use undercroft_witness::logs::{self, Logs};
use undercroft_witness::serve::serve;
use undercroft_witness::witness::Witness;

/// A witness: cosigns the checkpoints of logs that only grow, and no others.
#[derive(Debug, Parser)]
#[command(name = "undercroft-witness", version, about, arg_required_else_help = true)]
struct WitnessProgram {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the witness.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Print the key (vkey) that verifies its cosignatures, for the policies of those who rely on it.
    Key {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make a log known to the witness, whether it runs or not.
    AddLog {
        #[command(flatten)]
        config: ConfigArgs,
        /// The file with the log's key (vkey), from somebody whom you trust.
        key: PathBuf,
    },
    #[command(flatten)]
    Meta(Meta),
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration.
    #[arg(long, env = "UNDERCROFT_WITNESS_CONFIG")]
    config: PathBuf,
}

impl ConfigArgs {
    fn read(&self) -> Result<Config, Failure> {
        let backends: Vec<Box<dyn Backend>> = vec![
            #[cfg(feature = "pkcs11")]
            Box::new(undercroft_pkcs11::Pkcs11Backend),
            #[cfg(feature = "tpm")]
            Box::new(undercroft_tpm::TpmBackend),
        ];
        Config::read(&self.config, backends)
    }
}

impl Program for WitnessProgram {
    fn output(&self) -> OutputFormat {
        self.common.output
    }

    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self.command {
            Command::Run { config, log } => {
                log.start()?;
                runtime()?.block_on(run(&config.read()?))
            }
            Command::Key { config } => {
                let config = config.read()?;
                let key = runtime()?.block_on(config.tokens.open(&config.key, KeyAlgorithm::Ed25519))?;
                let key = WitnessKey::ed25519(config.name, key.signer.public_key().clone())
                    .map_err(|error| Failure::usage(format!("{}: {error}", config.key)))?
                    .to_string();
                terminal.result(&json!({ "key": key }), || format!("{key}\n"))
            }
            Command::AddLog { config, key } => {
                let text = read_text(&key)?;
                let log: VerifierKey = text
                    .trim_end()
                    .parse()
                    .map_err(|error| Failure::usage(format!("{}: {error}", key.display())))?;
                logs::add(&config.read()?.state, &log)?;
                let origin = log.name().to_string();
                terminal.result(&json!({ "log": origin }), || format!("{origin} is known to the witness\n"))
            }
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}

async fn run(config: &Config) -> Result<(), Failure> {
    let witness = Arc::new(open(config).await?);
    let failed =
        |error: std::io::Error| Failure::unreachable(format!("cannot listen on {}: {error}", config.listen));
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, key = %witness.key(), "ready");
    ready(address);
    serve(witness, listener).await
}

async fn open(config: &Config) -> Result<Witness, Failure> {
    let key = config.tokens.open(&config.key, KeyAlgorithm::Ed25519).await?;
    let logs = Logs::open(&config.state)?;
    Witness::new(config.name.clone(), key.signer, logs, Arc::new(SystemClock))
        .map_err(|error| Failure::usage(format!("{}: {error}", config.key)))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))
}

fn main() -> ExitCode {
    undercroft_cli::main::<WitnessProgram>()
}

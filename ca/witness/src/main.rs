//! `undercroft-witness`: a witness of logs, in one command.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use serde_json::json;
use tokio::net::TcpListener;
use undercroft_ca::certificate::to_pem;
use undercroft_cli::system::SystemClock;
use undercroft_cli::{
    Common, Failure, LogArgs, Meta, OutputFormat, Program, StrictArgs, Terminal, read_text,
};
use undercroft_keymgr::{Backend, Secrecy};
use undercroft_keys::KeyAlgorithm;
use undercroft_log::note::VerifierKey;
use undercroft_witness::activation::files::{self, BeginArgs, FinishArgs};
use undercroft_witness::activation::sessions::Sessions;
use undercroft_witness::config::Config;
use undercroft_witness::gate::freeze::Freeze;
use undercroft_witness::gate::{self, Gate};
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
    /// Certify the attestation key of a TPM on a host that is reached by files alone.
    #[command(subcommand)]
    Activate(ActivateCommand),
    /// Be a gate: a second party without whose word TPMs do not sign.
    #[command(subcommand)]
    Gate(GateCommand),
    #[command(flatten)]
    Meta(Meta),
}

#[derive(Debug, Subcommand)]
enum ActivateCommand {
    /// Enclose a secret that only the TPM of an endorsement key opens, and only if it holds the attestation key.
    Begin {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        files: BeginArgs,
    },
    /// Certify the attestation key if the secret comes back.
    Finish {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        files: FinishArgs,
    },
}

#[derive(Debug, Subcommand)]
enum GateCommand {
    /// Run the gate.
    Run {
        #[command(flatten)]
        config: GateArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Print the gate's public key (PEM), which the keys that it is to release are made with.
    Key {
        #[command(flatten)]
        config: GateArgs,
    },
    /// Release nothing more until further notice, whether the gate runs or not.
    Freeze {
        #[command(flatten)]
        config: GateArgs,
        /// Why, for those whose requests are refused.
        #[arg(long)]
        reason: String,
    },
    /// Go on after a freeze.
    Release {
        #[command(flatten)]
        config: GateArgs,
    },
}

#[derive(Debug, clap::Args)]
struct GateArgs {
    /// The gate's configuration.
    #[arg(long, env = "UNDERCROFT_GATE_CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
}

impl GateArgs {
    fn read(&self) -> Result<gate::config::Config, Failure> {
        gate::config::Config::read(&self.config, self.strict.secrecy(), backends)
    }
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration.
    #[arg(long, env = "UNDERCROFT_WITNESS_CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
}

impl ConfigArgs {
    fn read(&self) -> Result<Config, Failure> {
        Config::read(&self.config, self.strict.secrecy(), backends(self.strict.secrecy()))
    }
}

/// The backends that this program was built with. `secrecy` says which credentials those of clouds take.
#[cfg_attr(
    not(any(feature = "awskms", feature = "gcpkms", feature = "azurekv")),
    expect(unused_variables, reason = "backends of clouds alone have credentials")
)]
fn backends(secrecy: Secrecy) -> Vec<Box<dyn Backend>> {
    vec![
        #[cfg(feature = "pkcs11")]
        Box::new(undercroft_pkcs11::Pkcs11Backend),
        #[cfg(feature = "tpm")]
        Box::new(undercroft_tpm::TpmBackend),
        #[cfg(feature = "awskms")]
        Box::new(undercroft_kms::AwsKmsBackend { secrecy }),
        #[cfg(feature = "gcpkms")]
        Box::new(undercroft_kms::GcpKmsBackend { secrecy }),
        #[cfg(feature = "azurekv")]
        Box::new(undercroft_kms::AzureKvBackend { secrecy }),
    ]
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
                let key = config.vkey(&*key.signer)?.to_string();
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
            Command::Activate(command) => command.run(terminal),
            Command::Gate(command) => command.run(terminal),
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}

impl ActivateCommand {
    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        let runtime = runtime()?;
        let activator = |config: ConfigArgs| {
            let config = config.read()?;
            runtime.block_on(config.activator(Sessions::in_state(&config.state)))
        };
        match self {
            Self::Begin { config, files } => files::begin(&activator(config)?, &files, terminal),
            Self::Finish { config, files } => {
                runtime.block_on(files::finish(&activator(config)?, &files, terminal))
            }
        }
    }
}

impl GateCommand {
    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self {
            Self::Run { config, log } => {
                log.start()?;
                runtime()?.block_on(run_gate(config.read()?))
            }
            Self::Key { config } => {
                let config = config.read()?;
                let key = runtime()?.block_on(config.tokens.open(&config.key, KeyAlgorithm::EcdsaP256))?;
                let key = key.signer.public_key();
                let pem = to_pem("PUBLIC KEY", key.spki())?;
                terminal.result(&json!({ "key": pem, "key-id": key.id().to_string() }), || pem.clone())
            }
            Self::Freeze { config, reason } => {
                Freeze::in_folder(&config.read()?.state).freeze(&reason)?;
                terminal.result(&json!({ "frozen": true }), || "frozen: nothing is released\n".to_owned())
            }
            Self::Release { config } => {
                let was = Freeze::in_folder(&config.read()?.state).release()?;
                terminal.result(&json!({ "frozen": false, "was-frozen": was }), || match was {
                    true => "it goes on\n".to_owned(),
                    false => "it was not frozen\n".to_owned(),
                })
            }
        }
    }
}

async fn run_gate(config: gate::config::Config) -> Result<(), Failure> {
    let key = config.tokens.open(&config.key, KeyAlgorithm::EcdsaP256).await?;
    let clock = Arc::new(SystemClock);
    let gate = Gate::new(key.signer, config.authorities, config.witnesses, &config.state, clock)?;
    let activator = match config.activator {
        None => None,
        Some(config) => Some(Arc::new(config.activator(Sessions::in_memory()).await?)),
    };
    let listener = listen(config.listen).await?;
    tracing::info!(key = %gate.key().id(), "a gate");
    gate::serve::serve(Arc::new(gate), activator, listener).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |error: std::io::Error| Failure::unreachable(format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(failed)
}

async fn run(config: &Config) -> Result<(), Failure> {
    let address =
        config.listen.ok_or_else(|| Failure::usage("listen: a witness that runs needs an address"))?;
    let key = config.tokens.open(&config.key, KeyAlgorithm::Ed25519).await?;
    let logs = Logs::open(&config.state)?;
    let witness = Witness::new(config.name.clone(), key.signer.clone(), logs, Arc::new(SystemClock))
        .map_err(|error| Failure::usage(format!("{}: {error}", config.key)))?;
    let activator = match &config.endorsement {
        None => None,
        Some(_) => Some(Arc::new(config.activator(Sessions::in_memory()).await?)),
    };
    tracing::info!(key = %witness.key(), "a witness");
    serve(Arc::new(witness), activator, listen(address).await?).await
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

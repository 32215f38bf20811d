//! `undercroft-node`: a certificate whose key never leaves the node's TPM.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use undercroft_cli::system::{SystemClock, SystemEntropy};
use undercroft_cli::{
    Common, ExitStatus, Failure, LogArgs, Meta, OutputFormat, Program, Terminal, read_bytes, write_file,
    write_private_file,
};
use undercroft_log::Clock as _;
use undercroft_node::config::Config;
use undercroft_node::output::{FILES, Generation};
use undercroft_node::{dry_run, exchange, run};

/// Proves with the TPM of this machine what it is, and keeps a certificate fresh whose key never leaves the TPM.
#[derive(Debug, Parser)]
#[command(name = "undercroft-node", version, about, arg_required_else_help = true)]
struct NodeProgram {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Attest once, and put the certificate in place.
    Attest {
        #[command(flatten)]
        config: ConfigArgs,
        /// Show the evidence, and send it to nobody.
        #[arg(long)]
        dry_run: bool,
    },
    /// Attest, renew the certificate at half of its life, and go on. SIGHUP attests now, SIGTERM ends.
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Show the certificate that is in place, print a file of it, or copy all of them.
    Fetch {
        #[command(flatten)]
        config: ConfigArgs,
        /// Copy the files into this folder.
        #[arg(long, conflicts_with = "print")]
        out: Option<PathBuf>,
        /// Print one of the files.
        #[arg(long)]
        print: Option<Part>,
    },
    #[command(flatten)]
    Meta(Meta),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// The certificate and its intermediates (PEM).
    Chain,
    /// The key, which only this TPM can use (PEM).
    Key,
    /// The roots of the trust domain (PEM).
    Bundle,
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The node's configuration.
    #[arg(long, env = "UNDERCROFT_NODE_CONFIG", default_value = "/etc/undercroft/node.toml")]
    config: PathBuf,
}

impl ConfigArgs {
    fn read(&self) -> Result<Config, Failure> {
        Config::read(&self.config)
    }
}

impl Program for NodeProgram {
    fn output(&self) -> OutputFormat {
        self.common.output
    }

    fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self.command {
            Command::Attest { config, dry_run: true } => {
                dry_run::show(&config.read()?, &SystemEntropy, terminal)
            }
            Command::Attest { config, dry_run: false } => {
                let config = config.read()?;
                let attested = runtime()?.block_on(exchange::attest(&config, &SystemClock));
                told(&attested.map_err(|error| error.failure)?, terminal)
            }
            Command::Run { config, log } => {
                log.start()?;
                runtime()?.block_on(run::run(&config.read()?, &SystemClock, &SystemEntropy))
            }
            Command::Fetch { config, out, print } => fetch(&config.read()?, out, print, terminal),
            Command::Meta(meta) => meta.run::<Self>(terminal),
        }
    }
}

fn told(attested: &exchange::Attested, terminal: &Terminal) -> Result<(), Failure> {
    let received = &attested.received;
    let value = json!({
        "spiffe-id": received.spiffe_id,
        "not-after": received.validity.not_after().to_string(),
        "log": received.log_key.name().to_string(),
        "index": received.index,
        "at-once": attested.at_once,
        "folder": attested.generation.folder,
    });
    terminal.result(&value, || {
        format!(
            "{} until {}, entry {} of {}, in {}\n",
            received.spiffe_id,
            received.validity.not_after(),
            received.index,
            received.log_key.name(),
            attested.generation.folder.display()
        )
    })
}

/// Opens the folder of a generation once, so that all is of one.
fn fetch(
    config: &Config,
    out: Option<PathBuf>,
    print: Option<Part>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let not_yet = |what: String| Failure::new(ExitStatus::NotYet, what);
    let current = Generation::current(&config.output)?.ok_or_else(|| {
        let attest = "`undercroft-node attest` gets one, and `undercroft-node run` keeps it fresh";
        not_yet(format!("{}: there is no certificate yet; {attest}", config.output.display()))
    })?;
    let validity = current.holder.validity;
    if !validity.contains(SystemClock.now()) {
        return Err(not_yet(format!(
            "the certificate in {} is valid from {validity}: is `undercroft-node run` running?",
            current.folder.display()
        )));
    }
    if let Some(part) = print {
        let file = match part {
            Part::Chain => "svid.pem",
            Part::Key => "svid.key",
            Part::Bundle => "bundle.pem",
        };
        return terminal.raw(&read_bytes(&current.folder.join(file))?);
    }
    if let Some(out) = &out {
        fs::create_dir_all(out).map_err(|error| Failure::failed(format!("{}: {error}", out.display())))?;
        for file in FILES {
            let content = read_bytes(&current.folder.join(file))?;
            let write = if file == "svid.key" { write_private_file } else { write_file };
            write(&out.join(file), &content)?;
        }
    }
    let folder = out.as_ref().unwrap_or(&current.folder);
    let value = json!({
        "uris": current.holder.uris,
        "not-after": validity.not_after().to_string(),
        "folder": folder,
    });
    terminal.result(&value, || {
        format!("{} until {}, in {}\n", current.holder.uris.join(" "), validity.not_after(), folder.display())
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))
}

fn main() -> ExitCode {
    undercroft_cli::main::<NodeProgram>()
}

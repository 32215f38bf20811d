//! `undercroft keys`: keys are made on the machine where they live, and only requests leave it.

mod reconcile;

use std::path::{Path, PathBuf};

use futures::executor::block_on;
use serde_json::json;
use undercroft_ca::certificate::to_pem;
use undercroft_ca::csr::{RequestError, request_for, request_info, signed_request};
use undercroft_ca::custody::CustodyFile;
use undercroft_cli::{Environment, Failure, StrictArgs, Terminal, write_file};
use undercroft_keymgr::{KeyUri, LedgerPlaces};
use undercroft_keys::KeyAlgorithm;

use super::activation::{ActivateArgs, activate};
use crate::config::{GateAddress, hexadecimal};
use crate::gates::ForRequest;
use crate::http::Http;

use self::reconcile::ReconcileArgs;

/// Commands about keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key in a device, and write a CSR and a custody file for the ceremony that certifies it.
    Create(CreateArgs),
    /// Write the CSR of a key that is there already: of a gated one, with the word of a gate.
    Request(RequestArgs),
    /// Prepare a TPM for a ledger: its attestation key, its counter, and the list of commands that it audits. What is
    /// there already stays.
    Provision(ProvisionArgs),
    /// Have a witness certify the attestation key of a TPM, so that it can prove where keys live.
    Activate(ActivateArgs),
    /// Write evidence of where a key lives, for an auditor: `undercroft-audit custody` judges it.
    Attest(AttestArgs),
    /// Compare what a provider of keys has logged of their use (CloudTrail's files) with the intents of an exported log.
    /// Exits with 5 if a signature has no intent.
    Reconcile(ReconcileArgs),
    /// List the keys in the devices.
    List {
        #[command(flatten)]
        devices: DevicesArgs,
    },
    /// Show a key: its algorithm, key id and custody.
    Show {
        #[command(flatten)]
        devices: DevicesArgs,
        /// The key's URI.
        uri: KeyUri,
        /// What the key is and how it signs.
        #[arg(long)]
        algorithm: KeyAlgorithm,
    },
}

/// Arguments of `keys create`.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    devices: DevicesArgs,
    /// The key's URI: which device, and how the key is called there.
    uri: KeyUri,
    /// What the key is and how it signs: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048-pss, …
    #[arg(long)]
    algorithm: KeyAlgorithm,
    /// The name of the request: <NAME>.csr.pem and <NAME>.custody.json are written.
    #[arg(long)]
    name: String,
    /// The folder that they are written to.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Make a key that signs only what one of the gates in this file has authorised. Its CSR is made afterwards, by
    /// `keys request`, when the gates know the key.
    #[arg(long)]
    gates: Option<PathBuf>,
    /// Make a throwaway key of the algorithm to see that the device can, and make no other.
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `keys request`.
#[derive(Debug, clap::Args)]
pub(super) struct RequestArgs {
    #[command(flatten)]
    devices: DevicesArgs,
    /// The key's URI.
    uri: KeyUri,
    /// What the key is and how it signs.
    #[arg(long)]
    algorithm: KeyAlgorithm,
    /// The name of the request: <NAME>.csr.pem is written.
    #[arg(long)]
    name: String,
    /// The folder that it is written to.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// The file with the gates that the key was made with.
    #[arg(long)]
    gates: Option<PathBuf>,
}

/// Arguments of `keys provision`.
#[derive(Debug, clap::Args)]
pub(super) struct ProvisionArgs {
    #[command(flatten)]
    devices: DevicesArgs,
    /// The device, by its name in the environment.
    device: String,
    /// The persistent handle of the attestation key.
    #[arg(long, default_value = "0x81010100")]
    attestation_key: String,
    /// The NV index of the counter.
    #[arg(long, default_value = "0x01800100")]
    counter: String,
}

/// Arguments of `keys attest`.
#[derive(Debug, clap::Args)]
pub(super) struct AttestArgs {
    #[command(flatten)]
    devices: DevicesArgs,
    /// The key's URI.
    uri: KeyUri,
    /// What the key is and how it signs.
    #[arg(long)]
    algorithm: KeyAlgorithm,
    /// 32 bytes in hexadecimal that the auditor chose: a TPM answers them, so that the evidence is no older than they are.
    #[arg(long)]
    challenge: Option<String>,
    /// The custody file that is written.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct DevicesArgs {
    /// The environment file with the devices.
    #[arg(long, env = "UNDERCROFT_ENVIRONMENT")]
    environment: PathBuf,
    #[command(flatten)]
    strict: StrictArgs,
}

impl DevicesArgs {
    pub(super) fn read(&self) -> Result<Environment, Failure> {
        Environment::read(&self.environment, self.strict.secrecy(), crate::backends(self.strict.secrecy()))
    }
}

impl KeysCommand {
    pub(super) fn run(self, terminal: &Terminal) -> Result<(), Failure> {
        match self {
            Self::Create(args) => block_on(create(&args, terminal)),
            Self::Request(args) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime =
                    runtime.map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
                runtime.block_on(request(&args, terminal))
            }
            Self::Provision(args) => block_on(provision(&args, terminal)),
            Self::Activate(args) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime =
                    runtime.map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
                runtime.block_on(activate(&args, terminal))
            }
            Self::Attest(args) => block_on(attest(&args, terminal)),
            Self::Reconcile(args) => args.run(terminal),
            Self::List { devices } => block_on(list(&devices.read()?, terminal)),
            Self::Show { devices, uri, algorithm } => {
                block_on(show(&devices.read()?, &uri, algorithm, terminal))
            }
        }
    }
}

async fn create(args: &CreateArgs, terminal: &Terminal) -> Result<(), Failure> {
    let environment = args.devices.read()?;
    let tokens = &environment.tokens;
    let csr_path = args.out.join(format!("{}.csr.pem", args.name));
    let custody_path = args.out.join(format!("{}.custody.json", args.name));
    nothing_is_there(&[&csr_path, &custody_path])?;
    let (device, uri) = tokens.locate(&args.uri)?;
    if args.dry_run {
        tokens.manager(device)?.throwaway(args.algorithm).await?;
        return terminal.result(&json!({ "made": false }), || {
            format!("Device `{}` can make {} keys. No key was made.\n", device.name, args.algorithm)
        });
    }
    let key = match &args.gates {
        None => tokens.manager(device)?.create(&uri, args.algorithm).await?,
        Some(file) => {
            let gates = GateAddress::read_file(file, environment.development)?;
            let gates: Vec<_> = gates.into_iter().map(|gate| gate.key).collect();
            tokens.manager(device)?.create_gated(&uri, args.algorithm, &gates).await?
        }
    };
    let csr = match &key.gated {
        Some(_) => None,
        None => Some(request_for(&*key.signer).await.map_err(not_made)?),
    };
    let evidence = key.custody.custody_evidence().await?;
    let judged = environment.judge(&evidence, &key);
    let file = CustodyFile::new(args.uri.to_string(), args.algorithm, evidence);
    let json = serde_json::to_vec_pretty(&file).map_err(|error| Failure::failed(error.to_string()))?;
    write_file(&custody_path, &json)?;
    if let Some(csr) = &csr {
        write_file(&csr_path, to_pem("CERTIFICATE REQUEST", csr)?.as_bytes())?;
    }
    let value = json!({
        "uri": uri.to_string(),
        "key-id": key.signer.public_key().id().to_string(),
        "custody": judged.grade.to_string(),
        "findings": judged.findings,
        "csr": csr.as_ref().map(|_| &csr_path),
        "custody-file": custody_path,
    });
    terminal.result(&value, || {
        let (id, custody) = (key.signer.public_key().id(), custody_path.display());
        let next = match csr {
            Some(_) => format!("take {} and {custody} to the ceremony", csr_path.display()),
            None => format!("give {custody} to its gates, then run `undercroft keys request`"),
        };
        format!("{} key {id} in `{}`, custody {}; {next}\n", args.algorithm, device.name, judged.grade)
    })
}

async fn request(args: &RequestArgs, terminal: &Terminal) -> Result<(), Failure> {
    let environment = args.devices.read()?;
    let csr_path = args.out.join(format!("{}.csr.pem", args.name));
    nothing_is_there(&[&csr_path])?;
    let key = environment.tokens.open(&args.uri, args.algorithm).await?;
    let csr = match (&key.gated, &args.gates) {
        (Some(gated), Some(file)) => {
            let gates = GateAddress::read_file(file, environment.development)?;
            let keys: Vec<_> = gates.iter().map(|gate| gate.key.clone()).collect();
            let info = request_info(gated.public_key());
            let info = info.map_err(|error| Failure::failed(error.to_string()))?;
            let word = ForRequest { gates, http: Http::new()?, key: gated.public_key().id() };
            let signature = gated.sign(&info, &keys, &word).await?.signature;
            signed_request(&info, args.algorithm, &signature).map_err(not_made)?
        }
        // The signer of a gated key says that it wants gates.
        (None, _) | (Some(_), None) => request_for(&*key.signer).await.map_err(not_made)?,
    };
    write_file(&csr_path, to_pem("CERTIFICATE REQUEST", &csr)?.as_bytes())?;
    let id = key.signer.public_key().id().to_string();
    terminal.result(&json!({ "key-id": id, "csr": csr_path }), || {
        format!("{} is the request of key {id}\n", csr_path.display())
    })
}

async fn attest(args: &AttestArgs, terminal: &Terminal) -> Result<(), Failure> {
    let environment = args.devices.read()?;
    nothing_is_there(&[&args.out])?;
    let challenge = args.challenge.as_deref().map(|text| {
        let mut challenge = [0; 32];
        hex::decode_to_slice(text, &mut challenge)
            .map(|()| challenge)
            .map_err(|error| Failure::usage(format!("--challenge: 32 bytes in hexadecimal: {error}")))
    });
    let key = environment.tokens.open(&args.uri, args.algorithm).await?;
    let evidence = match challenge.transpose()? {
        Some(challenge) => key.custody.answer(challenge).await?,
        None => key.custody.custody_evidence().await?,
    };
    let judged = environment.judge(&evidence, &key);
    let file = CustodyFile::new(args.uri.to_string(), args.algorithm, evidence);
    let json = serde_json::to_vec_pretty(&file).map_err(|error| Failure::failed(error.to_string()))?;
    write_file(&args.out, &json)?;
    let id = key.signer.public_key().id().to_string();
    let value = json!({
        "key-id": id,
        "custody": judged.grade.to_string(),
        "findings": judged.findings,
        "custody-file": args.out,
    });
    terminal.result(&value, || {
        format!("{} holds the evidence of key {id}, custody {}\n", args.out.display(), judged.grade)
    })
}

async fn provision(args: &ProvisionArgs, terminal: &Terminal) -> Result<(), Failure> {
    let tokens = args.devices.read()?.tokens;
    let places = LedgerPlaces {
        attestation_key: hexadecimal("--attestation-key", &args.attestation_key)?,
        counter: hexadecimal("--counter", &args.counter)?,
    };
    let ledger = tokens.manager(tokens.device(&args.device)?)?.ledger(places)?;
    ledger.provision().await?;
    let (audited, counter) = (ledger.audited().await?, ledger.counter().await?);
    let value = json!({
        "device": args.device,
        "attestation-key": args.attestation_key,
        "counter": args.counter,
        "counter-from": counter,
        "audited": audited,
    });
    terminal.result(&value, || {
        format!(
            "The TPM audits {} commands. For the domain's configuration:\n\n[domain.ledger]\ndevice = \"{}\"\nattestation-key = \"{}\"\ncounter = \"{}\"\ncounter-from = {counter}\n",
            audited.len(),
            args.device,
            args.attestation_key,
            args.counter
        )
    })
}

fn not_made(error: RequestError) -> Failure {
    match error {
        RequestError::Token(error) => error.into(),
        RequestError::Csr(_) | RequestError::Der(_) => Failure::failed(error.to_string()),
    }
}

/// A request that is there already belongs to another key.
fn nothing_is_there(paths: &[&Path]) -> Result<(), Failure> {
    match paths.iter().find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => Err(Failure::usage(format!(
            "{} exists already; choose another --name or --out, or move it away",
            path.display()
        ))),
    }
}

async fn list(environment: &Environment, terminal: &Terminal) -> Result<(), Failure> {
    let tokens = &environment.tokens;
    let mut listed = Vec::new();
    for device in tokens.devices() {
        for stored in tokens.manager(device)?.list().await? {
            listed.push((device.name.clone(), stored));
        }
    }
    let value: Vec<_> = listed
        .iter()
        .map(|(device, stored)| {
            json!({
                "device": device,
                "uri": stored.uri.to_string(),
                "type": stored.public_key.as_ref().map(|key| key.key_type().to_string()),
                "key-id": stored.public_key.as_ref().map(|key| key.id().to_string()),
            })
        })
        .collect();
    terminal.result(&value, || {
        listed
            .iter()
            .map(|(device, stored)| {
                let key = match &stored.public_key {
                    Some(key) => format!("{:10} {}", key.key_type().to_string(), key.id()),
                    None => "not a key that Undercroft uses".to_owned(),
                };
                format!("{device:12} {key}  {}\n", stored.uri)
            })
            .collect()
    })
}

async fn show(
    environment: &Environment,
    uri: &KeyUri,
    algorithm: KeyAlgorithm,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let key = environment.tokens.open(uri, algorithm).await?;
    let evidence = key.custody.custody_evidence().await?;
    let judged = environment.judge(&evidence, &key);
    let value = json!({
        "uri": uri.to_string(),
        "algorithm": algorithm.to_string(),
        "key-id": key.signer.public_key().id().to_string(),
        "custody": judged.grade.to_string(),
        "findings": judged.findings,
    });
    terminal.result(&value, || {
        let mut text = format!(
            "{uri}\n  algorithm  {algorithm}\n  key id     {}\n  custody    {}\n",
            key.signer.public_key().id(),
            judged.grade
        );
        for finding in &judged.findings {
            text += &format!("             {finding}\n");
        }
        text
    })
}

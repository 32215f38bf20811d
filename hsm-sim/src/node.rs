//! A node with a TPM, as a test needs it: swtpm with an endorsement, a boot that is extended into it, and both messages of the
//! exchange (`docs/attestation.md`).
//!
//! It is written after the specification and uses tpm2-tools; it shares no code with what judges it, not even the messages.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};

use crate::measured_boot::{MeasuredBoot, SimBank};
use crate::programs::{SimError, run};
use crate::swtpm::{Manufacture, RunningSwtpm, Swtpm};

/// Where its keys are, since contexts do not outlive a reset: endorsement, attestation, and the certificate's.
const ENDORSEMENT: u32 = 0x8101_0002;
const ATTESTATION: u32 = 0x8101_0010;
const KEY: u32 = 0x8101_0020;
/// Where the maker leaves the certificate of the RSA endorsement key (TCG EK Credential Profile 2.5, section 2.2.1.4).
const CERTIFICATE: &str = "0x01c00002";
/// How many PCRs a command extends.
const EXTENDED: usize = 40;
/// The PCRs that a firmware's event log accounts for.
pub const BOOT_PCRS: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];

/// A node.
#[derive(Debug)]
pub struct SimNode {
    tpm: Swtpm,
    /// None while it is off.
    running: Option<RunningSwtpm>,
    folder: PathBuf,
    log: Vec<u8>,
}

/// A credential that opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What was in it.
    pub secret: Vec<u8>,
}

impl SimNode {
    /// Makes a TPM in `folder` with its maker's certificate, starts it, boots it with `boot`, and makes its keys.
    ///
    /// # Errors
    /// swtpm or tpm2-tools are not installed, or fail.
    pub fn make(folder: &Path, boot: &MeasuredBoot) -> Result<Self, SimError> {
        let tpm = Swtpm::manufacture(folder, Manufacture::WithEndorsement)?;
        let folder = folder.canonicalize().map_err(SimError::file(folder))?;
        let mut own = Self { tpm, running: None, folder, log: Vec::new() };
        own.boot(boot)?;
        let endorsement = format!("{ENDORSEMENT:#x}");
        own.tool("createek", &["-Q", "-G", "rsa", "-c", &endorsement])?;
        let kind = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign|noda";
        own.primary("e", &format!("{kind}|restricted"), ATTESTATION)?;
        own.primary("o", kind, KEY)?;
        Ok(own)
    }

    /// Starts the machine, again if it runs: the TPM is reset, and extended with `boot`.
    ///
    /// # Errors
    /// As [`SimNode::make`].
    pub fn boot(&mut self, boot: &MeasuredBoot) -> Result<(), SimError> {
        if self.running.is_some() {
            // Without it the clock would not be safe (Part 1, section 36.3).
            self.tool("shutdown", &["-c"])?;
        }
        // The old one is gone before the new one comes.
        self.running = None;
        self.running = Some(self.tpm.start()?);
        // swtpm has the bank of SHA-256 always, and the others where it was set up so.
        let extends = MeasuredBoot { banks: vec![SimBank::Sha256], events: boot.events.clone() }.extends();
        for some in extends.chunks(EXTENDED) {
            self.tool("pcrextend", &some.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        self.log = boot.log();
        Ok(())
    }

    /// Extends a PCR of the bank of SHA-256, as something would that the firmware's log does not know.
    ///
    /// # Errors
    /// As [`SimNode::make`].
    pub fn extend(&self, pcr: u8, with: [u8; 32]) -> Result<(), SimError> {
        self.tool("pcrextend", &[&format!("{pcr}:sha256={}", hex::encode(with))]).map(drop)
    }

    /// The certificate of its maker, PEM: an anchor.
    pub fn anchor(&self) -> PathBuf {
        let [anchor, _] = self.tpm.manufacturer();
        anchor
    }

    /// DER of the SubjectPublicKeyInfo of the key that it asks a certificate for.
    ///
    /// # Errors
    /// As [`SimNode::make`].
    pub fn key(&self) -> Result<Vec<u8>, SimError> {
        self.tool("readpublic", &["-Q", "-c", &format!("{KEY:#x}"), "-f", "der", "-o", "spki"])?;
        self.file("spki")
    }

    /// The first message.
    ///
    /// # Errors
    /// As [`SimNode::make`].
    pub fn hello(&self, domain: &str) -> Result<Vec<u8>, SimError> {
        let [_, issuer] = self.tpm.manufacturer();
        let text = fs::read_to_string(&issuer).map_err(SimError::file(&issuer))?;
        let issuer = pem(&text).ok_or_else(|| SimError::NotReady(format!("{}: no PEM", issuer.display())))?;
        let own = self.tool("nvread", &["-C", "o", CERTIFICATE])?;
        // The index is larger than what is in it.
        let length = own.get(2..4).map_or(0, |size| 4 + usize::from(size[0]) * 256 + usize::from(size[1]));
        let own = own.get(..length).unwrap_or_default().to_vec();
        let message = json!({
            "domain": domain,
            "request": base64(&self.request()?),
            "tpm": {
                "endorsement": base64(&self.public(ENDORSEMENT)?),
                "chain": [base64(&own), base64(&issuer)],
                "attestation-key": base64(&self.public(ATTESTATION)?),
                "key": base64(&self.public(KEY)?),
            },
        });
        Ok(message.to_string().into_bytes())
    }

    /// The second message, to a challenge as it was sent.
    ///
    /// # Errors
    /// As [`SimNode::make`]; the challenge is none, or the credential is for another TPM.
    pub fn answer(&self, hello: &[u8], challenge: &[u8], exporter: &[u8; 32]) -> Result<Vec<u8>, SimError> {
        let message: Value = serde_json::from_slice(challenge).map_err(unread)?;
        let tpm = &message["tpm"];
        let content = |name: &str| {
            let text = tpm[name].as_str().unwrap_or_default();
            Base64::decode_vec(text).map_err(unread)
        };
        let opened = self.open(&content("credential")?, &content("secret")?)?;
        self.show(hello, Some((challenge, &opened)), exporter, &tpm["wanted"])
    }

    /// The second message where there was no challenge: the attestation key is known. `wanted` is what a TPM is to show,
    /// as a challenge says it.
    ///
    /// # Errors
    /// As [`SimNode::make`].
    pub fn answer_at_once(
        &self,
        hello: &[u8],
        wanted: &Value,
        exporter: &[u8; 32],
    ) -> Result<Vec<u8>, SimError> {
        self.show(hello, None, exporter, wanted)
    }

    /// The second message, to a challenge whose secret is known already. Only a judge who made it up believes it.
    ///
    /// # Errors
    /// As [`SimNode::make`].
    pub fn show(
        &self,
        hello: &[u8],
        challenge: Option<(&[u8], &Opened)>,
        exporter: &[u8; 32],
        wanted: &Value,
    ) -> Result<Vec<u8>, SimError> {
        let transcript = transcript(hello, challenge.map(|(challenge, _)| challenge), exporter);
        let mac = challenge.map(|(_, opened)| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &opened.secret);
            base64(hmac::sign(&key, &transcript).as_ref())
        });
        let (quote, values) = self.quote(wanted, &qualifying("quote", &transcript))?;
        let mut tpm = json!({
            "quote": quote,
            "pcrs": values,
            "certify": self.certify(&qualifying("key", &transcript))?,
        });
        if let Some(mac) = mac {
            tpm["mac"] = mac.into();
        }
        if wanted["event-log"] == true {
            tpm["event-log"] = base64(&self.log).into();
        }
        Ok(json!({ "tpm": tpm }).to_string().into_bytes())
    }

    /// TPM2_ActivateCredential, by the policy of the endorsement key (its template asks for the endorsement's authorisation).
    fn open(&self, credential: &[u8], secret: &[u8]) -> Result<Opened, SimError> {
        let mut file = vec![0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
        for part in [credential, secret] {
            file.extend(u16::try_from(part.len()).unwrap_or(0).to_be_bytes());
            file.extend(part);
        }
        let path = self.folder.join("credential");
        fs::write(&path, file).map_err(SimError::file(&path))?;
        self.tool("startauthsession", &["--policy-session", "-S", "session"])?;
        self.tool("policysecret", &["-Q", "-S", "session", "-c", "e"])?;
        let (attestation, endorsement) = (format!("{ATTESTATION:#x}"), format!("{ENDORSEMENT:#x}"));
        let arguments = [
            "-Q",
            "-c",
            &attestation,
            "-C",
            &endorsement,
            "-i",
            "credential",
            "-o",
            "opened",
            "-P",
            "session:session",
        ];
        let opened = self.tool("activatecredential", &arguments);
        self.tool("flushcontext", &["session"])?;
        opened?;
        Ok(Opened { secret: self.file("opened")? })
    }

    fn quote(&self, wanted: &Value, extra: &[u8; 32]) -> Result<(Value, Vec<String>), SimError> {
        let mut banks = Vec::new();
        for bank in wanted["pcrs"].as_array().into_iter().flatten() {
            let pcrs = bank["pcrs"].as_array().into_iter().flatten().map(Value::to_string);
            let name = bank["bank"].as_str().unwrap_or_default();
            let size = if name == "sha384" { 48 } else { 32 };
            banks.push((format!("{name}:{}", pcrs.collect::<Vec<_>>().join(",")), size));
        }
        let selection = banks.iter().map(|(bank, _)| bank.as_str()).collect::<Vec<_>>().join("+");
        let (signer, extra) = (format!("{ATTESTATION:#x}"), hex::encode(extra));
        self.tool(
            "quote",
            &[
                "-Q",
                "-c",
                &signer,
                "-l",
                &selection,
                "-g",
                "sha256",
                "-q",
                &extra,
                "-m",
                "attest",
                "-s",
                "signature",
            ],
        )?;
        let quote =
            json!({ "attest": base64(&self.file("attest")?), "signature": base64(&self.file("signature")?) });
        let mut values = Vec::new();
        for (bank, size) in &banks {
            self.tool("pcrread", &["-Q", "-o", "values", bank])?;
            values.extend(self.file("values")?.chunks(*size).map(base64));
        }
        Ok((quote, values))
    }

    /// TPM2_Certify, whose extraData tpm2_certify cannot give.
    fn certify(&self, extra: &[u8; 32]) -> Result<Value, SimError> {
        let password = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let mut command = vec![0x80, 2, 0, 0, 0, 0, 0, 0, 1, 0x48];
        command.extend(KEY.to_be_bytes());
        command.extend(ATTESTATION.to_be_bytes());
        command.extend([0, 0, 0, 18]);
        command.extend([password, password].concat());
        command.extend([0, 32]);
        command.extend(extra);
        command.extend([0, 0x10]);
        let length = u32::try_from(command.len()).unwrap_or(0).to_be_bytes();
        command[2..6].copy_from_slice(&length);
        let answer = self.send(&command)?;
        let broken = || SimError::NotReady(format!("TPM2_Certify answered {}", hex::encode(&answer)));
        let sized = |from: usize| {
            Some((from, usize::from(*answer.get(from)?) * 256 + usize::from(*answer.get(from + 1)?)))
        };
        let (at, size) = sized(14).filter(|_| answer.get(6..10) == Some(&[0; 4])).ok_or_else(broken)?;
        // The size of the parameters, of which the two higher bytes are zero.
        let (_, parameters) = sized(12).ok_or_else(broken)?;
        let end = 14 + parameters;
        let attest = answer.get(at + 2..at + 2 + size).ok_or_else(broken)?;
        let signature = answer.get(at + 2 + size..end).ok_or_else(broken)?;
        Ok(json!({ "attest": base64(attest), "signature": base64(signature) }))
    }

    /// A PKCS #10 request without a name for the key in the TPM, which signs it.
    fn request(&self) -> Result<Vec<u8>, SimError> {
        let info = tlv(0x30, &[&[2, 1, 0][..], &tlv(0x30, &[]), &self.key()?, &tlv(0xa0, &[])].concat());
        let path = self.folder.join("info");
        fs::write(&path, &info).map_err(SimError::file(&path))?;
        self.tool(
            "sign",
            &[
                "-Q",
                "-c",
                &format!("{KEY:#x}"),
                "-g",
                "sha256",
                "-s",
                "ecdsa",
                "-f",
                "plain",
                "-o",
                "signed",
                "info",
            ],
        )?;
        // ecdsa-with-SHA256.
        let algorithm = tlv(0x30, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
        let signature = tlv(3, &[&[0][..], &self.file("signed")?].concat());
        Ok(tlv(0x30, &[info, algorithm, signature].concat()))
    }

    fn primary(&self, hierarchy: &str, attributes: &str, handle: u32) -> Result<(), SimError> {
        let kind = "ecc256:ecdsa-sha256:null";
        self.tool(
            "createprimary",
            &["-Q", "-C", hierarchy, "-G", kind, "-g", "sha256", "-a", attributes, "-c", "primary"],
        )?;
        self.tool("evictcontrol", &["-Q", "-C", "o", "-c", "primary", &format!("{handle:#x}")])?;
        self.tool("flushcontext", &["-t"]).map(drop)
    }

    /// TPMT_PUBLIC of a key.
    fn public(&self, handle: u32) -> Result<Vec<u8>, SimError> {
        self.tool("readpublic", &["-Q", "-c", &format!("{handle:#x}"), "-o", "public"])?;
        Ok(self.file("public")?.split_off(2))
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<Vec<u8>, SimError> {
        let mut command = Command::new(format!("tpm2_{name}"));
        command.current_dir(&self.folder).env("TPM2TOOLS_TCTI", self.tpm.tcti()).args(arguments);
        Ok(run(&mut command, "tpm2-tools")?.stdout)
    }

    fn send(&self, bytes: &[u8]) -> Result<Vec<u8>, SimError> {
        let mut command = Command::new("tpm2_send");
        command.env("TPM2TOOLS_TCTI", self.tpm.tcti()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let failed = |error: std::io::Error| SimError::Missing {
            program: "tpm2_send".into(),
            package: "tpm2-tools",
            error,
        };
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(bytes).map_err(failed)?;
        }
        Ok(child.wait_with_output().map_err(failed)?.stdout)
    }

    fn file(&self, name: &str) -> Result<Vec<u8>, SimError> {
        let path = self.folder.join(name);
        fs::read(&path).map_err(SimError::file(&path))
    }
}

/// What a challenge wants: PCRs of the bank of SHA-256, and the firmware's log or not.
pub fn wanted(pcrs: &[u8], event_log: bool) -> Value {
    json!({ "pcrs": [{ "bank": "sha256", "pcrs": pcrs }], "event-log": event_log })
}

/// The hash of an exchange.
fn transcript(hello: &[u8], challenge: Option<&[u8]>, exporter: &[u8; 32]) -> [u8; 32] {
    let sized = |message: &[u8]| [&(message.len() as u64).to_be_bytes()[..], message].concat();
    let said = match challenge {
        Some(challenge) => {
            [b"undercroft node exchange v1\n", &sized(hello)[..], &sized(challenge), exporter].concat()
        }
        None => [b"undercroft node again v1\n", &sized(hello)[..], exporter].concat(),
    };
    sha256(&said)
}

/// The extraData of what is signed in an exchange.
fn qualifying(purpose: &str, transcript: &[u8; 32]) -> [u8; 32] {
    sha256(&[format!("undercroft node {purpose} v1\n").as_bytes(), transcript].concat())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    Base64::encode_string(bytes.as_ref())
}

fn unread(error: impl std::fmt::Display) -> SimError {
    SimError::NotReady(format!("the challenge cannot be read: {error}"))
}

/// DER of a value of less than 64 KiB.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    // The shortest form (X.690 section 10.1).
    match content.len() {
        ..=127 => [&[tag, low], content].concat(),
        128..=255 => [&[tag, 0x81, low], content].concat(),
        _ => [&[tag, 0x82, high, low], content].concat(),
    }
}

/// The first block of a PEM text.
fn pem(text: &str) -> Option<Vec<u8>> {
    let body = text.split("-----").nth(2)?;
    Base64::decode_vec(&body.split_ascii_whitespace().collect::<String>()).ok()
}

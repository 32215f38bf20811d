//! The TPM's side of an exchange: hello and answer.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use undercroft_attestors::exchange::{Answer, Hello, Signed, TpmAnswer, TpmChallenge, TpmHello, Wanted};
use undercroft_attestors::tpm::node::Purpose;
use undercroft_ca::csr;
use undercroft_cli::Failure;
use undercroft_keymgr::EndorsementKey;
use undercroft_keys::KeyAlgorithm;
use undercroft_log::leaf::Base64Bytes;
use undercroft_tpm::{NodeKey, NodeQuote, NodeTpm, Statement};
use zeroize::Zeroizing;

/// The longest event log, in bytes: in base64 it must fit into a message. Real ones have 10 to 150 kB.
const MAX_LOG: usize = 1 << 20;

/// A TPM with the keys that one exchange is about.
#[derive(Debug)]
pub struct Evidence {
    tpm: NodeTpm,
    endorsement: EndorsementKey,
    key: NodeKey,
    event_log: PathBuf,
}

impl Evidence {
    /// Takes a TPM, one of its endorsement keys, and the certificate's key.
    pub fn new(tpm: NodeTpm, endorsement: EndorsementKey, key: NodeKey, event_log: PathBuf) -> Self {
        Self { tpm, endorsement, key, event_log }
    }

    /// The key that the certificate is for.
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// The endorsement key.
    pub fn endorsement(&self) -> &EndorsementKey {
        &self.endorsement
    }

    /// The first message.
    ///
    /// # Errors
    /// The TPM does not do it.
    pub fn hello(&mut self, domain: &str) -> Result<Hello, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("the request: {error}"));
        let info = csr::request_info(self.key.public_key()).map_err(|error| failed(&error))?;
        let signature = self.tpm.sign(&self.key, &info)?;
        let request = csr::signed_request(&info, KeyAlgorithm::EcdsaP256, &signature);
        Ok(Hello {
            domain: domain.to_owned(),
            request: Base64Bytes(request.map_err(|error| failed(&error))?),
            tpm: TpmHello {
                endorsement: Base64Bytes(self.endorsement.public.clone()),
                chain: self.endorsement.chain.iter().cloned().map(Base64Bytes).collect(),
                attestation_key: Base64Bytes(self.tpm.attestation_key()?),
                key: Base64Bytes(self.key.public().to_vec()),
            },
        })
    }

    /// What a credential encloses.
    ///
    /// # Errors
    /// It was made for another attestation key, or another TPM: whoever made it does not answer our hello.
    pub fn opened(&mut self, challenge: &TpmChallenge) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let opened = self.tpm.activate(&self.endorsement, &challenge.credential.0, &challenge.secret.0);
        opened.map(Zeroizing::new).map_err(|error| match error.kind() {
            undercroft_keymgr::ErrorKind::Unavailable => error.into(),
            _ => Failure::tampered(format!(
                "the challenge is not for this TPM and its attestation key: {error}"
            )),
        })
    }

    /// The answer in an exchange whose transcript has the hash `transcript`; with the secret that a credential enclosed, if
    /// there was one.
    ///
    /// # Errors
    /// What is wanted makes no sense, or this TPM does not have it.
    pub fn answer(
        &mut self,
        wanted: &Wanted,
        transcript: &[u8; 32],
        secret: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let selection = wanted.selection().ok_or_else(|| {
            Failure::tampered("the daemon asks for PCRs that no TPM has, or for a bank twice or without any")
        })?;
        let mac = |secret: &[u8]| {
            let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), transcript);
            Base64Bytes(mac.as_ref().to_vec())
        };
        let NodeQuote { signed: quote, values } =
            self.tpm.quote(&selection, &Purpose::Quote.qualifying(transcript))?;
        let certify = self.tpm.certify(&self.key, &Purpose::Key.qualifying(transcript))?;
        let event_log = wanted.event_log.then(|| read_event_log(&self.event_log)).transpose()?;
        Ok(Answer {
            tpm: TpmAnswer {
                mac: secret.map(mac),
                quote: signed(quote),
                pcrs: values.into_iter().map(Base64Bytes).collect(),
                certify: signed(certify),
                creation: None,
                event_log: event_log.map(Base64Bytes),
            },
        })
    }
}

fn signed(statement: Statement) -> Signed {
    Signed { attest: Base64Bytes(statement.attest), signature: Base64Bytes(statement.signature) }
}

/// Reads the firmware's event log.
///
/// # Errors
/// It cannot be read, or is longer than any.
pub fn read_event_log(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |what: String| {
        Failure::unreachable(format!(
            "{}: {what}. It is the firmware's event log, which root alone may read: the systemd unit copies it; event-log in the configuration says where it is",
            path.display()
        ))
    };
    let file = fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut log = Vec::new();
    let read = file.take(MAX_LOG as u64 + 1).read_to_end(&mut log);
    read.map_err(|error| wrong(error.to_string()))?;
    match log.len() {
        0 => Err(wrong("it is empty".to_owned())),
        1..=MAX_LOG => Ok(log),
        _ => Err(wrong(format!("it has more than {MAX_LOG} bytes"))),
    }
}

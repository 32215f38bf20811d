//! The witness as an activator: it has a TPM open a credential, and signs that it saw the attestation key beside an
//! endorsement key of a manufacturer that it knows (`docs/keys.md`).
//!
//! Two steps, a session between them. A session is good for one try, right or wrong, and for two minutes; there are few at a
//! time. They are in memory: a witness that starts again has forgotten them, and whoever was in between begins again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use jiff::{SignedDuration, Timestamp};
use undercroft_attestors::chain::Anchors;
use undercroft_attestors::tpm::activation::{ActivationError, Statement};
use undercroft_attestors::tpm::attestation_key::{self, AttestationKeyError};
use undercroft_attestors::tpm::credential::{self, CredentialError};
use undercroft_attestors::tpm::endorsement::EndorsementError;
use undercroft_attestors::tpm::exchange::{Begin, Begun, Finish, Finished};
use undercroft_ca::serial::Entropy;
use undercroft_keymgr::SigningKey;
use undercroft_log::Clock;
use undercroft_log::cosignature::WitnessKey;
use undercroft_tpm_wire::PublicArea;

/// How long a TPM may take: some make their endorsement key anew, which takes a slow one half a minute.
const LIFETIME: SignedDuration = SignedDuration::from_secs(120);
/// The most sessions at a time.
const MOST: usize = 64;

/// Has attestation keys activated, and certifies them.
pub struct Activator {
    key: WitnessKey,
    signer: Arc<dyn SigningKey>,
    anchors: Anchors,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    sessions: Mutex<HashMap<String, Session>>,
}

/// What was enclosed for whom.
struct Session {
    statement: Statement,
    secret: [u8; 32],
    until: Timestamp,
}

impl Activator {
    /// An activator with a witness's key, who knows these manufacturers.
    pub fn new(
        key: WitnessKey,
        signer: Arc<dyn SigningKey>,
        anchors: Anchors,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { key, signer, anchors, clock, entropy, sessions: Mutex::default() }
    }

    /// The first step: verifies what is claimed, and encloses a secret.
    ///
    /// # Errors
    /// See [`NotActivated`].
    pub fn begin(&self, begin: &Begin) -> Result<Begun, NotActivated> {
        let now = self.clock.now();
        let area = read_area(&begin.attestation_key)?;
        attestation_key::check(&area)?;
        let endorsement = begin.endorsement.read()?;
        let endorsed = endorsement.verify(&self.anchors, now)?;
        let (mut secret, mut seed, mut session) = ([0; 32], [0; 64], [0; 16]);
        for buffer in [&mut secret[..], &mut seed, &mut session] {
            self.entropy.fill(buffer).map_err(|error| NotActivated::Broken(error.to_string()))?;
        }
        let name = area.name();
        let enclosed = credential::make(&endorsement.public, &name, &secret, &seed)?;
        let statement = Statement::new(
            &name,
            endorsement.certificate.digest(),
            endorsement.chain_digest(),
            endorsed.anchor,
        );
        let id = hex::encode(session);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= MOST {
            return Err(NotActivated::Busy);
        }
        sessions.insert(id.clone(), Session { statement, secret, until: now + LIFETIME });
        Ok(Begun {
            session: id,
            credential: hex::encode(enclosed.credential),
            secret: hex::encode(enclosed.secret),
        })
    }

    /// The second step: signs what was seen, if the secret is the one that was enclosed.
    ///
    /// # Errors
    /// See [`NotActivated`]. The session is gone in any case.
    pub async fn finish(&self, finish: &Finish) -> Result<Finished, NotActivated> {
        let now = self.clock.now();
        let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&finish.session);
        let session = session.filter(|session| session.until > now).ok_or(NotActivated::Session)?;
        if read_area(&finish.attestation_key)?.name().to_string() != session.statement.name {
            return Err(NotActivated::OtherKey);
        }
        let secret =
            hex::decode(&finish.secret).map_err(|error| NotActivated::Malformed(error.to_string()))?;
        verify_slices_are_equal(&secret, &session.secret).map_err(|_| NotActivated::Secret)?;
        let message = session.statement.message(&self.key, now)?;
        let signature = self.signer.sign(&message).await;
        let signature = signature.map_err(|error| NotActivated::Broken(error.to_string()))?;
        tracing::info!(name = session.statement.name, "an attestation key is certified");
        Ok(Finished { certificate: session.statement.signed(&self.key, now, &signature) })
    }
}

fn read_area(hexadecimal: &str) -> Result<PublicArea, NotActivated> {
    let malformed = |error: &dyn std::fmt::Display| {
        NotActivated::Malformed(format!("the attestation key's public area: {error}"))
    };
    let bytes = hex::decode(hexadecimal).map_err(|error| malformed(&error))?;
    PublicArea::parse(&bytes).map_err(|error| malformed(&error))
}

/// Why an attestation key is not certified.
#[derive(Debug, thiserror::Error)]
pub enum NotActivated {
    /// No message of ours.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Not an attestation key.
    #[error("{0}")]
    AttestationKey(#[from] AttestationKeyError),
    /// Not an endorsement key of a manufacturer that is known.
    #[error("{0}")]
    Endorsement(#[from] EndorsementError),
    /// An endorsement key that takes no credential.
    #[error("{0}")]
    Credential(#[from] CredentialError),
    /// Too many at a time.
    #[error("too many activations are under way; come back in two minutes")]
    Busy,
    /// No such session.
    #[error("the session is unknown, was used, or has expired; begin again")]
    Session,
    /// Another attestation key than in the first step.
    #[error("the session was begun for another attestation key; begin again")]
    OtherKey,
    /// Not what was enclosed.
    #[error("the secret is not the one that was enclosed; begin again")]
    Secret,
    /// The statement cannot be signed.
    #[error("{0}")]
    Statement(#[from] ActivationError),
    /// The witness cannot work: its token, its randomness.
    #[error("{0}")]
    Broken(String),
}

//! The witness as an activator: it has a TPM open a credential, and signs that it saw the attestation key beside an
//! endorsement key of a manufacturer that it knows (`docs/keys.md`).
//!
//! Two steps, and a session between them ([`sessions`]). Over HTTP ([`crate::serve`]) and by files ([`files`]) they are the same.

pub mod files;
pub mod sessions;

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use undercroft_attestors::chain::Anchors;
use undercroft_attestors::tpm::activation::{ActivationError, Statement};
use undercroft_attestors::tpm::attestation_key::{self, AttestationKeyError};
use undercroft_attestors::tpm::credential::{self, CredentialError};
use undercroft_attestors::tpm::endorsement::EndorsementError;
use undercroft_attestors::tpm::evidence::Activation;
use undercroft_attestors::tpm::exchange::{Begin, Begun, Finish};
use undercroft_ca::serial::Entropy;
use undercroft_keymgr::SigningKey;
use undercroft_log::Clock;
use undercroft_log::cosignature::WitnessKey;
use undercroft_tpm_wire::PublicArea;

use self::sessions::{Session, SessionId, Sessions};

/// Has attestation keys activated, and certifies them.
pub struct Activator {
    key: WitnessKey,
    signer: Arc<dyn SigningKey>,
    anchors: Anchors,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    sessions: Sessions,
}

impl Activator {
    /// An activator with a witness's key, who knows these manufacturers and keeps what it enclosed in `sessions`.
    pub fn new(
        key: WitnessKey,
        signer: Arc<dyn SigningKey>,
        anchors: Anchors,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        sessions: Sessions,
    ) -> Self {
        Self { key, signer, anchors, clock, entropy, sessions }
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
        let id = SessionId::new(session);
        let until = now + self.sessions.lifetime();
        let endorsement = begin.endorsement.clone();
        self.sessions.keep(&id, Session { statement, secret, endorsement, until }, now)?;
        Ok(Begun {
            session: id.to_string(),
            credential: hex::encode(enclosed.credential),
            secret: hex::encode(enclosed.secret),
            until,
        })
    }

    /// The second step: signs what was seen, if the secret is the one that was enclosed.
    ///
    /// # Errors
    /// See [`NotActivated`]. The session is gone in any case.
    pub async fn finish(&self, finish: &Finish) -> Result<Activation, NotActivated> {
        let now = self.clock.now();
        let session = self.sessions.take(&finish.session.parse()?, now)?;
        of_the_same_key(finish, &session)?;
        let secret =
            hex::decode(&finish.secret).map_err(|error| NotActivated::Malformed(error.to_string()))?;
        verify_slices_are_equal(&secret, &session.secret).map_err(|_| NotActivated::Secret)?;
        let message = session.statement.message(&self.key, now)?;
        let signature = self.signer.sign(&message).await;
        let signature = signature.map_err(|error| NotActivated::Broken(error.to_string()))?;
        tracing::info!(name = session.statement.name, "an attestation key is certified");
        let certificate = session.statement.signed(&self.key, now, &signature);
        Ok(Activation { certificate, endorsement: session.endorsement })
    }

    /// What [`Activator::finish`] would sign if the secret is right, which is not looked at: whoever could try secrets here
    /// would have more than one try.
    ///
    /// # Errors
    /// See [`NotActivated`].
    pub fn would_sign(&self, finish: &Finish) -> Result<Statement, NotActivated> {
        let session = self.sessions.look_at(&finish.session.parse()?, self.clock.now())?;
        of_the_same_key(finish, &session)?;
        Ok(session.statement)
    }
}

fn of_the_same_key(finish: &Finish, session: &Session) -> Result<(), NotActivated> {
    match read_area(&finish.attestation_key)?.name().to_string() == session.statement.name {
        true => Ok(()),
        false => Err(NotActivated::OtherKey),
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
    #[error("too many activations are under way; come back when some have expired")]
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
    /// The witness cannot work: its token, its randomness, its disk.
    #[error("{0}")]
    Broken(String),
}

//! The attestation CA's two steps (`docs/acme.md`): a credential for the TPM that an endorsement key says that it is, and what was
//! found in it. Sessions are good for one answer, right or wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use undercroft_attestors::tpm::credential::CredentialError;
use undercroft_attestors::tpm::endorsement::{Endorsement, EndorsementError};
use undercroft_attestors::tpm::exchange::{Begin, Begun, Finish};
use undercroft_attestors::tpm::node::{Bound, Candidate, Policy, Refusal as TpmRefusal};

use crate::policy::Refusal;
use crate::serial::Entropy;

/// How long a session waits for its answer.
const WAIT: SignedDuration = SignedDuration::from_secs(120);
/// The most sessions at a time.
const MOST: usize = 256;
/// What the transcript's hash begins with, so that no other exchange of ours is ever taken for this one.
const CONTEXT: &[u8] = b"undercroft attestation key v1\n";

/// The answer to the second step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Certified {
    /// Base64 of DER: the certificate of the attestation key, and those of its issuers.
    pub chain: Vec<String>,
    /// Its permanentIdentifier.
    pub identifier: String,
    /// The entry of its intent in the domain's log.
    pub intent: u64,
}

/// What goes on between first and second steps.
#[derive(Debug, Default)]
pub struct Activations {
    sessions: Mutex<BTreeMap<[u8; 16], Session>>,
}

struct Session {
    endorsement: Endorsement,
    attestation_key: Vec<u8>,
    secret: [u8; 32],
    transcript: [u8; 32],
    until: Timestamp,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session(until {})", self.until)
    }
}

impl Activations {
    /// The first step, as the bytes that came.
    ///
    /// # Errors
    /// See [`NotActivated`].
    pub fn begin(
        &self,
        message: &[u8],
        policy: &Policy,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Begun, NotActivated> {
        let begin: Begin = read(message)?;
        let attestation_key = bytes("attestation-key", &begin.attestation_key)?;
        let endorsement = begin.endorsement.read().map_err(|error| match error {
            // What cannot be read is judged by nobody.
            EndorsementError::Public(_) | EndorsementError::NoCertificate => {
                NotActivated::Malformed(error.to_string())
            }
            error => NotActivated::of(TpmRefusal::from(error)),
        })?;
        let candidate = candidate(policy, &endorsement, &attestation_key, now)?;
        let (mut secret, mut seed, mut id) = ([0; 32], [0; 64], [0; 16]);
        for buffer in [&mut secret[..], &mut seed, &mut id] {
            entropy.fill(buffer).map_err(|error| NotActivated::Broken(error.to_string()))?;
        }
        let credential = candidate.credential(&secret, &seed).map_err(NotActivated::from)?;
        let transcript = Sha256::new_with_prefix(CONTEXT).chain_update(message).chain_update(id);
        let until = now + WAIT;
        let transcript = transcript.finalize().into();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now <= session.until);
        if sessions.len() >= MOST {
            return Err(NotActivated::Busy);
        }
        sessions.insert(id, Session { endorsement, attestation_key, secret, transcript, until });
        Ok(Begun {
            session: hex::encode(id),
            credential: hex::encode(credential.credential),
            secret: hex::encode(credential.secret),
            until,
        })
    }

    /// The second step: an attestation key that is in the TPM of its endorsement key. Both are judged again, since lists may
    /// have changed. The session is gone in any case.
    ///
    /// # Errors
    /// See [`NotActivated`].
    pub fn finish<'p>(
        &self,
        message: &[u8],
        policy: &'p Policy,
        now: Timestamp,
    ) -> Result<Bound<'p>, NotActivated> {
        let finish: Finish = read(message)?;
        let refused = |code, why: &str| NotActivated::Refused(Refusal::new(code, why));
        let unknown =
            || refused("session-unknown", "the session is unknown, was used, or has expired; begin again");
        let id: [u8; 16] = bytes("session", &finish.session)?.try_into().map_err(|_| unknown())?;
        let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let session = session.filter(|session| now <= session.until).ok_or_else(unknown)?;
        if bytes("attestation-key", &finish.attestation_key)? != session.attestation_key {
            return Err(refused("session-key", "the session is about another attestation key"));
        }
        let found = bytes("secret", &finish.secret)?;
        let candidate = candidate(policy, &session.endorsement, &session.attestation_key, now)?;
        // HMAC fills short keys up with zeros, so that one of another length could make the same MAC. Which bytes differ is told
        // to nobody.
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &found), &session.transcript);
        let mac = if found.len() == session.secret.len() { mac.as_ref() } else { &[] };
        candidate.activated(&session.secret, session.transcript, mac).map_err(NotActivated::of)
    }
}

fn candidate<'p>(
    policy: &'p Policy,
    endorsement: &Endorsement,
    attestation_key: &[u8],
    now: Timestamp,
) -> Result<Candidate<'p>, NotActivated> {
    let genuine = policy.endorse(endorsement.clone(), now).map_err(NotActivated::of)?;
    genuine.candidate(attestation_key).map_err(NotActivated::of)
}

fn read<'a, T: Deserialize<'a>>(message: &'a [u8]) -> Result<T, NotActivated> {
    serde_json::from_slice(message).map_err(|error| NotActivated::Malformed(error.to_string()))
}

fn bytes(field: &str, text: &str) -> Result<Vec<u8>, NotActivated> {
    hex::decode(text).map_err(|error| NotActivated::Malformed(format!("{field}: {error}")))
}

/// Why there is no credential, or no attestation key that is bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotActivated {
    /// No message of ours. Not logged.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Judged, and refused.
    #[error(transparent)]
    Refused(Refusal),
    /// Too many at a time.
    #[error("too many activations are under way; come back when some have expired")]
    Busy,
    /// Nobody outside can do anything.
    #[error("{0}")]
    Broken(String),
}

impl NotActivated {
    fn of(refusal: TpmRefusal) -> Self {
        Self::Refused(Refusal::new(refusal.code().as_str(), refusal.to_string()))
    }
}

impl From<CredentialError> for NotActivated {
    fn from(error: CredentialError) -> Self {
        Self::Broken(error.to_string())
    }
}

#[cfg(test)]
mod tests;

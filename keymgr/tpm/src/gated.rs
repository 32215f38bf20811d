//! Keys that the TPM uses only for what a gate has authorised (`docs/gate.md`).
//!
//! ```text
//! ① a policy session of the connection gives its nonce        TPM2_StartAuthSession, once
//! ② a gate signs nonce, expiration and cpHash                  elsewhere; the TPM is free meanwhile
//! ③ the session shows it, and signs                            TPM2_PolicySigned, TPM2_PolicyOR, TPM2_Sign
//! ```
//!
//! The TPM gives the session another nonce each time it is used, so a word of a gate is good for one signature.

use std::fmt;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use async_trait::async_trait;
use undercroft_keymgr::{Authorisation, Counted, Error, ErrorKind, Gate, SessionThreads, SignGated, ToSign};
use undercroft_keys::{KeyId, PublicKey};
use undercroft_tpm_wire::policy::{self, OR_BRANCHES, PolicyDigest};
use undercroft_tpm_wire::{HashAlgorithm, Name, PublicArea, Scheme, Signature, command};

use crate::esys::{Object, PolicySession};
use crate::key::{self, Identity};
use crate::template;
use crate::tpm::Session;

/// Policy sessions of a device: while one waits for its gate, the other signs. TPMs hold three at least in memory
/// (Part 4, MAX_LOADED_SESSIONS), and others want one, too.
const SESSIONS: usize = 2;

/// A session of so many milliseconds is replaced: a gate's word expires some seconds after the session began, by the
/// TPM's own clock.
const RENEW_AFTER: u64 = 5_000;

/// A key whose policy wants a gate's word.
pub(crate) struct GatedKey {
    threads: Arc<SessionThreads<Session>>,
    slots: Slots,
    identity: Identity,
    name: Name,
    scheme: Scheme,
    policy: Vec<u8>,
}

impl GatedKey {
    pub(crate) fn new(
        threads: Arc<SessionThreads<Session>>,
        slots: Slots,
        identity: Identity,
        area: &PublicArea,
    ) -> Self {
        let (name, scheme, policy) = (area.name(), area.scheme(), area.auth_policy.clone());
        Self { threads, slots, identity, name, scheme, policy }
    }
}

#[async_trait]
impl SignGated for GatedKey {
    fn public_key(&self) -> &PublicKey {
        &self.identity.public_key
    }

    async fn sign(&self, message: &[u8], gates: &[PublicKey], gate: &dyn Gate) -> Result<Counted, Error> {
        let subject = &self.identity.subject;
        let gates = Gates::new(gates)?;
        if gates.policy() != self.policy[..] {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "{subject} was made with other gates than the {} that are configured, or in another order; configure those that it was made with",
                    gates.0.len()
                ),
            ));
        }
        let input = ToSign::Message(message.to_vec());
        let digest = input.bytes(self.identity.algorithm)?;
        let slot = self.slots.take().await?;
        let number = slot.number;
        let nonce = self.threads.run(move |session| session.nonce(number)).await?;
        let authorisation = gate.authorise(&nonce).await?;
        let command = command::sign(&self.name, &digest, self.scheme);
        let identity = self.identity.clone();
        let released = Release { gates, nonce, command, authorisation };
        self.threads.run(move |session| session.sign_gated(number, &identity, &input, &released)).await
    }
}

/// The gates of a key, in order.
struct Gates(Vec<(KeyId, PublicArea)>);

impl Gates {
    fn new(gates: &[PublicKey]) -> Result<Self, Error> {
        if !OR_BRANCHES.contains(&gates.len()) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a gated key has {} to {} gates, not {}: with one, losing the gate would lose the key",
                    OR_BRANCHES.start(),
                    OR_BRANCHES.end(),
                    gates.len()
                ),
            ));
        }
        let areas = gates.iter().map(|gate| {
            let area = PublicArea::of_gate(gate).ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("a gate's key must be ecdsa-p256; {} is {}", gate.id(), gate.key_type()),
                )
            })?;
            Ok((gate.id(), area))
        });
        let gates = areas.collect::<Result<Vec<_>, Error>>()?;
        match (1..gates.len()).find(|n| gates[..*n].iter().any(|(id, _)| *id == gates[*n].0)) {
            Some(twice) => {
                Err(Error::new(ErrorKind::Unsupported, format!("the gate {} stands twice", gates[twice].0)))
            }
            None => Ok(Self(gates)),
        }
    }

    fn branches(&self) -> Vec<PolicyDigest> {
        self.0.iter().map(|(_, area)| policy::signed(&area.name())).collect()
    }

    fn policy(&self) -> PolicyDigest {
        policy::or(&self.branches())
    }
}

/// The Names of gates, in the order in which a key is made with them.
pub(crate) fn names(gates: &[PublicKey]) -> Result<Vec<Name>, Error> {
    Ok(Gates::new(gates)?.0.iter().map(|(_, area)| area.name()).collect())
}

/// A gate's word, and what it is for.
struct Release {
    gates: Gates,
    nonce: Vec<u8>,
    command: [u8; 32],
    authorisation: Authorisation,
}

/// A policy session that has begun.
struct Opened {
    session: PolicySession,
    /// The time of the TPM when it began.
    since: u64,
    /// Its nonceTPM, which every use of it changes.
    nonce: Vec<u8>,
}

/// What a connection keeps for gated keys.
#[derive(Default)]
pub(crate) struct Connection {
    sessions: [Option<Opened>; SESSIONS],
    /// The gate that was used last: a TPM has few transient slots.
    gate: Option<(KeyId, Object)>,
}

impl Session {
    /// The nonce of a policy session that has some life before it.
    fn nonce(&mut self, slot: usize) -> Result<Vec<u8>, Error> {
        let failed = "cannot begin a policy session";
        let now = self.esys.clock().map_err(|error| error.failed(failed))?.time;
        let is_old = |opened: &Opened| now.saturating_sub(opened.since) > RENEW_AFTER;
        if self.gated.sessions[slot].as_ref().is_some_and(is_old) {
            self.end(slot);
        }
        if let Some(opened) = &self.gated.sessions[slot] {
            return Ok(opened.nonce.clone());
        }
        let (session, nonce) = self.esys.start_policy_session().map_err(|error| error.failed(failed))?;
        self.gated.sessions[slot] = Some(Opened { session, since: now, nonce: nonce.clone() });
        Ok(nonce)
    }

    fn sign_gated(
        &mut self,
        slot: usize,
        identity: &Identity,
        input: &ToSign,
        release: &Release,
    ) -> Result<Counted, Error> {
        let signed = self.release_and_sign(slot, identity, input, release);
        if signed.is_err() {
            // Half satisfied, it is good for nothing.
            self.end(slot);
        }
        signed
    }

    fn release_and_sign(
        &mut self,
        slot: usize,
        identity: &Identity,
        input: &ToSign,
        release: &Release,
    ) -> Result<Counted, Error> {
        let subject = &identity.subject;
        let gone = || {
            Error::new(
                ErrorKind::Unavailable,
                format!(
                    "the connection to the TPM was lost while the gate of {subject} was asked; try again"
                ),
            )
        };
        let opened = self.gated.sessions[slot].as_ref().filter(|opened| opened.nonce == release.nonce);
        let session = opened.ok_or_else(gone)?.session;
        self.doubt()?;
        let known = self.known(identity)?;
        let Authorisation { gate, expiration, signature } = &release.authorisation;
        let object = self.gate(*gate, release)?;
        let malformed = |error| {
            Error::with_source(ErrorKind::Denied, format!("the gate {gate} gave no ECDSA signature"), error)
        };
        let signature =
            Signature::from_x509(Scheme::Ecdsa(HashAlgorithm::Sha256), None, signature).map_err(malformed)?;
        self.esys
            .policy_signed(
                session,
                &release.nonce,
                object,
                &release.command,
                *expiration,
                &signature.encode(),
            )
            .map_err(|error| {
                error.failed(format!("the TPM does not take the word of the gate {gate} for {subject}"))
            })?;
        self.esys
            .policy_or(session, &release.gates.branches())
            .map_err(|error| error.failed(format!("the TPM does not know the gate {gate} for {subject}")))?;
        let digest = input.bytes(identity.algorithm)?;
        let scheme = template::signature_scheme(identity.algorithm)?;
        let (signature, nonce) = self
            .esys
            .sign_by_policy(identity.handle, session, &digest, scheme)
            .map_err(|error| error.failed(format!("cannot sign with {subject}")))?;
        if let Some(opened) = &mut self.gated.sessions[slot] {
            opened.nonce = nonce;
        }
        let signature = key::x509_signature(&signature)?;
        let command = self.count();
        self.proves(identity, known, input, &signature)?;
        self.signed.happens();
        Ok(Counted { signature, command })
    }

    /// The gate's public key, loaded.
    fn gate(&mut self, id: KeyId, release: &Release) -> Result<Object, Error> {
        let failed = || format!("cannot load the key of the gate {id}");
        if let Some((loaded, object)) = self.gated.gate {
            if loaded == id {
                return Ok(object);
            }
            self.gated.gate = None;
            self.esys.flush(object).map_err(|code| code.failed(failed()))?;
        }
        let area = release.gates.0.iter().find(|(gate, _)| *gate == id).map(|(_, area)| area);
        let area = area.ok_or_else(|| {
            Error::new(
                ErrorKind::Denied,
                format!("{id} is no gate of this key; what it says counts for nothing"),
            )
        })?;
        let object = self.esys.load_external(&area.encode()).map_err(|error| error.failed(failed()))?;
        self.gated.gate = Some((id, object));
        Ok(object)
    }

    fn end(&mut self, slot: usize) {
        if let Some(opened) = self.gated.sessions[slot].take() {
            // If it cannot be ended, its connection is lost, and it with it.
            let _ = self.esys.end_session(opened.session);
        }
    }
}

/// The policy sessions of a device, handed out one by one.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    free: Receiver<usize>,
    back: Sender<usize>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        let (back, free) = async_channel::bounded(SESSIONS);
        for number in 0..SESSIONS {
            // There is room for all of them.
            let _ = back.try_send(number);
        }
        Self { free, back }
    }

    async fn take(&self) -> Result<Slot, Error> {
        let number = self.free.recv().await;
        let number = number.map_err(|_| Error::new(ErrorKind::Fault, "the policy sessions are gone"))?;
        Ok(Slot { number, back: self.back.clone() })
    }
}

/// A policy session that is in use until this is dropped.
struct Slot {
    number: usize,
    back: Sender<usize>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = self.back.try_send(self.number);
    }
}

impl fmt::Debug for GatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, gated ({:?})", self.identity.subject, self.identity.public_key)
    }
}

//! What a database does for the daemon: it keeps the facts that become durable with entries.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;
use undercroft_ca::revocation::facts::{IssuedFact, Revocations, StoredCrl, Wanted};
use undercroft_ca::serial::SerialNumber;
use undercroft_ca::store::{CertificateFact, Effect, Enrolment, Facts, NodeFact};
use undercroft_ca::tbs::Revoked;
use undercroft_keys::KeyId;
use undercroft_log::checkpoint::SignedCheckpoint;
use undercroft_log::leaf::{Bundle, Digest, Rotation};
use undercroft_log::store::{Batch, CommitError, Head, LogReader, LogStore, StoreError};
use undercroft_log::tree::Hash;
use undercroft_log_files::FolderStore;

/// The facts of an installation.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Known>);

#[derive(Default)]
struct Known {
    open: BTreeSet<(String, u64)>,
    enrolments: BTreeMap<Digest, Enrolment>,
    bundles: BTreeMap<String, Bundle>,
    rotations: BTreeMap<(String, u64), Rotation>,
    certificates: Vec<CertificateFact>,
    policy: Option<Digest>,
    ceremonies: BTreeSet<Digest>,
}

impl Memory {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    fn apply(&self, origin: &str, index: u64, effect: Effect) {
        let mut known = self.known();
        match effect {
            Effect::Certificate(fact) => {
                known.certificates.push(fact);
                known.open.insert((origin.to_owned(), index));
            }
            Effect::Signed => drop(known.open.insert((origin.to_owned(), index))),
            Effect::Resolved { intent } | Effect::Abandoned { intent } => {
                known.open.remove(&(origin.to_owned(), intent));
            }
            Effect::EnrolmentMade { token, id, expires } => {
                known.enrolments.insert(token, Enrolment { id, expires, redeemed: false });
            }
            Effect::EnrolmentRedeemed { token, .. } => {
                known.enrolments.get_mut(&token).unwrap().redeemed = true
            }
            Effect::Bundle(bundle) => drop(known.bundles.insert(bundle.domain.clone(), bundle)),
            Effect::Rotation(rotation) => {
                known.rotations.insert((rotation.domain.clone(), rotation.number), rotation);
            }
            Effect::Policy { policy } => known.policy = Some(policy),
            Effect::CeremonyAdopted { checkpoint } => drop(known.ceremonies.insert(checkpoint)),
            Effect::AnchorAnnounced { .. }
            | Effect::Frozen { .. }
            | Effect::Unfrozen { .. }
            | Effect::ApprovalCarriedOut { .. }
            | Effect::Revocation(_)
            | Effect::NodeAttested(_)
            | Effect::NodeReleased { .. }
            | Effect::CrlNumbered { .. }
            | Effect::CrlSigned { .. } => {}
        }
    }
}

#[async_trait]
impl Facts for Memory {
    async fn open_intents(&self, origin: &str) -> Result<Vec<u64>, StoreError> {
        Ok(self.known().open.iter().filter(|(log, _)| log == origin).map(|(_, index)| *index).collect())
    }

    async fn enrolment(&self, token: Digest) -> Result<Option<Enrolment>, StoreError> {
        Ok(self.known().enrolments.get(&token).cloned())
    }

    async fn node(&self, _: Digest) -> Result<Option<NodeFact>, StoreError> {
        Ok(None)
    }

    async fn node_of_id(&self, _: &str) -> Result<Option<NodeFact>, StoreError> {
        Ok(None)
    }

    async fn nodes(&self, _: &str, _: &str, _: u32) -> Result<Vec<NodeFact>, StoreError> {
        Ok(Vec::new())
    }

    async fn bundle(&self, domain: &str) -> Result<Option<Bundle>, StoreError> {
        Ok(self.known().bundles.get(domain).cloned())
    }

    async fn rotations(&self, domain: &str) -> Result<Vec<Rotation>, StoreError> {
        let known = self.known();
        Ok(known.rotations.values().filter(|rotation| rotation.domain == domain).cloned().collect())
    }

    async fn ends_last(&self, issuers: &[KeyId]) -> Result<Option<CertificateFact>, StoreError> {
        let known = self.known();
        let of_these = known.certificates.iter().filter(|fact| issuers.contains(&fact.issuer));
        Ok(of_these.max_by_key(|fact| fact.not_after).cloned())
    }

    async fn policy(&self) -> Result<Option<Digest>, StoreError> {
        Ok(self.known().policy)
    }

    async fn anchor(&self, _: &str, _: u32) -> Result<Option<(u64, u64)>, StoreError> {
        Ok(None)
    }

    async fn freezes(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(Vec::new())
    }

    async fn approval_is_carried_out(&self, _: [u8; 16]) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn ceremony_is_adopted(&self, checkpoint: Digest) -> Result<bool, StoreError> {
        Ok(self.known().ceremonies.contains(&checkpoint))
    }
}

/// A log in a folder, whose effects are remembered.
pub(crate) struct Remembered {
    pub(crate) store: FolderStore,
    pub(crate) origin: String,
    pub(crate) memory: Arc<Memory>,
}

#[async_trait]
impl LogStore<Effect> for Remembered {
    async fn head(&self) -> Result<Head, StoreError> {
        LogStore::<Effect>::head(&self.store).await
    }

    async fn commit(&self, batch: Batch<Effect>) -> Result<(), CommitError> {
        let first = batch.expected.size;
        let effects: Vec<_> = batch.entries.iter().map(|entry| entry.effects.clone()).collect();
        self.store.commit(batch).await?;
        for (index, effects) in (first..).zip(effects) {
            effects.iter().for_each(|effect| self.memory.apply(&self.origin, index, effect.clone()));
        }
        Ok(())
    }

    async fn keep_checkpoint(&self, checkpoint: &SignedCheckpoint) -> Result<(), StoreError> {
        LogStore::<Effect>::keep_checkpoint(&self.store, checkpoint).await
    }
}

#[async_trait]
impl LogReader for Remembered {
    async fn kept_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.store.kept_checkpoint().await
    }

    async fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.store.entries(range).await
    }

    async fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, StoreError> {
        self.store.full_tile(level, index).await
    }

    async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.blob(digest).await
    }
}

/// Nothing is revoked here, and nothing is asked for.
#[async_trait]
impl Revocations for Memory {
    async fn live(&self, _: Wanted<'_>, _: Timestamp) -> Result<Vec<IssuedFact>, StoreError> {
        Ok(Vec::new())
    }

    async fn issued_since(
        &self,
        _: KeyId,
        _: u64,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<IssuedFact>, StoreError> {
        Ok(Vec::new())
    }

    async fn state(&self, _: KeyId, _: SerialNumber) -> Result<Option<Revoked>, StoreError> {
        Ok(None)
    }

    async fn revoked(
        &self,
        _: KeyId,
        _: SerialNumber,
        _: Option<SerialNumber>,
        _: Timestamp,
        _: u32,
    ) -> Result<Vec<Revoked>, StoreError> {
        Ok(Vec::new())
    }

    async fn changes(&self, _: KeyId, _: u64, _: u32) -> Result<Vec<(u64, Revoked)>, StoreError> {
        Ok(Vec::new())
    }

    async fn last_change(&self, _: KeyId) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn crls(&self, _: KeyId) -> Result<Vec<StoredCrl>, StoreError> {
        Ok(Vec::new())
    }

    async fn crl_numbers(&self, _: KeyId) -> Result<Vec<(Option<u16>, u64)>, StoreError> {
        Ok(Vec::new())
    }
}

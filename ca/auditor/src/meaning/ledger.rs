//! What a TPM attests to, against what the log says that it did.
//!
//! A TPM that keeps a ledger hashes each audited command into a digest, epoch by epoch, and attests to it. Here each
//! epoch is replayed from the log's entries. One that leads to the attested digest is `complete`: the TPM did what
//! stands in the log, and nothing else. Any other is `uncovered`, with the reason, and with how much could be hidden in
//! it if the gates of its keys kept their word (`docs/ledger.md` says what cannot be told apart).

mod epochs;

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use undercroft_keys::{KeyId, SignatureAlgorithm};
use undercroft_log::leaf::{self, Anchor, AnchorIntent, Command, LedgerNumber, LogHead};
use undercroft_tpm_wire::attest::Attested as Statement;
use undercroft_tpm_wire::attest::{Attest, audited_commands, counter};
use undercroft_tpm_wire::command::{self, CommandCode, command_digest};
use undercroft_tpm_wire::{HashAlgorithm, ObjectAttributes, PublicArea, Scheme, Signature};

use self::epochs::{Closing, Epochs};
pub use self::epochs::{Covered, Epoch};

/// The ledger of a log's TPM, as far as it has been read.
#[derive(Default)]
pub(super) struct Ledger {
    epochs: Epochs,
    /// Keys in TPMs, by what custody records say of them.
    areas: HashMap<KeyId, PublicArea>,
    /// A record spoke of a key in a TPM that no gate holds, or that cannot be judged.
    has_ungated: bool,
    counters: HashMap<u32, Counted>,
    /// Intents of gated keys, and signatures of them that came.
    gated_intents: u64,
    gated_signatures: u64,
}

/// What the log says of a counter.
#[derive(Default)]
struct Counted {
    intended: Option<u64>,
    /// The entry that announced it.
    announced: u64,
    anchored: Option<u64>,
}

impl Ledger {
    /// A custody record of a key in a TPM; without a public area if its evidence is not about that key.
    pub(super) fn key(&mut self, id: KeyId, area: Option<PublicArea>) {
        // What was once held by no gate stays so, whatever a later record says.
        self.has_ungated |= !area.as_ref().is_some_and(PublicArea::signs_by_policy_alone);
        self.areas.extend(area.map(|area| (id, area)));
    }

    pub(super) fn intent(&mut self, key: KeyId) {
        self.gated_intents += u64::from(self.is_gated(key));
    }

    /// A signature that stands in an outcome.
    ///
    /// # Errors
    /// It cannot be one of the ledger's.
    pub(super) fn signed(
        &mut self,
        number: Option<LedgerNumber>,
        key: KeyId,
        tbs: &[u8],
        signature: &[u8],
    ) -> Result<(), String> {
        self.gated_signatures += u64::from(self.is_gated(key));
        let Some(number) = number else { return Ok(()) };
        let area =
            self.areas.get(&key).ok_or_else(|| format!("the key {key} is in no TPM that the log knows"))?;
        let digest = match hash_of(area.scheme()) {
            Some(HashAlgorithm::Sha384) => digest(&SHA384, tbs),
            _ => digest(&SHA256, tbs),
        };
        let as_given = Signature::from_x509(area.scheme(), area.curve(), signature);
        let as_given = as_given.map_err(|error| error.to_string())?;
        let hashes = (
            command::sign(&area.name(), digest.as_ref(), area.scheme()),
            command::signed(&as_given.encode()),
        );
        self.epochs.add(number, hashes)
    }

    /// An entry of kind `command`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn command(&mut self, origin: &str, command: &Command) -> Result<Option<LogHead>, String> {
        match command {
            Command::IncrementCounter { number, index } => {
                let name = counter::name(*index);
                let hashes = (command::nv_increment(&name), command::done(CommandCode::NV_INCREMENT));
                self.epochs.add(*number, hashes)?;
                Ok(None)
            }
            Command::CloseEpoch { number, reason: _, audited, head, attested } => {
                let (signer, attest) = verified(origin, head, attested)?;
                let Statement::CommandAudit { epoch, digest, commands } = attest.attested else {
                    return Err("its attestation is of something else than commands".to_owned());
                };
                let codes = audited_commands(audited).map_err(|error| error.to_string())?;
                if command_digest(&codes) != commands {
                    return Err("the TPM audits other commands than the entry says".to_owned());
                }
                if let Some(missing) = CommandCode::REQUIRED.iter().find(|code| !codes.contains(code)) {
                    return Err(format!("the TPM does not audit the command {:#x}", missing.0));
                }
                let next = epoch.checked_add(1).map(|epoch| LedgerNumber { epoch, ordinal: 1 });
                if next != Some(*number) {
                    return Err(format!("it closes epoch {epoch}, and says that it is command {number:?}"));
                }
                let closing = Closing {
                    epoch,
                    digest,
                    commands,
                    resets: attest.resets,
                    restarts: attest.restarts,
                    signer: signer.name(),
                };
                let hidden = self.unsigned();
                self.epochs.close(closing, hidden)?;
                let code = CommandCode::GET_COMMAND_AUDIT_DIGEST;
                let hashes = (
                    command::get_command_audit_digest(&signer.name(), &attest.qualifying),
                    command::attested(code, &attested.attest.0, &attested.signature.0),
                );
                self.epochs.add(*number, hashes)?;
                Ok(Some(head.clone()))
            }
        }
    }

    /// A counter will be counted up to a value that it never had.
    ///
    /// # Errors
    /// It had it.
    pub(super) fn anchor_intent(&mut self, entry: u64, intent: &AnchorIntent) -> Result<(), String> {
        let counted = self.counters.entry(intent.index).or_default();
        // The same value may be announced again: the counter was not moved the first time.
        if counted.anchored.is_some_and(|value| intent.value <= value)
            || counted.intended.is_some_and(|value| intent.value < value || value + 1 < intent.value)
        {
            return Err(format!(
                "it announces {} for a counter that was announced at {:?} and anchored at {:?}",
                intent.value, counted.intended, counted.anchored
            ));
        }
        (counted.intended, counted.announced) = (Some(intent.value), entry);
        Ok(())
    }

    /// A counter was counted up, over a head of the log.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn anchor(&mut self, origin: &str, anchor: &Anchor) -> Result<LogHead, String> {
        let (signer, attest) = verified(origin, &anchor.head, &anchor.attested)?;
        let name = counter::name(anchor.index);
        let expected = Statement::Counter { index: name.clone(), value: anchor.value };
        if attest.attested != expected {
            return Err(format!(
                "the TPM does not attest that counter {:#x} is {}",
                anchor.index, anchor.value
            ));
        }
        let counted = self.counters.entry(anchor.index).or_default();
        if counted.intended != Some(anchor.value) || counted.anchored == Some(anchor.value) {
            return Err(format!(
                "no entry in front of it announces {}, or another has anchored it",
                anchor.value
            ));
        }
        if anchor.head.size <= counted.announced {
            return Err(format!(
                "its head of {} entries does not cover entry {}, which announces it",
                anchor.head.size, counted.announced
            ));
        }
        counted.anchored = Some(anchor.value);
        let increment = (command::nv_increment(&name), command::done(CommandCode::NV_INCREMENT));
        self.epochs.add(anchor.increment, increment)?;
        let certify = (
            command::nv_certify(&signer.name(), &name, &attest.qualifying),
            command::attested(
                CommandCode::NV_CERTIFY,
                &anchor.attested.attest.0,
                &anchor.attested.signature.0,
            ),
        );
        self.epochs.add(anchor.certify, certify)?;
        Ok(anchor.head.clone())
    }

    /// Every epoch, with its verdict.
    pub(super) fn conclude(self) -> Vec<Epoch> {
        let is_all_gated = !self.areas.is_empty() && !self.has_ungated;
        let unsigned = self.unsigned();
        let mut epochs = self.epochs.conclude(unsigned);
        for epoch in &mut epochs {
            if let Covered::Uncovered { hidden, .. } = &mut epoch.covered
                && !is_all_gated
            {
                *hidden = None;
            }
        }
        epochs
    }

    /// Intents of gated keys of which no signature stands in the log: gates may have released one each.
    fn unsigned(&self) -> u64 {
        self.gated_intents.saturating_sub(self.gated_signatures)
    }

    fn is_gated(&self, key: KeyId) -> bool {
        self.areas.get(&key).is_some_and(PublicArea::signs_by_policy_alone)
    }
}

fn hash_of(scheme: Scheme) -> Option<HashAlgorithm> {
    match scheme {
        Scheme::None => None,
        Scheme::Ecdsa(hash) | Scheme::RsaSsa(hash) | Scheme::RsaPss(hash) => Some(hash),
    }
}

/// A statement, once its key is one that signs nothing but statements, and it is of this head of this log.
fn verified(origin: &str, head: &LogHead, attested: &leaf::Attested) -> Result<(PublicArea, Attest), String> {
    let signer = PublicArea::parse(&attested.signer.0).map_err(|error| error.to_string())?;
    let wanted = ObjectAttributes::FIXED_TPM
        | ObjectAttributes::FIXED_PARENT
        | ObjectAttributes::SENSITIVE_DATA_ORIGIN
        | ObjectAttributes::RESTRICTED
        | ObjectAttributes::SIGN;
    if !signer.attributes.has(wanted) {
        return Err("the key that attests could sign what its TPM never said".to_owned());
    }
    let key = signer.public_key().map_err(|error| error.to_string())?;
    let signature = Signature::parse(&attested.signature.0).and_then(|signature| signature.to_x509());
    let signature = signature.map_err(|error| error.to_string())?;
    key.verify(SignatureAlgorithm::EcdsaP256Sha256, &attested.attest.0, &signature)
        .map_err(|_| "the TPM has not signed the attestation".to_owned())?;
    let attest = Attest::parse(&attested.attest.0).map_err(|error| error.to_string())?;
    match attest.qualifying == head.qualifying(origin).0 {
        true => Ok((signer, attest)),
        false => Err("the TPM attests over another head of the log than the entry says".to_owned()),
    }
}

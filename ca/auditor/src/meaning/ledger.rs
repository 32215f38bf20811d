//! What a TPM attests to, against what the log says that it did.
//!
//! A TPM that keeps a ledger hashes each audited command into a digest, epoch by epoch, and attests to it. Here each
//! epoch is replayed from the log's entries. One that leads to the attested digest is `complete`: the TPM did what
//! stands in the log, and nothing else. Any other is `uncovered`, with the reason, and with how much could be hidden in
//! it if the gates of its keys kept their word (`docs/ledger.md` says what cannot be told apart).

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest::{SHA256, SHA384, digest};
use serde::Serialize;
use undercroft_keys::{KeyId, SignatureAlgorithm};
use undercroft_log::leaf::{self, Anchor, AnchorIntent, Command, LedgerNumber, LogHead};
use undercroft_tpm_wire::attest::Attested as Statement;
use undercroft_tpm_wire::attest::{Attest, audited_commands, counter};
use undercroft_tpm_wire::command::{self, AuditDigest, CommandCode, command_digest};
use undercroft_tpm_wire::{HashAlgorithm, ObjectAttributes, PublicArea, Scheme, Signature};

/// What is known of an epoch of a TPM's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Epoch {
    /// Its number, as the TPM counts them.
    pub epoch: u64,
    /// How many of its commands stand in the log.
    pub commands: u64,
    /// Whether the log accounts for it.
    #[serde(flatten)]
    pub covered: Covered,
}

/// Whether the log accounts for everything that a TPM did in an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "covered")]
pub enum Covered {
    /// The TPM attests to exactly the commands that stand in the log.
    Complete,
    /// It does not, or nobody can tell.
    Uncovered {
        /// Why.
        reason: String,
        /// At most so many signatures that do not stand in the log, all over bytes that do, if the gates kept their
        /// word; nothing where a key of the TPM has no gate.
        #[serde(skip_serializing_if = "Option::is_none")]
        hidden: Option<u64>,
    },
    /// It was not closed yet.
    Open,
}

/// The ledger of a log's TPM, as far as it has been read.
#[derive(Default)]
pub(super) struct Ledger {
    epochs: BTreeMap<u64, Replay>,
    /// The statement that closed the last epoch.
    last: Option<Closing>,
    done: Vec<Epoch>,
    /// Keys in TPMs, by what custody records say of them.
    areas: HashMap<KeyId, PublicArea>,
    counters: HashMap<u32, Counted>,
    /// Intents of gated keys, and signatures of them that came.
    gated_intents: u64,
    gated_signatures: u64,
}

#[derive(Default)]
struct Replay {
    commands: BTreeMap<u64, (command::CpHash, command::RpHash)>,
    closing: Option<Closing>,
    /// Why it is uncovered, whatever its digest says.
    broken: Option<String>,
    hidden: u64,
}

#[derive(Clone)]
struct Closing {
    epoch: u64,
    digest: Option<[u8; 32]>,
    commands: [u8; 32],
    resets: u32,
    restarts: u32,
    signer: Vec<u8>,
}

/// What the log says of a counter.
#[derive(Default)]
struct Counted {
    intended: Option<u64>,
    anchored: Option<u64>,
}

impl Ledger {
    /// A custody record of a key in a TPM.
    pub(super) fn key(&mut self, id: KeyId, area: PublicArea) {
        self.areas.insert(id, area);
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
        self.add(number, hashes)
    }

    /// An entry of kind `command`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn command(&mut self, origin: &str, command: &Command) -> Result<Option<LogHead>, String> {
        match command {
            Command::IncrementCounter { number, index } => {
                let name = counter::name(*index);
                self.add(*number, (command::nv_increment(&name), command::done(CommandCode::NV_INCREMENT)))?;
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
                if *number != (LedgerNumber { epoch: epoch + 1, ordinal: 1 }) {
                    return Err(format!("it closes epoch {epoch}, and says that it is command {number:?}"));
                }
                let closing = Closing {
                    epoch,
                    digest,
                    commands,
                    resets: attest.resets,
                    restarts: attest.restarts,
                    signer: attested.signer.0.clone(),
                };
                self.close(closing)?;
                let code = CommandCode::GET_COMMAND_AUDIT_DIGEST;
                let hashes = (
                    command::get_command_audit_digest(&signer.name(), &attest.qualifying),
                    command::attested(code, &attested.attest.0, &attested.signature.0),
                );
                self.add(*number, hashes)?;
                Ok(Some(head.clone()))
            }
        }
    }

    /// A counter will be counted up to a value that it never had.
    ///
    /// # Errors
    /// It had it.
    pub(super) fn anchor_intent(&mut self, intent: &AnchorIntent) -> Result<(), String> {
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
        counted.intended = Some(intent.value);
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
        counted.anchored = Some(anchor.value);
        let increment = (command::nv_increment(&name), command::done(CommandCode::NV_INCREMENT));
        self.add(anchor.increment, increment)?;
        let certify = (
            command::nv_certify(&signer.name(), &name, &attest.qualifying),
            command::attested(
                CommandCode::NV_CERTIFY,
                &anchor.attested.attest.0,
                &anchor.attested.signature.0,
            ),
        );
        self.add(anchor.certify, certify)?;
        Ok(anchor.head.clone())
    }

    fn add(
        &mut self,
        number: LedgerNumber,
        hashes: (command::CpHash, command::RpHash),
    ) -> Result<(), String> {
        let replay = self.epochs.entry(number.epoch).or_default();
        if replay.commands.insert(number.ordinal, hashes).is_some() {
            return Err(format!("command {} of epoch {} stands twice", number.ordinal, number.epoch));
        }
        self.settle(number.epoch);
        Ok(())
    }

    fn close(&mut self, closing: Closing) -> Result<(), String> {
        let epoch = closing.epoch;
        let broken = match &self.last {
            None => Some("the log does not say what came before it".to_owned()),
            Some(last) if closing.signer != last.signer => {
                Some("another key attests, or another TPM".to_owned())
            }
            Some(last) if closing.epoch <= last.epoch => {
                return Err(format!("epoch {epoch} is closed after epoch {}", last.epoch));
            }
            Some(last) if closing.resets != last.resets => {
                Some("the TPM was reset, which drops what it had not attested to".to_owned())
            }
            Some(last) if closing.epoch != last.epoch + 1 => {
                Some(format!("nothing closes epoch {}: somebody else read the ledger", last.epoch + 1))
            }
            Some(last) if closing.commands != last.commands => {
                Some("what is audited was changed, which drops what was not attested to".to_owned())
            }
            Some(last) if closing.restarts != last.restarts => Some("the TPM was restarted".to_owned()),
            Some(_) => None,
        };
        let hidden = self.gated_intents.saturating_sub(self.gated_signatures);
        let replay = self.epochs.entry(epoch).or_default();
        replay.broken = broken;
        replay.hidden = hidden;
        replay.closing = Some(closing.clone());
        self.last = Some(closing);
        self.settle(epoch);
        Ok(())
    }

    /// Lets go of an epoch that is complete: its outcomes may stand behind the entry that closes it.
    fn settle(&mut self, epoch: u64) {
        let is_complete = self.epochs.get(&epoch).is_some_and(Replay::is_complete);
        if let Some(replay) = is_complete.then(|| self.epochs.remove(&epoch)).flatten() {
            let commands = replay.commands.len() as u64;
            self.done.push(Epoch { epoch, commands, covered: Covered::Complete });
        }
    }

    /// Every epoch, with its verdict.
    pub(super) fn conclude(self) -> Vec<Epoch> {
        let is_all_gated =
            !self.areas.is_empty() && self.areas.values().all(PublicArea::signs_by_policy_alone);
        let mut epochs = self.done;
        for (epoch, replay) in self.epochs {
            let commands = replay.commands.len() as u64;
            let is_past = self.last.as_ref().is_some_and(|last| epoch <= last.epoch);
            let covered = match &replay.closing {
                None if !is_past => Covered::Open,
                None => Covered::Uncovered {
                    reason: "what the TPM attested to does not stand in the log".to_owned(),
                    hidden: is_all_gated.then_some(self.gated_intents.saturating_sub(self.gated_signatures)),
                },
                Some(_) => Covered::Uncovered {
                    reason: replay.reason(),
                    hidden: is_all_gated.then_some(replay.hidden),
                },
            };
            epochs.push(Epoch { epoch, commands, covered });
        }
        epochs.sort_by_key(|epoch| epoch.epoch);
        epochs
    }

    fn is_gated(&self, key: KeyId) -> bool {
        self.areas.get(&key).is_some_and(PublicArea::signs_by_policy_alone)
    }
}

impl Replay {
    fn is_complete(&self) -> bool {
        let attested = self.closing.as_ref().and_then(|closing| closing.digest);
        self.broken.is_none() && self.is_gapless() && attested == Some(*self.digest().as_bytes())
    }

    fn is_gapless(&self) -> bool {
        self.commands.keys().zip(1..).all(|(ordinal, expected)| *ordinal == expected)
    }

    fn digest(&self) -> AuditDigest {
        let extend =
            |digest: AuditDigest, (cp, rp): &(command::CpHash, command::RpHash)| digest.extend(cp, rp);
        self.commands.values().fold(AuditDigest::EMPTY, extend)
    }

    fn reason(&self) -> String {
        match &self.broken {
            Some(reason) => reason.clone(),
            None if !self.is_gapless() => "a command of it does not stand in the log".to_owned(),
            None => "the TPM did something that does not stand in the log".to_owned(),
        }
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

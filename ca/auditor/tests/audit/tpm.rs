//! A TPM made of software, as far as a ledger goes: it audits what it does as a TPM does, attests to it, counts, and
//! can be reset. And a log that is written by what it did, or by somebody who lies about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64ct::{Base64, Encoding as _};
use futures::executor::block_on;
use hsm_sim::software::SoftwareKey;
use serde_json::{Value, json};
use undercroft_audit::Report;
use undercroft_keymgr::SigningKey as _;
use undercroft_keys::{KeyAlgorithm, Numbers};
use undercroft_log::leaf::{
    Anchor, AnchorIntent, Attested, Base64Bytes, CloseReason, Command, LedgerNumber, LogHead,
};
use undercroft_tpm_wire::attest::counter;
use undercroft_tpm_wire::command::{self, AuditDigest, CommandCode, CpHash, RpHash, command_digest};
use undercroft_tpm_wire::{HashAlgorithm, PublicArea, Scheme, Signature};

use crate::installation::{INSTALLATION, software};
use crate::lies::Leaf;
use crate::log::Log;

/// The NV index of the counter.
pub(crate) const COUNTER: u32 = 0x0180_0100;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
const ATTESTS: u32 = 0x0005_0072;
/// fixedTPM, fixedParent, sensitiveDataOrigin, sign: nothing but a policy lets it sign.
const GATED: u32 = 0x0004_0032;
/// The same, and userWithAuth.
const UNGATED: u32 = 0x0004_0072;

/// A P-256 key in a TPM.
#[derive(Clone)]
pub(crate) struct TpmKey {
    key: Arc<SoftwareKey>,
    pub(crate) area: PublicArea,
}

impl TpmKey {
    fn new(attributes: u32, policy: &[u8]) -> Self {
        Self::of(software(KeyAlgorithm::EcdsaP256), attributes, policy)
    }

    /// The same key as a TPM would describe it if a gate held it.
    pub(crate) fn as_if_gated(&self) -> Self {
        Self::of(self.key.clone(), GATED, &[7; 32])
    }

    fn of(key: Arc<SoftwareKey>, attributes: u32, policy: &[u8]) -> Self {
        let Numbers::Ec { x, y } = key.public_key().numbers() else { panic!() };
        let mut area = vec![0, 0x23, 0, 0x0b];
        area.extend(attributes.to_be_bytes());
        area.extend((policy.len() as u16).to_be_bytes());
        area.extend(policy);
        // No symmetric algorithm, ECDSA with SHA-256, P-256, no KDF.
        area.extend([0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0x20]);
        area.extend(x);
        area.extend([0, 0x20]);
        area.extend(y);
        Self { area: PublicArea::parse(&area).unwrap(), key }
    }

    pub(crate) fn attesting() -> Self {
        Self::new(ATTESTS, &[])
    }

    /// One that would sign anything.
    pub(crate) fn unrestricted() -> Self {
        Self::new(ATTESTS & !0x1_0000, &[])
    }

    pub(crate) fn gated() -> Self {
        Self::new(GATED, &[7; 32])
    }

    pub(crate) fn ungated() -> Self {
        Self::new(UNGATED, &[])
    }

    fn id(&self) -> String {
        self.key.public_key().id().to_string()
    }

    /// As X.509 carries it, and as the TPM gave it.
    fn sign(&self, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let x509 = block_on(self.key.sign(message)).unwrap();
        let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
        let given = Signature::from_x509(scheme, self.area.curve(), &x509).unwrap().encode();
        (x509, given)
    }
}

/// The TPM.
pub(crate) struct Tpm {
    pub(crate) attests: TpmKey,
    pub(crate) epoch: u64,
    digest: Option<AuditDigest>,
    ordinal: u64,
    pub(crate) resets: u32,
    pub(crate) restarts: u32,
    pub(crate) audited: Vec<u32>,
    counters: BTreeMap<u32, u64>,
}

impl Tpm {
    pub(crate) fn new() -> Self {
        Self {
            attests: TpmKey::attesting(),
            epoch: 0,
            digest: None,
            ordinal: 0,
            resets: 41,
            restarts: 2,
            audited: CommandCode::AUDITED.iter().map(|code| code.0).collect(),
            counters: BTreeMap::new(),
        }
    }

    /// Something was done: the first command of an epoch begins it.
    fn did(&mut self, cp: &CpHash, rp: &RpHash) -> LedgerNumber {
        if self.digest.is_none() {
            self.epoch = self.epoch.wrapping_add(1);
            self.ordinal = 0;
        }
        self.ordinal += 1;
        self.digest = Some(self.digest.unwrap_or(AuditDigest::EMPTY).extend(cp, rp));
        LedgerNumber { epoch: self.epoch, ordinal: self.ordinal }
    }

    /// Power was lost. What was not attested to is lost with it.
    pub(crate) fn reset(&mut self) {
        self.digest = None;
        self.resets += 1;
    }

    fn attest(&self, kind: u16, qualifying: &[u8], rest: &[u8]) -> Attested {
        let mut attest = 0xff54_4347_u32.to_be_bytes().to_vec();
        attest.extend(kind.to_be_bytes());
        buffer(&mut attest, self.attests.area.name().as_bytes());
        buffer(&mut attest, qualifying);
        attest.extend(1000u64.to_be_bytes());
        attest.extend(self.resets.to_be_bytes());
        attest.extend(self.restarts.to_be_bytes());
        attest.push(1);
        attest.extend(9u64.to_be_bytes());
        attest.extend(rest);
        let (_, signature) = self.attests.sign(&attest);
        Attested {
            signer: Base64Bytes(self.attests.area.encode()),
            attest: Base64Bytes(attest),
            signature: Base64Bytes(signature),
        }
    }

    /// TPM2_GetCommandAuditDigest.
    pub(crate) fn read_ledger(&mut self, qualifying: &[u8; 32]) -> (LedgerNumber, Attested) {
        let mut rest = self.epoch.to_be_bytes().to_vec();
        rest.extend([0, 0x0b]);
        buffer(&mut rest, self.digest.as_ref().map_or(&[][..], |digest| digest.as_bytes()));
        let codes: Vec<_> = self.audited.iter().copied().map(CommandCode).collect();
        buffer(&mut rest, &command_digest(&codes));
        let attested = self.attest(0x8015, qualifying, &rest);
        self.digest = None;
        let cp = command::get_command_audit_digest(&self.attests.area.name(), qualifying);
        let code = CommandCode::GET_COMMAND_AUDIT_DIGEST;
        let rp = command::attested(code, &attested.attest.0, &attested.signature.0);
        (self.did(&cp, &rp), attested)
    }

    /// TPM2_Sign.
    pub(crate) fn sign(&mut self, key: &TpmKey, tbs: &[u8]) -> (LedgerNumber, Vec<u8>) {
        let digest = undercroft_log::leaf::Digest::of(tbs).0;
        let (x509, given) = key.sign(tbs);
        let cp = command::sign(&key.area.name(), &digest, key.area.scheme());
        (self.did(&cp, &command::signed(&given)), x509)
    }

    /// TPM2_NV_Increment.
    pub(crate) fn increment(&mut self, index: u32) -> LedgerNumber {
        *self.counters.entry(index).or_default() += 1;
        let cp = command::nv_increment(&counter::name(index));
        self.did(&cp, &command::done(CommandCode::NV_INCREMENT))
    }

    /// TPM2_NV_Certify.
    pub(crate) fn certify(&mut self, index: u32, qualifying: &[u8; 32]) -> (LedgerNumber, Attested) {
        let name = counter::name(index);
        let mut rest = Vec::new();
        buffer(&mut rest, name.as_bytes());
        rest.extend([0, 0]);
        buffer(&mut rest, &self.counters[&index].to_be_bytes());
        let attested = self.attest(0x8014, qualifying, &rest);
        let cp = command::nv_certify(&self.attests.area.name(), &name, qualifying);
        let rp = command::attested(CommandCode::NV_CERTIFY, &attested.attest.0, &attested.signature.0);
        (self.did(&cp, &rp), attested)
    }
}

fn buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

/// A log beside the TPM whose work it tells.
pub(crate) struct Story {
    pub(crate) log: Log,
    pub(crate) tpm: Tpm,
    pub(crate) key: TpmKey,
    serial: u8,
}

impl Story {
    /// The log of prod.example goes on with a key in a TPM. The first epoch is over, of which nobody knows the beginning.
    pub(crate) fn of(key: TpmKey) -> Self {
        let log = INSTALLATION.prod.clone();
        let mut story = Self { log, tpm: Tpm::new(), key: key.clone(), serial: 0x20 };
        story.custody(&key, &key);
        story.tpm.increment(0x0180_0999);
        story.close();
        story
    }

    pub(crate) fn gated() -> Self {
        Self::of(TpmKey::gated())
    }

    /// A custody record of `key`, whose evidence is about `of`.
    pub(crate) fn custody(&mut self, key: &TpmKey, of: &TpmKey) -> u64 {
        let evidence = json!({
            "tpm": { "manufacturer": "STM", "vendor": "ST33", "firmware": "1", "specification": "1.59" },
            "key": { "handle": "0x81010001", "public": hex::encode(of.area.encode()) },
        });
        let spki = Base64::encode_string(key.key.public_key().spki());
        self.log.push(
            "key",
            json!({
                "event": "opened",
                "purpose": "in a TPM",
                "key_id": key.id(),
                "spki": spki,
                "algorithm": "ecdsa-p256",
                "uri": "tpm:handle=0x81010001",
                "grade": "unknown",
                "findings": [],
                "format": "tpm2-public-v1",
                "evidence": Base64::encode_string(evidence.to_string().as_bytes()),
            }),
        )
    }

    /// The checkpoint as it would be now.
    pub(crate) fn head(&self) -> LogHead {
        LogHead { size: self.log.entries.len() as u64, root: self.log.root() }
    }

    pub(crate) fn qualifying(&self, head: &LogHead) -> [u8; 32] {
        head.qualifying(self.log.origin.as_str()).0
    }

    fn command(&mut self, command: &Command) -> u64 {
        self.log.push("command", serde_json::to_value(command).unwrap())
    }

    /// Closes the epoch. The head, the number and the statement are the TPM's, unless `lie` has it otherwise.
    pub(crate) fn close_with(
        &mut self,
        lie: impl FnOnce(&mut LogHead, &mut LedgerNumber, &mut Vec<u32>, &mut Attested),
    ) -> u64 {
        let mut head = self.head();
        let (mut number, mut attested) = self.tpm.read_ledger(&self.qualifying(&head));
        let mut audited = self.tpm.audited.clone();
        lie(&mut head, &mut number, &mut audited, &mut attested);
        self.command(&Command::CloseEpoch { number, reason: CloseReason::Timer, audited, head, attested })
    }

    pub(crate) fn close(&mut self) -> u64 {
        self.close_with(|_, _, _, _| {})
    }

    /// Appends an intent: its index and its bytes.
    pub(crate) fn intent(&mut self) -> (u64, Vec<u8>) {
        self.serial += 1;
        let tbs = Leaf::of_prod(&self.log).numbered(self.serial).tbs();
        let mut body = self.log.value(self.log.last("intent"))["body"].clone();
        body["tbs"] = json!({ "der": Base64::encode_string(&tbs) });
        body["key_id"] = json!(self.key.id());
        (self.log.push("intent", body), tbs)
    }

    /// Has the TPM sign for an intent.
    pub(crate) fn sign(&mut self, tbs: &[u8]) -> (LedgerNumber, Vec<u8>) {
        let key = self.key.clone();
        self.tpm.sign(&key, tbs)
    }

    pub(crate) fn outcome(&mut self, intent: u64, signature: &[u8], number: Option<LedgerNumber>) -> u64 {
        let mut body =
            json!({ "intent": intent, "result": { "signature": Base64::encode_string(signature) } });
        if let Some(number) = number {
            body["command"] = json!(number);
        }
        self.log.push("outcome", body)
    }

    /// Everything that belongs to a signature: the number that it has.
    pub(crate) fn issue(&mut self) -> LedgerNumber {
        let (intent, tbs) = self.intent();
        let (number, signature) = self.sign(&tbs);
        self.outcome(intent, &signature, Some(number));
        number
    }

    pub(crate) fn announce(&mut self, value: u64) -> u64 {
        let body = AnchorIntent { index: COUNTER, value };
        self.log.push("anchor-intent", serde_json::to_value(body).unwrap())
    }

    /// Counts up and certifies, over a head; `lie` has the last word.
    pub(crate) fn anchor_over(&mut self, head: LogHead, lie: impl FnOnce(&mut Anchor)) -> u64 {
        let increment = self.tpm.increment(COUNTER);
        let (certify, attested) = self.tpm.certify(COUNTER, &self.qualifying(&head));
        let value = self.tpm.counters[&COUNTER];
        let mut anchor = Anchor { index: COUNTER, value, head, increment, certify, attested };
        lie(&mut anchor);
        self.log.push("anchor", serde_json::to_value(anchor).unwrap())
    }

    /// An announcement and the anchor that it announces.
    pub(crate) fn anchor(&mut self) -> u64 {
        let value = self.tpm.counters.get(&COUNTER).copied().unwrap_or_default() + 1;
        self.announce(value);
        self.anchor_over(self.head(), |_| {})
    }

    /// TPM2_NV_Increment that stands in the log by itself.
    pub(crate) fn increment(&mut self) -> u64 {
        let number = self.tpm.increment(COUNTER);
        self.command(&Command::IncrementCounter { number, index: COUNTER })
    }

    pub(crate) fn audit(&self) -> Report {
        self.log.audit()
    }

    /// The newest entry, as JSON.
    pub(crate) fn newest(&self) -> Value {
        self.log.value(self.log.entries.len() as u64 - 1)
    }
}

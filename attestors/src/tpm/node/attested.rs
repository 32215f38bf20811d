//! TPM2_Certify and TPM2_CertifyCreation of the key that the certificate is for, and what is known in the end.

use undercroft_keys::PublicKey;
use undercroft_tpm_wire::attest::Attested as Said;
use undercroft_tpm_wire::creation::CreationData;
use undercroft_tpm_wire::{HashAlgorithm, Hierarchy, PublicArea};

use super::Purpose;
use super::candidate::{Binding, version_of, weakness_of};
use super::policy::TpmClass;
use super::quote::{Clock, Quoted, Since};
use super::refusal::{Code, Refusal};
use crate::tpm::certify;

/// What a node sends of its key.
#[derive(Clone, Debug)]
pub struct Certification<'a> {
    /// TPMT_PUBLIC of the key.
    pub public: &'a [u8],
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE.
    pub signature: &'a [u8],
}

/// What it sends besides if the key was created in this exchange.
#[derive(Clone, Debug)]
pub struct Creation<'a> {
    /// TPMS_CREATION_DATA.
    pub data: &'a [u8],
    /// What the key was to be created for: fresh, and known before there is a key, as the exporter of a connection is. The
    /// transcript is of the request, and so of the key.
    pub fresh: &'a [u8; 32],
}

impl Quoted<'_> {
    /// Checks that the key of a request is loaded in this TPM and can never leave it (TPM2_Certify).
    ///
    /// `requested` is the key of a request whose self-signature has verified.
    ///
    /// # Errors
    /// `attest-*`, `key-*`, `firmware-weak`.
    pub fn certified(
        self,
        certification: &Certification<'_>,
        requested: &PublicKey,
    ) -> Result<Attested, Refusal> {
        let area = self.key(certification.public)?;
        let (attest, _) = self.bound.attest(certification.attest, certification.signature, Purpose::Key)?;
        let Said::Certify { name, qualified } = &attest.attested else {
            return Err(Refusal::new(Code::AttestType, "the attestation is no TPM2_Certify"));
        };
        if *name != area.name() {
            return Err(Refusal::new(Code::KeyName, "the attestation is about a key of another Name"));
        }
        if *qualified == area.name() || *qualified == area.qualified_in(Hierarchy::Null) {
            return Err(Refusal::new(Code::KeyHierarchy, "the key is in no hierarchy that lasts"));
        }
        self.is_taken(&area, requested)?;
        Ok(self.attested(requested, false))
    }

    /// As [`Quoted::certified`], of a key that was created in this exchange (TPM2_CertifyCreation).
    ///
    /// # Errors
    /// As there, and `creation-*`.
    pub fn certified_at_creation(
        self,
        certification: &Certification<'_>,
        creation: &Creation<'_>,
        requested: &PublicKey,
    ) -> Result<Attested, Refusal> {
        let area = self.key(certification.public)?;
        let (attest, _) = self.bound.attest(certification.attest, certification.signature, Purpose::Key)?;
        let Said::Creation { name, digest } = &attest.attested else {
            return Err(Refusal::new(Code::AttestType, "the attestation is no TPM2_CertifyCreation"));
        };
        if *name != area.name() {
            return Err(Refusal::new(Code::KeyName, "the attestation is about a key of another Name"));
        }
        // Hashed by the object's nameAlg (Part 3, section 18.3).
        if area.name_algorithm.digest(creation.data) != *digest {
            return Err(Refusal::new(Code::CreationHash, "the creation data are of another key"));
        }
        let data = CreationData::parse(creation.data)
            .map_err(|error| Refusal::new(Code::CreationMalformed, error))?;
        // The Name of a primary object's parent is the handle of its hierarchy: here TPM_RH_NULL.
        if data.parent == [0x40, 0, 0, 7] {
            return Err(Refusal::new(Code::KeyHierarchy, "the key is in no hierarchy that lasts"));
        }
        if data.outside != Purpose::Creation.qualifying(creation.fresh) {
            return Err(Refusal::new(Code::CreationInfo, "the key was created for another exchange"));
        }
        self.is_taken(&area, requested)?;
        Ok(self.attested(requested, true))
    }

    fn key(&self, public: &[u8]) -> Result<PublicArea, Refusal> {
        PublicArea::parse(public).map_err(|error| Refusal::new(Code::KeyMalformed, error))
    }

    fn is_taken(&self, area: &PublicArea, requested: &PublicKey) -> Result<(), Refusal> {
        certify::is_held(area).map_err(|error| Refusal::new(Code::KeyAttributes, error))?;
        let key = area.public_key().map_err(|error| Refusal::new(Code::KeyWeak, error))?;
        if key.spki() != requested.spki() {
            return Err(Refusal::new(
                Code::KeyMismatch,
                "the request is for another key than the certified one",
            ));
        }
        let genuine = &self.bound.genuine;
        genuine.policy.is_not_weak(genuine.manufacturer(), self.version, weakness_of(area))
    }

    fn attested(self, key: &PublicKey, born: bool) -> Attested {
        let Self { bound, pcrs, clock, since, firmware_known, .. } = self;
        let endorsement = bound.genuine.public_hash;
        Attested {
            key: key.clone(),
            binding: Binding { endorsement, attestation_key: bound.name.as_bytes().to_vec() },
            names: bound.genuine.names,
            class: bound.genuine.class,
            firmware: firmware_known.then_some(clock.firmware),
            transcript: bound.transcript,
            pcrs,
            clock,
            since,
            born,
        }
    }
}

/// How much a verdict is worth, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// A simulated TPM, or one of which nobody said what it is.
    Software,
    /// A cloud's virtual TPM.
    CloudHardware,
    /// A TPM of a machine.
    Hardware,
}

impl Assurance {
    /// As policies write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::CloudHardware => "cloud-hardware",
            Self::Hardware => "hardware",
        }
    }
}

/// A node that is what it says: the key of its request lives in a genuine TPM, whose PCRs are known. Only the steps make it.
#[derive(Clone, Debug)]
pub struct Attested {
    key: PublicKey,
    binding: Binding,
    names: [String; 3],
    class: TpmClass,
    firmware: Option<u64>,
    transcript: [u8; 32],
    pcrs: Vec<(HashAlgorithm, u8, Vec<u8>)>,
    clock: Clock,
    since: Since,
    born: bool,
}

impl Attested {
    /// The key that a certificate may be made for, and no other.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Who the TPM is, and its attestation key: to be stored for the next time.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The clock: to be stored for the next time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What happened since the last time.
    pub fn since(&self) -> Since {
        self.since
    }

    /// The hash of the transcript of the exchange that it is good for.
    pub fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }

    /// The quoted PCRs: bank, index, value.
    pub fn pcrs(&self) -> &[(HashAlgorithm, u8, Vec<u8>)] {
        &self.pcrs
    }

    /// What the endorsement certificate says that the TPM is: its manufacturer, model and version.
    pub fn names(&self) -> &[String; 3] {
        &self.names
    }

    /// What kind of TPM its maker makes.
    pub fn class(&self) -> TpmClass {
        self.class
    }

    /// The firmwareVersion that the quote attests to; none where it is hidden (Part 1, section 36.7).
    pub fn firmware(&self) -> Option<u64> {
        self.firmware
    }

    /// The version in the endorsement certificate, major in the upper 16 bits, if it says one.
    pub fn certified_version(&self) -> Option<u32> {
        version_of(&self.names)
    }

    /// Whether the key was created in this exchange.
    pub fn born(&self) -> bool {
        self.born
    }

    /// How much it is worth.
    pub fn assurance(&self) -> Assurance {
        match self.class {
            TpmClass::Discrete | TpmClass::Firmware => Assurance::Hardware,
            TpmClass::Virtual => Assurance::CloudHardware,
            TpmClass::Simulated | TpmClass::Unknown => Assurance::Software,
        }
    }

    /// What policies select by.
    pub fn selectors(&self) -> Vec<String> {
        let [manufacturer, model, version] = &self.names;
        let mut selectors = vec![
            format!("tpm:pub_hash:{}", hex::encode(self.binding.endorsement)),
            format!("tpm:manufacturer:{manufacturer}"),
            format!("tpm:model:{model}"),
            format!("tpm:version:{version}"),
            format!("tpm:class:{}", self.class.as_str()),
        ];
        selectors.extend(self.firmware.map(|firmware| format!("tpm:firmware:{firmware:016x}")));
        selectors.extend(self.pcrs.iter().map(|(bank, pcr, value)| {
            let bank = match bank {
                HashAlgorithm::Sha256 => "sha256",
                HashAlgorithm::Sha384 => "sha384",
                HashAlgorithm::Sha512 => "sha512",
            };
            format!("tpm:pcr:{bank}:{pcr}:{}", hex::encode(value))
        }));
        selectors.extend(self.born.then(|| "tpm:key-born:true".to_owned()));
        selectors
    }
}

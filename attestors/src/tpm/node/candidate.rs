//! From an endorsement key to an attestation key that is bound to it.

use aws_lc_rs::hmac;
use undercroft_keys::PublicKey;
use undercroft_tpm_wire::{HashAlgorithm, Hierarchy, Name, PublicArea, PublicKind};

use super::policy::{Policy, TpmClass, WeakKeys};
use super::refusal::{Code, Refusal};
use crate::tpm::attestation_key;
use crate::tpm::credential::{self, Credential, CredentialError, SECRET};
use crate::tpm::endorsement::Endorsement;

/// An endorsement key that a maker vouches for and policy takes.
#[derive(Clone, Debug)]
pub struct Genuine<'p> {
    pub(super) policy: &'p Policy,
    pub(super) endorsement: Endorsement,
    pub(super) names: [String; 3],
    pub(super) class: TpmClass,
    pub(super) public_hash: [u8; 32],
}

impl<'p> Genuine<'p> {
    /// tpmManufacturer of the certificate.
    pub fn manufacturer(&self) -> &str {
        let [manufacturer, ..] = &self.names;
        manufacturer
    }

    /// SHA-256 of the DER of the endorsement key's SubjectPublicKeyInfo: who the TPM is.
    pub fn public_hash(&self) -> [u8; 32] {
        self.public_hash
    }

    /// tpmVersion of the certificate, if it is `id:` and eight digits.
    pub(super) fn certified_version(&self) -> Option<u32> {
        version_of(&self.names)
    }

    /// Checks that a TPMT_PUBLIC is of an attestation key. Nothing says yet that it is in this TPM.
    ///
    /// # Errors
    /// `ak-*`.
    pub fn candidate(self, public: &[u8]) -> Result<Candidate<'p>, Refusal> {
        let area = PublicArea::parse(public).map_err(|error| Refusal::new(Code::AkMalformed, error))?;
        attestation_key::check(&area)?;
        if !area.auth_policy.is_empty() && !self.policy.key_policies.contains(&area.auth_policy) {
            return Err(Refusal::new(
                Code::AkPolicy,
                "the attestation key has an authPolicy that nobody allowed",
            ));
        }
        Ok(Candidate { genuine: self, name: area.name(), area })
    }
}

/// An attestation key that may be in the TPM of an endorsement key.
#[derive(Clone, Debug)]
pub struct Candidate<'p> {
    genuine: Genuine<'p>,
    area: PublicArea,
    name: Name,
}

/// That an attestation key was once seen to be in the TPM of an endorsement key. Whoever stores it answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// [`Genuine::public_hash`].
    pub endorsement: [u8; 32],
    /// The Name of the attestation key.
    pub attestation_key: Vec<u8>,
}

impl<'p> Candidate<'p> {
    /// The binding to store when the exchange ended well.
    pub fn binding(&self) -> Binding {
        Binding { endorsement: self.genuine.public_hash, attestation_key: self.name.as_bytes().to_vec() }
    }

    /// A credential that only this TPM opens, and only with this key in it. See [`credential::make`].
    ///
    /// # Errors
    /// As there.
    pub fn credential(&self, secret: &[u8], seed: &[u8]) -> Result<Credential, CredentialError> {
        credential::make(&self.genuine.endorsement.public, &self.name, secret, seed)
    }

    /// Checks that who took part in the exchange with this transcript found the secret: `mac` is HMAC-SHA256 of the
    /// transcript's hash under it. One secret is good for one call, whatever comes of it.
    ///
    /// # Errors
    /// `ak-activation`.
    pub fn activated(self, secret: &[u8], transcript: [u8; 32], mac: &[u8]) -> Result<Bound<'p>, Refusal> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        match SECRET.contains(&secret.len()) && hmac::verify(&key, &transcript, mac).is_ok() {
            true => Ok(self.bound(transcript)),
            false => Err(Refusal::new(Code::AkActivation, "the credential was not opened for this exchange")),
        }
    }

    /// As [`Candidate::activated`], by an activation that was seen before.
    ///
    /// # Errors
    /// `ak-binding`: it was of another endorsement key, or of another attestation key.
    pub fn recalled(self, binding: &Binding, transcript: [u8; 32]) -> Result<Bound<'p>, Refusal> {
        match self.binding() == *binding {
            true => Ok(self.bound(transcript)),
            false => Err(Refusal::new(
                Code::AkBinding,
                "the attestation key was activated in another TPM, or never",
            )),
        }
    }

    fn bound(self, transcript: [u8; 32]) -> Bound<'p> {
        Bound { genuine: self.genuine, area: self.area, name: self.name, transcript }
    }
}

/// An attestation key that is in the TPM of an endorsement key, and the exchange in which it speaks.
#[derive(Clone, Debug)]
pub struct Bound<'p> {
    pub(super) genuine: Genuine<'p>,
    pub(super) area: PublicArea,
    pub(super) name: Name,
    pub(super) transcript: [u8; 32],
}

impl Bound<'_> {
    /// The attestation key.
    ///
    /// # Errors
    /// `ak-key`.
    pub fn public_key(&self) -> Result<PublicKey, Refusal> {
        self.area.public_key().map_err(|error| Refusal::new(Code::AkKey, error))
    }

    /// tpmManufacturer, tpmModel and tpmVersion of the endorsement certificate.
    pub fn names(&self) -> &[String; 3] {
        &self.genuine.names
    }

    /// The hash of the transcript of the exchange in which it was activated.
    pub fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }

    /// Which key is in which TPM.
    pub fn binding(&self) -> Binding {
        Binding { endorsement: self.genuine.public_hash, attestation_key: self.name.as_bytes().to_vec() }
    }

    /// Whether the key of this qualified Name is ours, and whether it is a primary key of the endorsement hierarchy.
    pub(super) fn is_signer(&self, signer: &Name) -> Result<bool, Refusal> {
        if *signer == self.area.qualified_in(Hierarchy::Endorsement) {
            return Ok(true);
        }
        let elsewhere = [Hierarchy::Owner, Hierarchy::Platform, Hierarchy::Null];
        let known = elsewhere.into_iter().any(|hierarchy| *signer == self.area.qualified_in(hierarchy));
        match (known, self.genuine.policy.any_hierarchy) {
            (true, true) => Ok(false),
            (true, false) => Err(Refusal::new(
                Code::AkHierarchy,
                "the attestation key is in another hierarchy than that of endorsement",
            )),
            // Below a parent whose Name nobody told, all that can be said is that it has one.
            (false, true)
                if *signer != self.name && signer.as_bytes().len() == self.name.as_bytes().len() =>
            {
                Ok(false)
            }
            (false, _) => Err(Refusal::new(
                Code::AttestSigner,
                "the qualified Name of the signer is not that of the attestation key",
            )),
        }
    }

    /// The hash of what the key signs, which a quote's digest is made by, too.
    pub(super) fn scheme_hash(&self) -> Option<HashAlgorithm> {
        use undercroft_tpm_wire::Scheme::{Ecdsa, None as Null, RsaPss, RsaSsa};
        match self.area.scheme() {
            Ecdsa(hash) | RsaSsa(hash) | RsaPss(hash) => Some(hash),
            Null => None,
        }
    }
}

/// tpmVersion among the names of a certificate, if it is `id:` and eight digits.
pub(super) fn version_of([.., version]: &[String; 3]) -> Option<u32> {
    let digits = version.strip_prefix("id:").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// As firmware makes keys of this kind weak.
pub(super) fn weakness_of(area: &PublicArea) -> WeakKeys {
    match area.kind {
        PublicKind::Rsa(_) => WeakKeys::Rsa,
        PublicKind::Ecc(_) => WeakKeys::EccSigning,
    }
}

//! Which TPMs are believed: data of whoever judges, and the first step.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use undercroft_tpm_wire::PublicKind;

use super::candidate::Genuine;
use super::refusal::{Code, Refusal};
use crate::chain::crl::Crl;
use crate::chain::{Anchors, Certificate, ChainError};
use crate::tpm::endorsement::Endorsement;

/// What kind of TPM it is, as whoever gave the anchor says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TpmClass {
    /// A chip of its own.
    Discrete,
    /// Firmware of the processor.
    Firmware,
    /// A cloud's hypervisor.
    Virtual,
    /// A program.
    Simulated,
    /// Nobody said.
    #[default]
    Unknown,
}

impl TpmClass {
    /// As selectors write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Firmware => "firmware",
            Self::Virtual => "virtual",
            Self::Simulated => "simulated",
            Self::Unknown => "unknown",
        }
    }
}

/// An anchor, and for what it may vouch.
#[derive(Clone, Debug)]
pub struct Maker {
    /// The anchor.
    pub certificate: Certificate,
    /// What it makes.
    pub class: TpmClass,
    /// The tpmManufacturer values (`id:` and eight digits) that it may vouch for; if empty, any.
    pub manufacturers: Vec<String>,
}

/// One TPM, or rather one endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TpmId {
    /// SHA-256 of the DER of its SubjectPublicKeyInfo.
    PublicKey([u8; 32]),
    /// Its certificate.
    Certificate {
        /// DER of the issuer's name.
        issuer: Vec<u8>,
        /// The serial number, big-endian, without leading zeros.
        serial: Vec<u8>,
    },
}

/// The kind of key that weak firmware makes or uses badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakKeys {
    /// RSA keys that the TPM made.
    Rsa,
    /// ECC keys that sign.
    EccSigning,
}

/// Versions of firmware that make keys weak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeakFirmware {
    /// tpmManufacturer, as in certificates.
    pub manufacturer: &'static str,
    /// The first and the last version: TPM_PT_FIRMWARE_VERSION_1, major in the upper 16 bits, minor in the lower.
    pub versions: (u32, u32),
    /// Which keys.
    pub keys: WeakKeys,
    /// Where it says so.
    pub advisory: &'static str,
}

/// ROCA: Infineon's advisory, all versions of TPM 2.0 up to the last one before the fix. TPM-FAIL: the table of
/// <https://www.st.com/content/st_com/en/campaigns/tpm-update.html>, from which all that is not listed is unaffected.
pub fn known_weak_firmware() -> Vec<WeakFirmware> {
    let of = |major: u32, minor: u32| major << 16 | minor;
    let roca = [(of(5, 0), of(5, 61)), (of(7, 0), of(7, 61)), (of(133, 0), of(133, 32))];
    let roca = roca.map(|versions| WeakFirmware {
        manufacturer: "id:49465800",
        versions,
        keys: WeakKeys::Rsa,
        advisory: "CVE-2017-15361 (ROCA)",
    });
    let fail = [(71, &[0, 4, 12][..]), (73, &[0, 4, 5, 8, 9]), (74, &[0, 4, 5, 8, 9, 16])];
    let fail = fail.into_iter().flat_map(|(major, minors)| minors.iter().map(move |minor| (major, *minor)));
    let fail = fail.map(|(major, minor)| WeakFirmware {
        manufacturer: "id:53544D20",
        versions: (of(major, minor), of(major, minor)),
        keys: WeakKeys::EccSigning,
        advisory: "CVE-2019-16863 (TPM-FAIL)",
    });
    roca.into_iter().chain(fail).collect()
}

/// Whom and what a judge of nodes believes. The default believes nobody.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Anchors.
    pub makers: Vec<Maker>,
    /// Lists of revoked certificates. One by an issuer on the way is looked at, needed or not.
    pub crls: Vec<Crl>,
    /// Whether each issuer on the way must have a list.
    pub crl_required: bool,
    /// If given, only these.
    pub allowed: Option<Vec<TpmId>>,
    /// Never these.
    pub denied: Vec<TpmId>,
    /// See [`known_weak_firmware`].
    pub weak_firmware: Vec<WeakFirmware>,
    /// The authPolicies that an attestation key may have, besides none.
    pub key_policies: Vec<Vec<u8>>,
    /// Whether the attestation key may be anything but a primary key of the endorsement hierarchy.
    pub any_hierarchy: bool,
    /// Whether a clock that is not `safe` is taken.
    pub unsafe_clock: bool,
}

impl Policy {
    /// Checks an endorsement key: that a maker whom we believe vouches for it, and nothing speaks against it.
    ///
    /// # Errors
    /// See [`Code`]: `ek-*`, `crl-*`, `firmware-weak`.
    pub fn endorse(&self, endorsement: Endorsement, at: Timestamp) -> Result<Genuine<'_>, Refusal> {
        let anchors = Anchors::new(self.makers.iter().map(|maker| maker.certificate.clone()).collect());
        let endorsed = endorsement.verify(&anchors, at)?;
        self.is_not_revoked(&endorsement.certificate, &endorsed.issuers, at)?;
        let maker = self.makers.iter().find(|maker| maker.certificate.digest() == endorsed.anchor);
        let maker = maker.ok_or_else(|| Refusal::new(Code::EkChain, "the anchor is unknown"))?;
        let [manufacturer, ..] = &endorsed.names;
        if !maker.manufacturers.is_empty() && !maker.manufacturers.contains(manufacturer) {
            let why = format!("`{}` may not vouch for a TPM of `{manufacturer}`", endorsed.manufacturer);
            return Err(Refusal::new(Code::EkMaker, why));
        }
        let key = endorsement.certificate.public_key().map_err(|e| Refusal::new(Code::EkKey, e))?;
        let public_hash: [u8; 32] = Sha256::digest(key.spki()).into();
        let is = |id: &TpmId| is(id, &endorsement.certificate, &public_hash);
        if self.denied.iter().any(is) {
            return Err(Refusal::new(Code::EkDenied, "the endorsement key is on the deny list"));
        }
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.iter().any(is)) {
            return Err(Refusal::new(Code::EkNotAllowed, "the endorsement key is not on the allow list"));
        }
        let class = maker.class;
        let genuine = Genuine { policy: self, endorsement, names: endorsed.names, class, public_hash };
        if matches!(genuine.endorsement.public.kind, PublicKind::Rsa(_)) {
            self.is_not_weak(genuine.manufacturer(), genuine.certified_version(), WeakKeys::Rsa)?;
        }
        Ok(genuine)
    }

    fn is_not_revoked(
        &self,
        leaf: &Certificate,
        issuers: &[Certificate],
        at: Timestamp,
    ) -> Result<(), Refusal> {
        for (certificate, issuer) in std::iter::once(leaf).chain(issuers).zip(issuers) {
            let mut lists = self.crls.iter().filter(|crl| crl.claims(issuer)).peekable();
            if self.crl_required && lists.peek().is_none() {
                return Err(Refusal::new(Code::CrlMissing, format!("no CRL of `{}`", issuer.subject())));
            }
            for list in lists {
                list.check(certificate, issuer, at).map_err(|error| {
                    let code = match &error {
                        ChainError::Revoked(..) => Code::EkRevoked,
                        ChainError::StaleCrl(..) => Code::CrlStale,
                        _ => Code::CrlInvalid,
                    };
                    Refusal::new(code, error)
                })?;
            }
        }
        Ok(())
    }

    /// That no key of this kind is weak by firmware of this version. A version that nobody tells is not known to be weak.
    pub(super) fn is_not_weak(
        &self,
        manufacturer: &str,
        version: Option<u32>,
        keys: WeakKeys,
    ) -> Result<(), Refusal> {
        let Some(version) = version else { return Ok(()) };
        let weak = self.weak_firmware.iter().find(|weak| {
            weak.manufacturer.eq_ignore_ascii_case(manufacturer)
                && weak.keys == keys
                && (weak.versions.0..=weak.versions.1).contains(&version)
        });
        weak.map_or(Ok(()), |weak| {
            let (major, minor) = (version >> 16, version & 0xffff);
            let why = format!("firmware {major}.{minor} of `{manufacturer}`: {}", weak.advisory);
            Err(Refusal::new(Code::FirmwareWeak, why))
        })
    }
}

fn is(id: &TpmId, certificate: &Certificate, public_hash: &[u8; 32]) -> bool {
    match id {
        TpmId::PublicKey(hash) => hash == public_hash,
        TpmId::Certificate { issuer, serial } => {
            let own = certificate.fields().serial_number().as_bytes();
            let zeros = own.iter().take_while(|byte| **byte == 0).count();
            *issuer == certificate.issuer_der() && *serial == own[zeros..]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weak(manufacturer: &str, major: u32, minor: u32, keys: WeakKeys) -> Option<Code> {
        let policy = Policy { weak_firmware: known_weak_firmware(), ..Policy::default() };
        policy.is_not_weak(manufacturer, Some(major << 16 | minor), keys).err().map(|refusal| refusal.code())
    }

    #[test]
    fn cve_2017_15361_infineons_firmware_before_the_fix_makes_no_rsa_keys() {
        for (major, minor, expected) in [
            (7, 61, true),
            (7, 0, true),
            (7, 62, false),
            (7, 85, false),
            (5, 61, true),
            (5, 62, false),
            (133, 32, true),
            (133, 33, false),
            (15, 20, false),
        ] {
            let refused = weak("id:49465800", major, minor, WeakKeys::Rsa);
            assert_eq!(refused, expected.then_some(Code::FirmwareWeak), "{major}.{minor}");
            assert_eq!(weak("id:49465800", major, minor, WeakKeys::EccSigning), None);
            assert_eq!(weak("id:53544D20", major, minor, WeakKeys::Rsa), None);
        }
    }

    #[test]
    fn cve_2019_16863_the_firmware_that_st_lists_signs_with_no_ecc_key() {
        for (major, minor, expected) in [
            (71, 12, true),
            (71, 16, false),
            (73, 8, true),
            (73, 9, true),
            (73, 20, false),
            (73, 64, false),
            (74, 16, true),
            (74, 20, false),
            (72, 0, false),
        ] {
            let refused = weak("id:53544d20", major, minor, WeakKeys::EccSigning);
            assert_eq!(refused, expected.then_some(Code::FirmwareWeak), "{major}.{minor}");
        }
        assert!(Policy::default().is_not_weak("id:53544D20", Some(71 << 16), WeakKeys::EccSigning).is_ok());
    }
}

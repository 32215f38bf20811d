//! Attestation certificates of Yubico's tokens, where a module shows them beside the key.
//!
//! A token signs a certificate for a key that was made in it, with an attestation key that its maker has certified. What it
//! says of the key stands in extensions: docs.yubico.com, "YubiHSM OIDs" (1.3.6.1.4.1.41482.4) and "PIV Attestation OID
//! Arc" (1.3.6.1.4.1.41482.3).

use const_oid::ObjectIdentifier;
use der::Decode as _;
use der::asn1::BitStringRef;
use jiff::Timestamp;
use undercroft_keys::PublicKey;

use crate::chain::{Anchors, Certificate};

/// The most certificates of a token that are looked at.
pub(super) const MOST: usize = 16;

const HSM_ORIGIN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.4.3");
const HSM_CAPABILITIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.4.5");
/// The firmware, which every attestation of a PIV key has. Only keys that were made in the YubiKey are attested.
const PIV_FIRMWARE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.41482.3.3");

/// Made in the device, and neither imported nor unwrapped.
const GENERATED: [u8; 1] = [0x01];
/// The capability `exportable-under-wrap`.
const EXPORTABLE: u64 = 1 << 16;

/// Judges the certificates that a token shows beside a key. Gives who attests to it, in words.
///
/// # Errors
/// Why nothing is proven: there is no attestation of this key, it leads to no anchor, or it says that the key may leave.
pub(super) fn judge(
    certificates: &[Certificate],
    key: &PublicKey,
    makers: &Anchors,
    now: Timestamp,
) -> Result<String, String> {
    if certificates.len() > MOST {
        return Err(format!("the token shows {} certificates, more than {MOST}", certificates.len()));
    }
    let attestations = certificates.iter().filter(|certificate| {
        let attests =
            extension(certificate, HSM_ORIGIN).is_some() || extension(certificate, PIV_FIRMWARE).is_some();
        attests && certificate.public_key().is_ok_and(|attested| attested == *key)
    });
    let mut why = "no vendor attestation was offered".to_owned();
    for attestation in attestations {
        let others: Vec<_> =
            certificates.iter().filter(|other| other.der() != attestation.der()).cloned().collect();
        match says_that_it_stays(attestation)
            .and_then(|()| attestation.verify(&others, makers, now).map_err(|error| error.to_string()))
        {
            Ok(anchor) => {
                return Ok(format!(
                    "{} attests that the key was made in it: {}",
                    anchor.subject(),
                    attestation.subject()
                ));
            }
            Err(reason) => {
                why = format!("the attestation {} proves nothing: {reason}", attestation.subject())
            }
        }
    }
    Err(why)
}

/// What the attestation says of the key, unverified.
fn says_that_it_stays(attestation: &Certificate) -> Result<(), String> {
    let Some(origin) = extension(attestation, HSM_ORIGIN) else {
        // A YubiKey attests to no other keys.
        return Ok(());
    };
    if bits(origin)? != GENERATED {
        return Err("the key was not made in the YubiHSM, but imported".to_owned());
    }
    let capabilities =
        extension(attestation, HSM_CAPABILITIES).ok_or("it does not say what the key may do")?;
    let capabilities: [u8; 8] =
        bits(capabilities)?.try_into().map_err(|_| "its capabilities are no eight bytes".to_owned())?;
    // The order of the bytes is not said where the extension is described: in neither may the bit be set.
    match (u64::from_be_bytes(capabilities) | u64::from_le_bytes(capabilities)) & EXPORTABLE {
        0 => Ok(()),
        _ => Err("the key can be exported under a wrap key".to_owned()),
    }
}

/// The content of an extension that stands once.
fn extension(certificate: &Certificate, wanted: ObjectIdentifier) -> Option<&[u8]> {
    let mut found =
        certificate.fields().extensions().into_iter().flatten().filter(|other| other.extn_id == wanted);
    match (found.next(), found.next()) {
        (Some(extension), None) => Some(extension.extn_value.as_bytes()),
        _ => None,
    }
}

/// The bytes of a BIT STRING of whole bytes.
fn bits(content: &[u8]) -> Result<Vec<u8>, String> {
    let bits =
        BitStringRef::from_der(content).map_err(|error| format!("an extension is no BIT STRING: {error}"))?;
    bits.as_bytes().map(<[u8]>::to_vec).ok_or_else(|| "an extension has odd bits".to_owned())
}

#[cfg(test)]
mod tests;

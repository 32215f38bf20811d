//! What a SmartCard-HSM or Nitrokey HSM 2 states of a key that was made in it (`docs/keys.md`).
//!
//! The device's answer to GENERATE ASYMMETRIC KEY PAIR is an authenticated request (BSI TR-03110 part 3, annex C.2): the
//! new key, signed by itself, and around it the signature of the device's own key. That one's certificate is the device's
//! (C.DevAut), signed by an issuer of devices, whom CardContact's root has certified.

mod curve;
mod cvc;

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use undercroft_keys::{KeyType, Numbers, PublicKey};

use self::curve::{Curve, Point};
use self::cvc::{Certificate, HolderKey, Request};

/// The most certificates of a token that are looked at.
const MOST: usize = 8;

/// Roles of card-verifiable certificates (TR-03110 part 3, C.4: the two highest bits).
const ROOT: u8 = 0xc0;
const ISSUER: u8 = 0x80;
const DEVICE: u8 = 0x00;

/// Roots whose devices are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardAnchors(Vec<CardAnchor>);

/// A root: its name, its key and when it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CardAnchor {
    digest: [u8; 32],
    holder: String,
    key: Point,
    validity: cvc::Validity,
}

/// A card-verifiable certificate that cannot be an anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no root of card-verifiable certificates: {0}")]
pub struct BadCardAnchor(String);

impl CardAnchors {
    /// The anchors in these certificates, binary as they are distributed.
    ///
    /// # Errors
    /// One is no certificate, not one of a root of SmartCard-HSMs, or does not verify under its own key.
    pub fn new(certificates: &[Vec<u8>]) -> Result<Self, BadCardAnchor> {
        let anchors = certificates.iter().map(|bytes| CardAnchor::read(bytes));
        Ok(Self(anchors.collect::<Result<_, _>>().map_err(BadCardAnchor)?))
    }

    /// Whether nothing can be proven by them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of them with the SHA-256 `digest`.
    #[must_use]
    pub fn with_digest(&self, digest: &[u8; 32]) -> Self {
        Self(self.0.iter().filter(|anchor| anchor.digest == *digest).cloned().collect())
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

impl CardAnchor {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let [certificate] = &Certificate::read_all(bytes).map_err(|error| error.to_string())?[..] else {
            return Err("it is not exactly one certificate".to_owned());
        };
        if certificate.issuer != certificate.holder {
            return Err(format!("{} was issued by {}", certificate.holder, certificate.issuer));
        }
        has_role(certificate, ROOT, "a root")?;
        let key = point(certificate, None)?;
        key.verify(&certificate.body, &certificate.signature)
            .map_err(|error| format!("{} does not verify under its own key: {error}", certificate.holder))?;
        Ok(Self {
            digest: Sha256::digest(bytes).into(),
            holder: certificate.holder.clone(),
            key,
            validity: certificate.validity,
        })
    }
}

/// Judges what a token shows beside a key: requests, and pieces with one certificate or several. Gives who states what, in
/// words.
///
/// # Errors
/// Why nothing is proven.
pub(super) fn judge(
    requests: &[Vec<u8>],
    certificates: &[Vec<u8>],
    key: &PublicKey,
    anchors: &CardAnchors,
    now: Timestamp,
) -> Result<String, String> {
    if requests.len() > MOST || certificates.len() > MOST {
        return Err(format!("the token shows more than {MOST} requests or certificates"));
    }
    let mut known = Vec::new();
    for bytes in certificates {
        let read = Certificate::read_all(bytes);
        known.extend(read.map_err(|error| format!("a card-verifiable certificate: {error}"))?);
    }
    if known.len() > MOST {
        return Err(format!("the token shows more than {MOST} certificates"));
    }
    let mut why = "the device's request for the key is missing".to_owned();
    for bytes in requests {
        let stated = Request::read(bytes).map_err(|error| format!("the device's request: {error}"));
        match stated.and_then(|request| attested(&request, &known, key, anchors, now)) {
            Ok(proven) => return Ok(proven),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

fn attested(
    request: &Request,
    known: &[Certificate],
    key: &PublicKey,
    anchors: &CardAnchors,
    now: Timestamp,
) -> Result<String, String> {
    is_for(&request.key, key)?;
    if request.has_extensions {
        // id-key-domain-uid (1.3.6.1.4.1.24991.3.2.2) is the one that is known.
        return Err(
            "the device's request has an extension: a key of a key domain can be copied to other devices"
                .to_owned(),
        );
    }
    let find = |holder: &str, what: &str| {
        let found = known.iter().find(|certificate| certificate.holder == holder);
        found.ok_or_else(|| format!("the certificate of {what} {holder} is not shown"))
    };
    let device = find(&request.outer_issuer, "the device")?;
    let issuer = find(&device.issuer, "the issuer of devices")?;
    let anchor = anchors.0.iter().find(|anchor| anchor.holder == issuer.issuer);
    let anchor = anchor.ok_or_else(|| format!("the root {} is not trusted here", issuer.issuer))?;
    has_role(issuer, ISSUER, "an issuer of devices")?;
    has_role(device, DEVICE, "a device")?;
    is_valid(&anchor.holder, anchor.validity, now)?;
    is_valid(&issuer.holder, issuer.validity, now)?;
    is_valid(&device.holder, device.validity, now)?;
    let by = |who: &str, whose: &str| {
        let (who, whose) = (who.to_owned(), whose.to_owned());
        move |error: curve::DoesNotVerify| format!("the signature of {who} on {whose}: {error}")
    };
    anchor.key.verify(&issuer.body, &issuer.signature).map_err(by(&anchor.holder, &issuer.holder))?;
    let issuers = point(issuer, Some(anchor.key.curve()))?;
    issuers.verify(&device.body, &device.signature).map_err(by(&issuer.holder, &device.holder))?;
    let devices = point(device, Some(issuers.curve()))?;
    devices.verify(&request.signed, &request.signature).map_err(by(&device.holder, "the request"))?;
    Ok(format!(
        "{} attests over {} that the key was made in the device {}; if the device has a key share (DKEK), who holds its shares can take keys out, of which nothing is said",
        anchor.holder, issuer.holder, device.holder
    ))
}

/// Whether the key that the device states is the CA's.
fn is_for(stated: &HolderKey, key: &PublicKey) -> Result<(), String> {
    let same = match (stated, key.numbers(), key.key_type()) {
        (HolderKey::Ec { domain, point }, Numbers::Ec { x, y }, kind) => {
            let curve = match kind {
                KeyType::P256 => Curve::P256,
                _ => Curve::P384,
            };
            *domain == Some(curve) && point[..] == [&[0x04], x, y].concat()[..]
        }
        (HolderKey::Rsa { modulus, exponent }, Numbers::Rsa { n, e }, _) => {
            let stripped = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                bytes.get(zeros..).unwrap_or_default().to_vec()
            };
            stripped(modulus) == stripped(n) && stripped(exponent) == stripped(e)
        }
        _ => false,
    };
    if same { Ok(()) } else { Err("the device's request is for another key".to_owned()) }
}

fn has_role(certificate: &Certificate, role: u8, what: &str) -> Result<(), String> {
    match certificate.role == role {
        true => Ok(()),
        false => Err(format!(
            "the certificate of {} is not one of {what}: its role is {:02x}",
            certificate.holder, certificate.role
        )),
    }
}

fn is_valid(holder: &str, validity: cvc::Validity, now: Timestamp) -> Result<(), String> {
    match validity.from <= now && now < validity.until {
        true => Ok(()),
        false => Err(format!("the certificate of {holder} is not valid at {now}")),
    }
}

/// The key of a certificate. Below the root domain parameters may be left out, and are its issuer's (TR-03110 part 3, C.1).
fn point(certificate: &Certificate, inherited: Option<Curve>) -> Result<Point, String> {
    let of = |what: &dyn fmt::Display| format!("the key of {}: {what}", certificate.holder);
    let HolderKey::Ec { domain, point } = &certificate.key else {
        return Err(of(&"it is no key of ECDSA with SHA-256"));
    };
    let curve = domain.or(inherited).ok_or_else(|| of(&"its domain parameters are missing"))?;
    Point::new(curve, point).map_err(|error| of(&error))
}

#[cfg(test)]
mod tests;

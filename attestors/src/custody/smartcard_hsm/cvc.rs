//! Card-verifiable certificates and authenticated requests (BSI TR-03110 part 3, annexes C and D), in the profile of
//! CardContact's SmartCard-HSM: strict DER, every object in its place, nothing left over.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::curve::Curve;

/// The longest certificate or request: two RSA-4096 values and room.
pub(super) const MAX_CERTIFICATE: usize = 2048;
/// The most certificates in one piece.
const MOST: usize = 4;

/// Tags (TR-03110 part 3, D.2).
const CERTIFICATE: u16 = 0x7f21;
const BODY: u16 = 0x7f4e;
const PROFILE: u16 = 0x5f29;
const ISSUER: u16 = 0x42;
const PUBLIC_KEY: u16 = 0x7f49;
const HOLDER: u16 = 0x5f20;
const AUTHORISATION: u16 = 0x7f4c;
const DISCRETIONARY: u16 = 0x53;
const EFFECTIVE: u16 = 0x5f25;
const EXPIRATION: u16 = 0x5f24;
const EXTENSIONS: u16 = 0x65;
const SIGNATURE: u16 = 0x5f37;
const AUTHENTICATION: u16 = 0x67;
const OBJECT_IDENTIFIER: u16 = 0x06;

/// id-sc-hsm, 1.3.6.1.4.1.24991.3.1.1: of whom roles are said.
const SMARTCARD_HSM: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xc3, 0x1f, 0x03, 0x01, 0x01];
/// id-TA-RSA and id-TA-ECDSA, 0.4.0.127.0.7.2.2.2.1 and .2; one more number says the hash.
const RSA: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x01];
const ECDSA: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x02];
/// id-TA-ECDSA-SHA-256.
const SHA_256: u8 = 3;

/// A certificate, of which nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// What is signed: the body with its header.
    pub(super) body: Vec<u8>,
    /// The certification authority reference.
    pub(super) issuer: String,
    /// The certificate holder reference.
    pub(super) holder: String,
    /// The holder's key.
    pub(super) key: HolderKey,
    /// The role in the holder's authorisation.
    pub(super) role: u8,
    /// When it is valid.
    pub(super) validity: Validity,
    /// r and s.
    pub(super) signature: Vec<u8>,
}

/// From the beginning of the effective date to the end of the expiration date, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// The first moment.
    pub(super) from: Timestamp,
    /// The first moment after it.
    pub(super) until: Timestamp,
}

/// An authenticated request, of which nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The key that is stated.
    pub(super) key: HolderKey,
    /// Whether the request has extensions.
    pub(super) has_extensions: bool,
    /// Who signed it: the outer certification authority reference.
    pub(super) outer_issuer: String,
    /// What the outer signature is over: the inner request and the outer reference, with their headers.
    pub(super) signed: Vec<u8>,
    /// The outer signature, r and s.
    pub(super) signature: Vec<u8>,
}

/// A key in a certificate or request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HolderKey {
    /// A point, uncompressed. For certificates, one that verifies ECDSA with SHA-256.
    Ec {
        /// The curve, if there are domain parameters.
        domain: Option<Curve>,
        /// The point.
        point: Vec<u8>,
    },
    /// Numbers, big-endian.
    Rsa {
        /// The modulus.
        modulus: Vec<u8>,
        /// The exponent.
        exponent: Vec<u8>,
    },
}

/// Why bytes are neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is longer than {MAX_CERTIFICATE} bytes")]
    TooLong,
    #[error("it is cut off, or its lengths are not DER")]
    Length,
    #[error("the object {0:04x} is not where it must be")]
    Tag(u16),
    #[error("bytes are left over")]
    LeftOver,
    #[error("its profile identifier is not 0")]
    Profile,
    #[error("a reference is not 8 to 16 printable characters")]
    Reference,
    #[error("its holder's authorisation is not one of SmartCard-HSMs")]
    Authorisation,
    #[error("a date is none")]
    Date,
    #[error("its key is of an algorithm that is not known here")]
    Algorithm,
    #[error("its key's domain parameters are of no curve that is known here")]
    Domain,
    #[error("it has extensions, of which none is known here")]
    Extensions,
    #[error("there are no certificates, or more than {MOST}")]
    Number,
}

impl Certificate {
    /// Reads certificates one behind the other, as EF.C_DevAut holds them.
    pub(super) fn read_all(mut bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut certificates = Vec::new();
        while !bytes.is_empty() {
            if certificates.len() == MOST {
                return Err(Malformed::Number);
            }
            certificates.push(Self::read(take(&mut bytes, CERTIFICATE)?)?);
        }
        if certificates.is_empty() { Err(Malformed::Number) } else { Ok(certificates) }
    }

    fn read(certificate: Object<'_>) -> Result<Self, Malformed> {
        let (body, signature) = signed(certificate)?;
        let mut inside = body.content;
        let (issuer, key, holder) = named(&mut inside)?;
        let role = authorisation(take(&mut inside, AUTHORISATION)?.content)?;
        let from = date(take(&mut inside, EFFECTIVE)?.content)?;
        let last = date(take(&mut inside, EXPIRATION)?.content)?;
        // Some issuers of devices have an empty list.
        if let Some(extensions) = take_if(&mut inside, EXTENSIONS)?
            && !extensions.content.is_empty()
        {
            return Err(Malformed::Extensions);
        }
        end(inside)?;
        let (HolderKey::Ec { .. }, Some(&SHA_256)) = (&key.holder, key.hash.as_ref()) else {
            return Err(Malformed::Algorithm);
        };
        let until = last.tomorrow().map_err(|_| Malformed::Date)?;
        Ok(Self {
            body: body.whole.to_vec(),
            issuer,
            holder,
            key: key.holder,
            role,
            validity: Validity { from: midnight(from)?, until: midnight(until)? },
            signature: signature.to_vec(),
        })
    }
}

impl Request {
    /// Reads an authenticated request.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let outer = take(&mut bytes, AUTHENTICATION)?;
        end(bytes)?;
        let mut inside = outer.content;
        let inner = take(&mut inside, CERTIFICATE)?;
        let reference = take(&mut inside, ISSUER)?;
        let signature = take(&mut inside, SIGNATURE)?.content.to_vec();
        end(inside)?;
        let (body, _) = signed(inner)?;
        let mut fields = body.content;
        let (_, key, _) = named(&mut fields)?;
        let extensions = take_if(&mut fields, EXTENSIONS)?;
        end(fields)?;
        Ok(Self {
            key: key.holder,
            has_extensions: extensions.is_some_and(|extensions| !extensions.content.is_empty()),
            outer_issuer: read_reference(reference.content)?,
            signed: [inner.whole, reference.whole].concat(),
            signature,
        })
    }
}

/// The body and the signature of a certificate or of the request inside.
fn signed(certificate: Object<'_>) -> Result<(Object<'_>, &[u8]), Malformed> {
    let mut inside = certificate.content;
    let body = take(&mut inside, BODY)?;
    let signature = take(&mut inside, SIGNATURE)?.content;
    end(inside)?;
    Ok((body, signature))
}

/// What all bodies begin with: profile, issuer, key and holder.
fn named(inside: &mut &[u8]) -> Result<(String, Key, String), Malformed> {
    if take(inside, PROFILE)?.content != [0] {
        return Err(Malformed::Profile);
    }
    let issuer = read_reference(take(inside, ISSUER)?.content)?;
    let key = Key::read(take(inside, PUBLIC_KEY)?.content)?;
    let holder = read_reference(take(inside, HOLDER)?.content)?;
    Ok((issuer, key, holder))
}

/// A key with the last number of its algorithm.
struct Key {
    holder: HolderKey,
    hash: Option<u8>,
}

impl Key {
    /// Context-specific tags 81 to 87 (TR-03110 part 3, D.3).
    fn read(mut inside: &[u8]) -> Result<Self, Malformed> {
        let algorithm = take(&mut inside, OBJECT_IDENTIFIER)?.content;
        let hash = algorithm.last().copied();
        let family = algorithm.split_last().map(|(_, family)| family);
        let holder = if family == Some(ECDSA) {
            let mut domain = None;
            if let Some(prime) = take_if(&mut inside, 0x81)? {
                let [a, b, g, n] = [0x82, 0x83, 0x84, 0x85].map(|tag| take(&mut inside, tag));
                domain = Some([prime.content, a?.content, b?.content, g?.content, n?.content]);
            }
            let point = take(&mut inside, 0x86)?.content.to_vec();
            let cofactor = take_if(&mut inside, 0x87)?.map(|cofactor| cofactor.content);
            // All of them or none.
            let domain = match (domain, cofactor) {
                (None, None) => None,
                (Some(domain), Some([1])) => Some(Curve::of(domain).ok_or(Malformed::Domain)?),
                _ => return Err(Malformed::Domain),
            };
            HolderKey::Ec { domain, point }
        } else if family == Some(RSA) {
            let modulus = take(&mut inside, 0x81)?.content.to_vec();
            let exponent = take(&mut inside, 0x82)?.content.to_vec();
            HolderKey::Rsa { modulus, exponent }
        } else {
            return Err(Malformed::Algorithm);
        };
        end(inside)?;
        Ok(Self { holder, hash })
    }
}

/// Country, mnemonic and sequence number: 8 to 16 characters.
fn read_reference(bytes: &[u8]) -> Result<String, Malformed> {
    let printable = bytes.iter().all(u8::is_ascii_graphic) && (8..=16).contains(&bytes.len());
    let text = std::str::from_utf8(bytes).ok().filter(|_| printable);
    text.map(str::to_owned).ok_or(Malformed::Reference)
}

fn authorisation(mut inside: &[u8]) -> Result<u8, Malformed> {
    if take(&mut inside, OBJECT_IDENTIFIER)?.content != SMARTCARD_HSM {
        return Err(Malformed::Authorisation);
    }
    let role = take(&mut inside, DISCRETIONARY)?.content;
    end(inside)?;
    match role {
        [role] => Ok(*role),
        _ => Err(Malformed::Authorisation),
    }
}

/// Six digits, a byte each: year, month and day of this century.
fn date(bytes: &[u8]) -> Result<Date, Malformed> {
    let [y1, y0, m1, m0, d1, d0] = *bytes else { return Err(Malformed::Date) };
    if bytes.iter().any(|digit| *digit > 9) {
        return Err(Malformed::Date);
    }
    let number = |tens: u8, ones: u8| (tens * 10 + ones) as i8;
    let year = 2000 + i16::from(number(y1, y0));
    Date::new(year, number(m1, m0), number(d1, d0)).map_err(|_| Malformed::Date)
}

fn midnight(date: Date) -> Result<Timestamp, Malformed> {
    let zoned = date.to_zoned(TimeZone::UTC).map_err(|_| Malformed::Date)?;
    Ok(zoned.timestamp())
}

/// A data object.
#[derive(Clone, Copy)]
struct Object<'a> {
    tag: u16,
    /// With its header.
    whole: &'a [u8],
    content: &'a [u8],
}

/// Takes the object with this tag.
fn take<'a>(bytes: &mut &'a [u8], tag: u16) -> Result<Object<'a>, Malformed> {
    take_if(bytes, tag)?.ok_or(Malformed::Tag(tag))
}

/// Takes the next object if it has this tag.
fn take_if<'a>(bytes: &mut &'a [u8], tag: u16) -> Result<Option<Object<'a>>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (object, rest) = next(bytes)?;
    if object.tag != tag {
        return Ok(None);
    }
    *bytes = rest;
    Ok(Some(object))
}

fn end(rest: &[u8]) -> Result<(), Malformed> {
    if rest.is_empty() { Ok(()) } else { Err(Malformed::LeftOver) }
}

/// The next object and what is behind it. Tags have one byte or two, lengths as few bytes as they need and two at most.
fn next(bytes: &[u8]) -> Result<(Object<'_>, &[u8]), Malformed> {
    let (tag, rest) = match bytes {
        [high, low, rest @ ..] if high & 0x1f == 0x1f && (0x1f..0x80).contains(low) => {
            (u16::from_be_bytes([*high, *low]), rest)
        }
        [tag, rest @ ..] if tag & 0x1f != 0x1f => (u16::from(*tag), rest),
        _ => return Err(Malformed::Length),
    };
    let (length, rest) = match rest {
        [0x82, high, low, rest @ ..] if *high > 0 => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [0x81, length, rest @ ..] if *length >= 0x80 => (usize::from(*length), rest),
        [length, rest @ ..] if *length < 0x80 => (usize::from(*length), rest),
        _ => return Err(Malformed::Length),
    };
    if length > MAX_CERTIFICATE {
        return Err(Malformed::TooLong);
    }
    let (content, rest) = rest.split_at_checked(length).ok_or(Malformed::Length)?;
    let (whole, _) = bytes.split_at(bytes.len() - rest.len());
    Ok((Object { tag, whole, content }, rest))
}

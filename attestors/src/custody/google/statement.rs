//! What a Marvell (once Cavium) HSM states of a pair of keys, as Google delivers it (`CAVIUM_V2_COMPRESSED`).
//!
//! Gzip around: a response header of four big-endian words (code, flags, size of all, size of the attributes), an
//! information header of four half-words (version, flags, offsets of two objects), the objects (handle, number of
//! attributes, size; then attributes as type, length and value), and 256 bytes of RSA signature over everything before.
//! The layout is that of Marvell's and Google's published verification scripts.

use std::io::Read as _;

use flate2::read::GzDecoder;
use undercroft_keys::{Numbers, PublicKey};

use super::Looked;

/// The most bytes that a statement may have when it is unpacked; Google's have about two thousand.
const MAX_STATEMENT: u64 = 64 * 1024;

/// The bytes of the signature: RSA of 2048 bits.
const SIGNATURE: usize = 256;

/// The most attributes of an object; those seen have 35.
const MAX_ATTRIBUTES: u32 = 256;

const CLASS: u32 = 0x0;
const KEY_TYPE: u32 = 0x100;
const SENSITIVE: u32 = 0x103;
const MODULUS: u32 = 0x120;
const PUBLIC_EXPONENT: u32 = 0x122;
const EXTRACTABLE: u32 = 0x162;
const LOCAL: u32 = 0x163;
const NEVER_EXTRACTABLE: u32 = 0x164;
const ALWAYS_SENSITIVE: u32 = 0x165;

const PRIVATE_KEY: &[u8] = &[3];
const RSA: &[u8] = &[0];
const EC: &[u8] = &[3];

/// A statement that could be taken apart. Who made it is another question.
pub(super) struct Statement {
    bytes: Vec<u8>,
    private: Vec<(u32, Vec<u8>)>,
}

impl Statement {
    /// Unpacks and takes apart a statement.
    pub(super) fn parse(packed: &[u8]) -> Result<Self, String> {
        let mut bytes = Vec::new();
        GzDecoder::new(packed)
            .take(MAX_STATEMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("it cannot be unpacked: {error}"))?;
        if bytes.len() as u64 > MAX_STATEMENT {
            return Err(format!("it has more than {MAX_STATEMENT} bytes when it is unpacked"));
        }
        let private = private_key(&bytes).ok_or("it is malformed, or about no private key")?;
        Ok(Self { bytes, private })
    }

    /// Everything but the signature.
    pub(super) fn signed(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - SIGNATURE]
    }

    /// The signature.
    pub(super) fn signature(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - SIGNATURE..]
    }

    /// Whether it is about `key`, and says that it was made in the HSM and never leaves it.
    pub(super) fn says_of(&self, key: &PublicKey) -> Result<(), Looked> {
        let wrong = |what: &str| Err(Looked::Wrong(what.to_owned()));
        let is_key = match key.numbers() {
            Numbers::Ec { x, y } => {
                self.value(KEY_TYPE) == Some(EC) && self.value(MODULUS) == Some(&[&[4], x, y].concat())
            }
            Numbers::Rsa { n, e } => {
                let number = |kind| self.value(kind).map(without_zeros);
                self.value(KEY_TYPE) == Some(RSA)
                    && number(MODULUS) == Some(n)
                    && number(PUBLIC_EXPONENT) == Some(e)
            }
            Numbers::Ed25519 { .. } => {
                return Err(Looked::Not("statements about Ed25519 keys are not judged here".to_owned()));
            }
        };
        if !is_key {
            return wrong("it is about another key");
        }
        for (kind, wanted, what) in [
            (LOCAL, 1, "the key was not made in the HSM"),
            (EXTRACTABLE, 0, "the key may be taken out of the HSM"),
            (NEVER_EXTRACTABLE, 1, "the key could once be taken out of the HSM"),
            (SENSITIVE, 1, "the key may be read"),
        ] {
            if self.value(kind) != Some(&[wanted]) {
                return wrong(what);
            }
        }
        match self.value(ALWAYS_SENSITIVE) {
            None | Some([1]) => Ok(()),
            Some(_) => wrong("the key could once be read"),
        }
    }

    fn value(&self, kind: u32) -> Option<&[u8]> {
        self.private.iter().find(|(has, _)| *has == kind).map(|(_, value)| value.as_slice())
    }
}

/// The attributes of the private key.
fn private_key(bytes: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let (code, total, size) = (word(0)?, word(8)? as usize, word(12)? as usize);
    // The sizes leave room for the header, and end where the statement does: nothing is signed that is not looked at.
    let start = total.checked_sub(size.checked_add(SIGNATURE)?)?;
    if code != 0 || total != bytes.len() || start < 16 {
        return None;
    }
    let objects = &bytes[start..total - SIGNATURE];
    let half = |at: usize| Some(usize::from(u16::from_be_bytes(objects.get(at..at + 2)?.try_into().ok()?)));
    let mut private = None;
    for offset in [half(4)?, half(6)?].into_iter().filter(|offset| *offset != 0) {
        let attributes = object(objects.get(offset..)?)?;
        let class = attributes.iter().find(|(kind, _)| *kind == CLASS);
        // Of two private keys nobody would know which one is meant.
        if class.is_some_and(|(_, value)| value == PRIVATE_KEY) && private.replace(attributes).is_some() {
            return None;
        }
    }
    private
}

/// The attributes of an object, each of which stands once.
fn object(bytes: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let mut rest = bytes;
    let word = |rest: &mut &[u8]| {
        let (head, tail) = rest.split_at_checked(4)?;
        *rest = tail;
        Some(u32::from_be_bytes(head.try_into().ok()?))
    };
    let _handle = word(&mut rest)?;
    let count = word(&mut rest)?;
    let _size = word(&mut rest)?;
    if count > MAX_ATTRIBUTES {
        return None;
    }
    let mut attributes: Vec<(u32, Vec<u8>)> = Vec::new();
    for _ in 0..count {
        let kind = word(&mut rest)?;
        let length = word(&mut rest)? as usize;
        let (value, tail) = rest.split_at_checked(length)?;
        rest = tail;
        if attributes.iter().any(|(has, _)| *has == kind) {
            return None;
        }
        attributes.push((kind, value.to_vec()));
    }
    Some(attributes)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

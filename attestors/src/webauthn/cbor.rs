//! The CBOR of an attestation object (RFC 8949): definite lengths, no tags, each member once, nothing unknown, nothing behind it.
//! It needs integers, strings, arrays and maps, and no library that would take more.

use super::{Code, Refusal};
use crate::chain::MAX_INTERMEDIATES;

/// Major types (section 3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// How deep a statement that is not looked at may be.
const DEPTH: usize = 8;

/// A statement of the format `tpm`, as it was written.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) version: String,
    pub(super) algorithm: i64,
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) signature: Vec<u8>,
    pub(super) attest: Vec<u8>,
    pub(super) public: Vec<u8>,
}

fn malformed(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::StatementMalformed, why)
}

/// Reads an attestation object of a format.
pub(super) fn read(object: &[u8], format: &str) -> Result<Raw, Refusal> {
    let mut reader = Reader(object);
    let mut found = None;
    let mut statement = None;
    let mut data = false;
    for _ in 0..reader.map(3)? {
        match reader.text()? {
            "fmt" if found.is_none() => found = Some(reader.text()?),
            // Which format it is may be told behind it.
            "attStmt" if statement.is_none() => {
                statement = Some(Reader(reader.0));
                reader.skip(DEPTH)?;
            }
            "authData" if !data => data = reader.bytes().map(|_| true)?,
            other => return Err(malformed(format!("`{}` stands twice or is unknown", cut(other)))),
        }
    }
    if !reader.0.is_empty() {
        return Err(malformed("something follows the attestation object"));
    }
    let (Some(found), Some(statement)) = (found, statement) else {
        return Err(malformed("`fmt` or `attStmt` is missing"));
    };
    if found != format {
        let why = format!("the format is `{}`; only `{format}` is taken", cut(found));
        return Err(Refusal::new(Code::StatementFormat, why));
    }
    read_statement(statement)
}

fn read_statement(mut reader: Reader<'_>) -> Result<Raw, Refusal> {
    let mut raw = Raw::default();
    let mut seen = Vec::new();
    for _ in 0..reader.map(6)? {
        let name = reader.text()?;
        if seen.contains(&name) {
            return Err(malformed(format!("`{}` stands twice", cut(name))));
        }
        seen.push(name);
        match name {
            "ver" => raw.version = reader.text()?.to_owned(),
            "alg" => raw.algorithm = reader.integer()?,
            "x5c" => raw.chain = reader.chain()?,
            "sig" => raw.signature = reader.bytes()?.to_vec(),
            "certInfo" => raw.attest = reader.bytes()?.to_vec(),
            "pubArea" => raw.public = reader.bytes()?.to_vec(),
            other => return Err(malformed(format!("`{}` is no member of the statement", cut(other)))),
        }
    }
    match seen.len() {
        6 => Ok(raw),
        _ => Err(malformed("the statement lacks one of ver, alg, x5c, sig, certInfo, pubArea")),
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Result<&'a [u8], Refusal> {
        let taken = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let (taken, rest) = taken.ok_or_else(|| malformed("the CBOR is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The major type and the argument of the next item.
    fn head(&mut self) -> Result<(u8, u64), Refusal> {
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let argument = match first & 0x1f {
            small @ 0..=23 => u64::from(small),
            more @ 24..=27 => {
                let bytes = self.take(1 << (more - 24))?;
                bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
            _ => return Err(malformed("an item has no definite length")),
        };
        Ok((first >> 5, argument))
    }

    fn of(&mut self, major: u8, what: &str) -> Result<u64, Refusal> {
        match self.head()? {
            (found, argument) if found == major => Ok(argument),
            (found, _) => {
                Err(malformed(format!("an item of major type {found} stands where {what} belongs")))
            }
        }
    }

    fn text(&mut self) -> Result<&'a str, Refusal> {
        let length = self.of(TEXT, "a text")?;
        std::str::from_utf8(self.take(length)?).map_err(malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.of(BYTES, "a byte string")?;
        self.take(length)
    }

    fn integer(&mut self) -> Result<i64, Refusal> {
        let (major, argument) = self.head()?;
        let argument = i64::try_from(argument).map_err(malformed)?;
        match major {
            UNSIGNED => Ok(argument),
            NEGATIVE => Ok(-1 - argument),
            _ => Err(malformed("something else stands where an integer belongs")),
        }
    }

    /// A map of no more members than that.
    fn map(&mut self, most: u64) -> Result<u64, Refusal> {
        match self.of(MAP, "a map")? {
            length if length <= most => Ok(length),
            _ => Err(malformed("a map has more members than there are")),
        }
    }

    fn chain(&mut self) -> Result<Vec<Vec<u8>>, Refusal> {
        let length = self.of(ARRAY, "an array")?;
        if length > MAX_INTERMEDIATES as u64 + 1 {
            return Err(malformed(format!("`x5c` has {length} certificates")));
        }
        (0..length).map(|_| self.bytes().map(<[u8]>::to_vec)).collect()
    }

    /// Goes past an item. Each that is in it has a byte at least, so that counts that lie end soon.
    fn skip(&mut self, depth: usize) -> Result<(), Refusal> {
        let depth = depth.checked_sub(1).ok_or_else(|| malformed("the statement is too deep"))?;
        let (major, argument) = self.head()?;
        let items = match major {
            UNSIGNED | NEGATIVE => 0,
            BYTES | TEXT => self.take(argument).map(|_| 0)?,
            ARRAY => argument,
            MAP => argument.saturating_mul(2),
            _ => return Err(malformed("tags and simple values stand in no statement")),
        };
        (0..items).try_for_each(|_| self.skip(depth))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).filter(|c| !c.is_control()).collect()
}

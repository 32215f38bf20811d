//! The CBOR of an attestation object (RFC 8949): definite lengths, no tags, each member once, nothing unknown, nothing behind it.

use minicbor::Decoder;
use minicbor::data::Type;

use super::{Code, Refusal};
use crate::chain::MAX_INTERMEDIATES;

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
    let mut decoder = Decoder::new(object);
    let mut found: Option<String> = None;
    let mut statement = None;
    let mut data = false;
    for _ in 0..members(&mut decoder, 3)? {
        match text(&mut decoder)? {
            "fmt" if found.is_none() => found = Some(text(&mut decoder)?.to_owned()),
            // It is skipped, as long as it is what it can be.
            "attStmt" if statement.is_none() => {
                statement = Some(decoder.position());
                skip_map(&mut decoder)?;
            }
            "authData" if !data => data = bytes(&mut decoder).map(|_| true)?,
            other => return Err(malformed(format!("`{}` stands twice or is unknown", cut(other)))),
        }
    }
    if decoder.position() != object.len() {
        return Err(malformed("something follows the attestation object"));
    }
    let (Some(found), Some(statement)) = (found, statement) else {
        return Err(malformed("`fmt` or `attStmt` is missing"));
    };
    if found != format {
        let why = format!("the format is `{}`; only `{format}` is taken", cut(&found));
        return Err(Refusal::new(Code::StatementFormat, why));
    }
    decoder.set_position(statement);
    read_statement(&mut decoder)
}

fn read_statement(decoder: &mut Decoder<'_>) -> Result<Raw, Refusal> {
    let mut raw = Raw::default();
    let mut seen = Vec::new();
    for _ in 0..members(decoder, 6)? {
        let name = text(decoder)?;
        if seen.contains(&name) {
            return Err(malformed(format!("`{}` stands twice", cut(name))));
        }
        seen.push(name);
        match name {
            "ver" => raw.version = text(decoder)?.to_owned(),
            "alg" => raw.algorithm = decoder.i64().map_err(malformed)?,
            "x5c" => raw.chain = chain(decoder)?,
            "sig" => raw.signature = bytes(decoder)?.to_vec(),
            "certInfo" => raw.attest = bytes(decoder)?.to_vec(),
            "pubArea" => raw.public = bytes(decoder)?.to_vec(),
            other => return Err(malformed(format!("`{}` is no member of the statement", cut(other)))),
        }
    }
    if seen.len() != 6 {
        return Err(malformed("the statement lacks one of ver, alg, x5c, sig, certInfo, pubArea"));
    }
    Ok(raw)
}

fn chain(decoder: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let length = decoder.array().map_err(malformed)?;
    let length = length.ok_or_else(|| malformed("`x5c` has no definite length"))?;
    if length > MAX_INTERMEDIATES as u64 + 1 {
        return Err(malformed(format!("`x5c` has {length} certificates")));
    }
    (0..length).map(|_| bytes(decoder).map(<[u8]>::to_vec)).collect()
}

/// A map of definite length and no more members than that.
fn members(decoder: &mut Decoder<'_>, most: u64) -> Result<u64, Refusal> {
    match decoder.map().map_err(malformed)? {
        Some(length) if length <= most => Ok(length),
        _ => Err(malformed("a map has no definite length, or more members than there are")),
    }
}

/// A map that may be one of another format: nothing in it is looked at.
fn skip_map(decoder: &mut Decoder<'_>) -> Result<(), Refusal> {
    match decoder.datatype().map_err(malformed)? {
        Type::Map => decoder.skip().map_err(malformed),
        _ => Err(malformed("`attStmt` is no map of definite length")),
    }
}

fn text<'a>(decoder: &mut Decoder<'a>) -> Result<&'a str, Refusal> {
    decoder.str().map_err(malformed)
}

fn bytes<'a>(decoder: &mut Decoder<'a>) -> Result<&'a [u8], Refusal> {
    decoder.bytes().map_err(malformed)
}

fn cut(text: &str) -> String {
    text.chars().take(40).filter(|c| !c.is_control()).collect()
}

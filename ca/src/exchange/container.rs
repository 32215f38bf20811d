//! The form of the files.
//!
//! Three sections with an empty line between them: the format and the terms, in JSON; one signature line; and each part
//! in base64, in one line, in the order in which the terms name them.

use base64ct::{Base64, Encoding as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use undercroft_log::leaf::Digest;
use undercroft_log::note::{Note, NoteError, VerifierKey};

use super::{
    Answers, Direction, Kind, MAX_BYTES, MAX_PARTS, Message, Opened, Part, PartName, Refusal, Terms,
};

/// The terms as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    origin: String,
    policy: Digest,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    plan: Option<Digest>,
    nonce: String,
    created: Timestamp,
    expires: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    answers: Option<WrittenAnswers>,
    files: Vec<WrittenPart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAnswers {
    request: Digest,
    ceremony: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPart {
    name: PartName,
    kind: Kind,
    length: usize,
    sha256: Digest,
}

/// The text that is signed.
pub(super) fn text(message: &Message) -> Result<String, Refusal> {
    let Terms { origin, policy, plan, nonce, created, expires, answers } = message.terms();
    let written = Written {
        origin: origin.to_string(),
        policy: *policy,
        plan: *plan,
        nonce: hex::encode(nonce),
        created: *created,
        expires: *expires,
        answers: answers.as_ref().map(|answers| WrittenAnswers {
            request: answers.request,
            ceremony: answers.ceremony.to_string(),
        }),
        files: message
            .parts()
            .iter()
            .map(|part| WrittenPart {
                name: part.name.clone(),
                kind: part.kind,
                length: part.bytes.len(),
                sha256: Digest::of(&part.bytes),
            })
            .collect(),
    };
    let json =
        serde_json::to_string_pretty(&written).map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok(format!("{}\n{json}\n", message.direction().format()))
}

/// The file with that text and signature line.
pub(super) fn file(text: &str, signature: &str, parts: &[Part]) -> String {
    let parts = parts.iter().map(|part| Base64::encode_string(&part.bytes) + "\n");
    format!("{text}\n{signature}\n{}", parts.collect::<String>())
}

/// Takes a file apart that `key` must have signed, and compares every part with what was signed.
pub(super) fn open(file: &[u8], direction: Direction, key: &VerifierKey) -> Result<Opened, Refusal> {
    if file.len() > MAX_BYTES {
        return Err(Refusal::TooLarge(file.len()));
    }
    let whole = std::str::from_utf8(file).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let (format, _) = whole.split_once('\n').ok_or_else(|| match direction.format().starts_with(whole) {
        true => Refusal::Truncated,
        false => Refusal::UnknownVersion { found: first(whole), expected: direction.format() },
    })?;
    if format != direction.format() {
        return Err(Refusal::UnknownVersion { found: first(format), expected: direction.format() });
    }
    let (text, rest) = whole.split_once("\n\n").ok_or(Refusal::Truncated)?;
    let (signature, parts) = rest.split_once("\n\n").ok_or(Refusal::Truncated)?;
    let text = verified(text, signature, key)?;
    let json = text.split_once('\n').map_or("", |(_, json)| json);
    let written: Written = serde_json::from_str(json).map_err(|error| match error.to_string() {
        what if what.starts_with("unknown") => Refusal::UnknownMember(what),
        what => Refusal::Malformed(what),
    })?;
    let lines = parts.strip_suffix('\n').ok_or(Refusal::Truncated)?;
    if written.files.len() > MAX_PARTS {
        return Err(Refusal::Malformed(format!("it has more than {MAX_PARTS} parts")));
    }
    let mut lines = lines.split('\n');
    let mut read = Vec::new();
    for WrittenPart { name, kind, length, sha256 } in written.files {
        let line = lines.next().ok_or(Refusal::Truncated)?;
        let altered = || Refusal::Altered(format!("`{name}`"));
        let bytes = Base64::decode_vec(line).map_err(|_| altered())?;
        if bytes.len() != length || Digest::of(&bytes) != sha256 {
            return Err(altered());
        }
        read.push(Part { name, kind, bytes });
    }
    if lines.next().is_some() {
        return Err(Refusal::Altered("the list of its parts".into()));
    }
    let malformed = |what: &str| Refusal::Malformed(what.to_owned());
    let answers = written.answers.map(|answers| {
        let ceremony = answers.ceremony.parse();
        let ceremony = ceremony.map_err(|error| Refusal::Malformed(format!("ceremony: {error}")))?;
        Ok(Answers { request: answers.request, ceremony })
    });
    let answers = answers.transpose()?;
    if answers.is_some() != (direction == Direction::Response) {
        return Err(malformed("responses say what they answer, and requests answer nothing"));
    }
    let mut nonce = [0; 16];
    hex::decode_to_slice(&written.nonce, &mut nonce)
        .map_err(|_| malformed("its nonce is not 16 bytes in hexadecimal"))?;
    let terms = Terms {
        origin: written.origin.parse().map_err(|error| Refusal::Malformed(format!("origin: {error}")))?,
        policy: written.policy,
        plan: written.plan,
        nonce,
        created: written.created,
        expires: written.expires,
        answers,
    };
    Ok(Opened { message: Message::new(terms, read)?, digest: Digest::of(file) })
}

/// The text with its last line feed, once the one signature under it has verified.
fn verified(text: &str, signature: &str, key: &VerifierKey) -> Result<String, Refusal> {
    if signature.contains('\n') {
        return Err(Refusal::Malformed("it has more than one signature line".into()));
    }
    let note = format!("{text}\n\n{signature}\n");
    let verified = Note::parse(&note).and_then(|note| note.verify(key).map(str::to_owned));
    verified.map_err(|error| match error {
        NoteError::NotSignedBy(name) => Refusal::NotSigned(name),
        NoteError::BadSignature(_) => Refusal::Altered("what its signature is over".into()),
        NoteError::TooLong(length) => Refusal::TooLarge(length),
        other => Refusal::Malformed(other.to_string()),
    })
}

fn first(line: &str) -> String {
    line.chars().take(60).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

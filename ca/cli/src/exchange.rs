//! What both sides of the air gap share: reading and writing the files, and telling their digests.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use undercroft_ca::exchange::{Kind, MAX_PARTS, Message, Part, PartName};
use undercroft_ca::serial::Entropy as _;
use undercroft_ca::spoken;
use undercroft_log::leaf::Digest;
use undercroft_log::note::VerifierKey;

use crate::system::SystemEntropy;
use crate::{Failure, Glyphs, Qr, Terminal, read_bytes, read_text, write_file};

/// Reads the one key (vkey) in a file.
///
/// # Errors
/// It cannot be read or is none.
pub fn read_vkey(path: &Path) -> Result<VerifierKey, Failure> {
    let key = read_text(path)?.trim_end().parse();
    key.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A nonce.
///
/// # Errors
/// The system has no randomness.
pub fn nonce() -> Result<[u8; 16], Failure> {
    let mut nonce = [0; 16];
    SystemEntropy.fill(&mut nonce).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(nonce)
}

/// The files below a folder, eight levels deep, for which `kind` has one, in the order of their names. Links are not followed.
///
/// # Errors
/// A folder or a file cannot be read, or a name cannot be a part's.
pub fn parts_below(folder: &Path, kind: impl Fn(&str) -> Option<Kind>) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    let mut waiting: Vec<(PathBuf, String)> = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = waiting.pop() {
        let unreadable =
            |error: std::io::Error| Failure::usage(format!("{}: cannot be read: {error}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let file_type = entry.file_type().map_err(unreadable)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if file_type.is_dir() && prefix.matches('/').count() < 8 {
                waiting.push((entry.path(), format!("{name}/")));
            }
            let Some(kind) = kind(&name).filter(|_| file_type.is_file()) else { continue };
            let name: PartName = name.parse()?;
            parts.push(Part { name, kind, bytes: read_bytes(&entry.path())? });
            if parts.len() > MAX_PARTS {
                return Err(Failure::usage(format!("{} has more than {MAX_PARTS} files", folder.display())));
            }
        }
    }
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

/// Writes a file that crosses the air gap, over nothing, and tells its digest.
///
/// # Errors
/// Something is there, it cannot be written, or is too long for the QR code that was asked for.
pub fn hand_over(
    path: &Path,
    file: &str,
    message: &Message,
    key: &VerifierKey,
    qr: bool,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let code = qr.then(|| Qr::of_file(file.as_bytes())).transpose()?;
    write_file(path, file.as_bytes())?;
    let digest = Digest::of(file.as_bytes());
    let mut value = told(message, digest);
    if let Value::Object(members) = &mut value {
        members.insert("file".into(), json!(path));
        members.insert("vkey".into(), json!(key.to_string()));
        members.insert("bytes".into(), json!(file.len()));
    }
    terminal.result(&value, || {
        format!(
            "{}: {} parts, {} bytes, good until {}\nsigned by  {key}\n{}",
            path.display(),
            message.parts().len(),
            file.len(),
            message.terms().expires,
            read_aloud(digest)
        )
    })?;
    match code {
        Some(code) => terminal.qr(&code),
        None => Ok(()),
    }
}

/// What a message says, for programs.
pub fn told(message: &Message, digest: Digest) -> Value {
    let terms = message.terms();
    let parts = message.parts().iter().map(|part| json!({ "name": part.name, "kind": part.kind }));
    json!({
        "digest": digest.to_string(),
        "digest_words": spoken::words(&digest.0).join(" "),
        "origin": terms.origin.as_str(),
        "policy": terms.policy.to_string(),
        "plan": terms.plan.map(|plan| plan.to_string()),
        "ceremony": terms.answers.as_ref().map(|answers| answers.ceremony.as_str()),
        "request": terms.answers.as_ref().map(|answers| answers.request.to_string()),
        "created": terms.created.to_string(),
        "expires": terms.expires.to_string(),
        "files": parts.collect::<Vec<_>>(),
    })
}

/// A digest for people: in groups, and as words in lines of eight.
pub fn read_aloud(digest: Digest) -> String {
    let words = spoken::words(&digest.0);
    let lines = words.chunks(8).map(|line| format!("           {}\n", line.join(" ")));
    format!("SHA-256    {}\n{}", spoken::groups(&digest.0), lines.collect::<String>())
}

impl Terminal {
    /// Shows a QR code to people. Programs that read JSON do not see it.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn qr(&self, code: &Qr) -> Result<(), Failure> {
        match self.is_for_people() {
            true => self.raw(code.text(Glyphs::of(|name| std::env::var(name).ok())).as_bytes()),
            false => Ok(()),
        }
    }
}

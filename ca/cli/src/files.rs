//! Reading what people wrote, and writing what they asked for.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::Failure;

/// The longest file that a person gives us to read.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Reads a text file that somebody named.
///
/// # Errors
/// It is missing, unreadable, no text, or longer than any file of its kind.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let no_text = |_| Failure::usage(format!("{}: is no UTF-8 text", path.display()));
    String::from_utf8(read_bytes(path)?).map_err(no_text)
}

/// Reads a file that somebody named.
///
/// # Errors
/// It is missing, unreadable, or longer than any file of its kind.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let file = fs::File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(wrong(format!("has more than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// Writes a file whole or not at all: beside its place first, then renamed. Folders above it are made.
///
/// # Errors
/// The disk is full, or the folder cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("{} cannot be written: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

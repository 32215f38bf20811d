//! What OCSP responders were asked for, in the files that they keep.

use std::path::{Path, PathBuf};

use undercroft_audit::{AskedFor, Register, read_line};
use undercroft_cli::{Failure, Terminal};
use undercroft_log_files::read_plain;

use super::{MAX_FILE, Met};
use crate::unread;

/// Reads files of requests: one request in DER, or a text with one in each line. Anybody may have asked for anything, so
/// that a line that holds no request is told and no reason to stop; a file in which none does is another file.
pub(super) fn read(
    files: &[PathBuf],
    register: &Register,
    met: &mut Vec<Met>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let progress = terminal.progress(files.len() as u64, "OCSP requests");
    for file in files {
        let bytes = read_plain(file, MAX_FILE).map_err(|error| unread(&error))?;
        let bytes = bytes.ok_or_else(|| Failure::usage(format!("{} does not exist", file.display())))?;
        let before = met.len();
        match (AskedFor::read(&bytes), std::str::from_utf8(&bytes)) {
            (Ok(asked), _) => enter(file, 0, &asked, register, met),
            (Err(error), Err(_)) => return Err(no_requests(file, &error.to_string())),
            (Err(_), Ok(text)) => {
                let lines = (1..).zip(text.lines().map(str::trim));
                for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
                    match read_line(line) {
                        Ok(asked) => enter(file, number, &asked, register, met),
                        Err(error) => {
                            met.push(Met::Unread {
                                file: file.clone(),
                                line: number,
                                why: error.to_string(),
                            });
                        }
                    }
                }
                let new = &met[before..];
                if !new.is_empty() && new.iter().all(|met| matches!(met, Met::Unread { .. })) {
                    return Err(no_requests(file, "no line of it holds an OCSP request"));
                }
            }
        }
        progress.advance(1);
    }
    Ok(())
}

fn enter(file: &Path, line: usize, asked: &[AskedFor], register: &Register, met: &mut Vec<Met>) {
    met.extend(asked.iter().map(|asked| Met::Asked {
        file: file.to_owned(),
        line,
        serial: hex::encode(asked.serial()),
        standing: register.asked_for(asked),
    }));
    if asked.is_empty() {
        let why = "it names its issuers by a hash that is not known".to_owned();
        met.push(Met::Unread { file: file.to_owned(), line, why });
    }
}

fn no_requests(file: &Path, why: &str) -> Failure {
    Failure::usage(format!(
        "{}: {why}; --ocsp takes a request in DER, or one in each line: hexadecimal, base64 or the path of a GET",
        file.display()
    ))
}

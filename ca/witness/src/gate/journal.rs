//! The entries that a gate has given its word for, kept so that nobody else can lose them: one append-only file a log.
//!
//! A record is `index` (8 bytes), length (4 bytes), key id (32 bytes), RFC 6962 leaf hash (32 bytes), and the entry;
//! integers are big-endian. A record is durable before its word is given. When the file is opened again, a last record
//! that is not whole is cut off: its word was never given.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use undercroft_cli::Failure;
use undercroft_keys::KeyId;
use undercroft_log::note::KeyName;
use undercroft_log::tile::MAX_ENTRY;
use undercroft_log::tree::leaf_hash;

use crate::sync_folder;

/// Bytes in front of each entry.
const HEADER: usize = 8 + 4 + 32 + 32;

/// What a gate has kept.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// By SHA-256 of the origin, in hexadecimal.
    logs: HashMap<String, Kept>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    file: File,
    end: u64,
    /// Index, then the keys that were released for it; and where its entry is.
    entries: HashMap<u64, (Vec<KeyId>, u64, u32)>,
    /// A write that failed: nobody knows what is in the file.
    broken: bool,
}

impl Journal {
    /// Opens what is in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut logs = HashMap::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if let Some(hash) = path.file_name().and_then(|name| name.to_str()) {
                logs.insert(hash.to_owned(), Kept::open(&path)?);
            }
        }
        Ok(Self { folder: folder.to_owned(), logs })
    }

    /// Whether the key was released for this index before.
    pub fn has(&self, origin: &KeyName, index: u64, key: KeyId) -> bool {
        let kept = self.logs.get(&hash_of(origin));
        kept.and_then(|kept| kept.entries.get(&index)).is_some_and(|(keys, _, _)| keys.contains(&key))
    }

    /// Keeps an entry, durably.
    ///
    /// # Errors
    /// It cannot be written, or it is not known whether it was. Then nothing more is kept until the gate starts anew.
    pub fn keep(&mut self, origin: &KeyName, index: u64, key: KeyId, leaf: &[u8]) -> Result<(), Failure> {
        let hash = hash_of(origin);
        if !self.logs.contains_key(&hash) {
            let path = self.folder.join(&hash);
            let kept = Kept::open(&path)?;
            // The file's name must be durable, too.
            sync_folder(&self.folder)?;
            self.logs.insert(hash.clone(), kept);
        }
        match self.logs.get_mut(&hash) {
            Some(kept) => kept.keep(index, key, leaf),
            None => Ok(()),
        }
    }

    /// An entry of the log whose origin has this SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// It cannot be read, or is not what was kept.
    pub fn leaf(&self, origin_hash: &str, index: u64) -> Result<Option<Vec<u8>>, Failure> {
        self.logs.get(origin_hash).map_or(Ok(None), |kept| kept.leaf(index))
    }
}

fn hash_of(origin: &KeyName) -> String {
    hex::encode(Sha256::digest(origin.as_str()))
}

impl Kept {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut kept = Self { path: path.to_owned(), file, end: 0, entries: HashMap::new(), broken: false };
        let mut reader = BufReader::new(kept.file.try_clone().map_err(failed)?);
        let mut leaf = Vec::new();
        while kept.end < length {
            let mut header = [0; HEADER];
            if length - kept.end < HEADER as u64 {
                break;
            }
            reader.read_exact(&mut header).map_err(failed)?;
            let record = Record::read(&header);
            let rest = length - kept.end - HEADER as u64;
            let changed = || {
                Failure::tampered(format!(
                    "{}: entry {} at byte {} is not what was kept",
                    path.display(),
                    record.index,
                    kept.end
                ))
            };
            // No entry is as long as that, so that this was not half-written: what follows is not ours to cut off.
            if record.length as usize > MAX_ENTRY {
                return Err(changed());
            }
            if u64::from(record.length) > rest {
                break;
            }
            // Some file systems grow a file before its bytes are there: then there is nothing but zeros.
            if header == [0; HEADER] && rest <= MAX_ENTRY as u64 {
                leaf.resize(rest as usize, 0);
                reader.read_exact(&mut leaf).map_err(failed)?;
                if leaf.iter().all(|byte| *byte == 0) {
                    break;
                }
                return Err(changed());
            }
            leaf.resize(record.length as usize, 0);
            reader.read_exact(&mut leaf).map_err(failed)?;
            let is_last = kept.end + HEADER as u64 + u64::from(record.length) == length;
            if *leaf_hash(&leaf).as_bytes() != record.hash {
                // A record whose bytes never all reached the disk can only be the last.
                if is_last {
                    break;
                }
                return Err(changed());
            }
            kept.note(&record);
        }
        if kept.end < length {
            tracing::warn!(path = %path.display(), "the last record was not whole, and was cut off");
            kept.file.set_len(kept.end).and_then(|()| kept.file.sync_all()).map_err(failed)?;
        }
        Ok(kept)
    }

    fn note(&mut self, record: &Record) {
        let at = self.end + HEADER as u64;
        let (keys, _, _) = self.entries.entry(record.index).or_insert((Vec::new(), at, record.length));
        keys.push(record.key);
        self.end = at + u64::from(record.length);
    }

    fn keep(&mut self, index: u64, key: KeyId, leaf: &[u8]) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", self.path.display()));
        if self.broken {
            return Err(Failure::failed(format!(
                "{}: an earlier write failed; start the gate again",
                self.path.display()
            )));
        }
        let length = u32::try_from(leaf.len()).ok().filter(|_| leaf.len() <= MAX_ENTRY);
        let length = length.ok_or_else(|| Failure::failed("an entry that is too long to be one"))?;
        let record = Record { index, length, key, hash: *leaf_hash(leaf).as_bytes() };
        let mut bytes = record.write();
        bytes.extend(leaf);
        let mut file = &self.file;
        let written = file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| file.write_all(&bytes))
            .and_then(|()| file.sync_data());
        // After a failed fsync nobody knows what is on the disk (and reading it back would show the cache).
        self.broken = written.is_err();
        written.map_err(failed)?;
        self.note(&record);
        Ok(())
    }

    fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, Failure> {
        let Some((_, at, length)) = self.entries.get(&index) else { return Ok(None) };
        let mut leaf = vec![0; *length as usize];
        let read = self.file.read_exact_at(&mut leaf, *at);
        read.map_err(|error| Failure::failed(format!("{}: {error}", self.path.display())))?;
        Ok(Some(leaf))
    }
}

struct Record {
    index: u64,
    length: u32,
    key: KeyId,
    hash: [u8; 32],
}

impl Record {
    fn read(header: &[u8; HEADER]) -> Self {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let digest = |bytes: &[u8]| {
            let mut digest = [0; 32];
            digest.copy_from_slice(bytes);
            digest
        };
        Self {
            index: number(&header[..8]),
            length: number(&header[8..12]) as u32,
            key: KeyId::from(digest(&header[12..44])),
            hash: digest(&header[44..]),
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.length as usize);
        bytes.extend(self.index.to_be_bytes());
        bytes.extend(self.length.to_be_bytes());
        bytes.extend(self.key.as_bytes());
        bytes.extend(self.hash);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> KeyName {
        "ca.example/undercroft/prod.example/1".parse().unwrap()
    }

    fn key(byte: u8) -> KeyId {
        KeyId::from([byte; 32])
    }

    fn file(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join(hash_of(&origin()))
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.keep(&origin(), 7, key(1), b"seven").unwrap();
        journal.keep(&origin(), 9, key(1), b"nine").unwrap();
        journal.keep(&origin(), 7, key(2), b"seven").unwrap();
        drop(journal);
        let journal = Journal::open(folder.path()).unwrap();
        for (index, id, known) in [(7, 1, true), (7, 2, true), (9, 1, true), (9, 2, false), (8, 1, false)] {
            assert_eq!(journal.has(&origin(), index, key(id)), known, "{index} {id}");
        }
        assert_eq!(journal.leaf(&hash_of(&origin()), 9).unwrap().unwrap(), b"nine");
        assert_eq!(journal.leaf(&hash_of(&origin()), 8).unwrap(), None);
        assert_eq!(journal.leaf("../secret", 7).unwrap(), None);
    }

    /// Every way in which a power cut can leave the last record.
    #[test]
    fn a_record_that_is_not_whole_is_cut_off_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        journal.keep(&origin(), 1, key(1), b"first").unwrap();
        let whole = std::fs::read(file(&folder)).unwrap();
        journal.keep(&origin(), 2, key(1), b"second").unwrap();
        drop(journal);
        let both = std::fs::read(file(&folder)).unwrap();
        for length in whole.len()..both.len() {
            std::fs::write(file(&folder), &both[..length]).unwrap();
            let mut journal = Journal::open(folder.path()).unwrap();
            assert!(journal.has(&origin(), 1, key(1)) && !journal.has(&origin(), 2, key(1)), "{length}");
            journal.keep(&origin(), 3, key(1), b"third").unwrap();
            drop(journal);
            assert!(Journal::open(folder.path()).unwrap().has(&origin(), 3, key(1)));
        }
        // The length is there and the bytes are not: none of them, or the last.
        let mut torn = both.clone();
        torn[whole.len()..].fill(0);
        std::fs::write(file(&folder), &torn).unwrap();
        assert!(!Journal::open(folder.path()).unwrap().has(&origin(), 2, key(1)));
        assert_eq!(std::fs::read(file(&folder)).unwrap(), whole);
        let mut torn = both.clone();
        torn[whole.len() + HEADER..].fill(0);
        std::fs::write(file(&folder), &torn).unwrap();
        assert!(!Journal::open(folder.path()).unwrap().has(&origin(), 2, key(1)));
    }

    #[test]
    fn a_changed_record_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        for index in 0..3 {
            journal.keep(&origin(), index, key(1), b"some entry").unwrap();
        }
        drop(journal);
        let mut bytes = std::fs::read(file(&folder)).unwrap();
        // The entry, its hash, and how long it is: with a wrong length nothing behind it may be taken for half-written.
        for (at, bit) in [(HEADER + 2, 1), (HEADER - 1, 1), (8, 0x80), (9, 1)] {
            bytes[at] ^= bit;
            std::fs::write(file(&folder), &bytes).unwrap();
            let refused = Journal::open(folder.path()).unwrap_err();
            assert!(refused.to_string().contains("entry 0 at byte 0"), "{at}: {refused}");
            assert_eq!(std::fs::read(file(&folder)).unwrap(), bytes, "{at}");
            bytes[at] ^= bit;
        }
        std::fs::write(file(&folder), &bytes).unwrap();
        Journal::open(folder.path()).unwrap();
    }
}

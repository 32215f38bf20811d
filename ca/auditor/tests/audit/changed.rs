//! Logs whose files were changed by somebody who does not have the key.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use tempfile::TempDir;
use undercroft_audit::{Finding, NoAudit, audit};
use undercroft_log::tile::{TilePath, encode_hashes};
use undercroft_log::tree::leaf_hash;
use undercroft_log_files::Folder;

use crate::installation::INSTALLATION;
use crate::log::Log;
use crate::proofs::short;

/// Entries of the log in these tests: two full bundles and a partial one, with two levels of tiles above them.
const SIZE: usize = 600;

/// A size that the log had before: the partial tiles of then are still there.
const EARLIER: usize = 300;

/// A log in a folder: a transcript that went on for long, with blobs and the file of its key.
struct Exported {
    log: Log,
    folder: Folder,
    _directory: TempDir,
}

impl Exported {
    fn new() -> Self {
        let mut log = INSTALLATION.ceremony.clone();
        let step = log.value(log.last("ceremony"))["body"].clone();
        while log.entries.len() < SIZE {
            let mut step = step.clone();
            step["event"] = json!("step");
            log.push("ceremony", step);
        }
        let directory = tempfile::tempdir().unwrap();
        let earlier = Log { entries: log.entries[..EARLIER].to_vec(), ..log.clone() };
        let folder = earlier.write(directory.path());
        folder.append(EARLIER as u64, log.entries[EARLIER..].iter().map(Vec::as_slice)).unwrap();
        folder.write_checkpoint(&log.sign(SIZE as u64, log.root())).unwrap();
        fs::write(directory.path().join("log.vkey"), format!("{}\n", log.verifier())).unwrap();
        Self { log, folder, _directory: directory }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Every file.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        let relative =
            |path: PathBuf| path.strip_prefix(self.folder.path()).unwrap().to_str().unwrap().to_owned();
        let mut found: Vec<_> = found.into_iter().map(relative).collect();
        found.sort();
        found
    }

    /// What an audit says of the folder as it is now.
    fn audit(&self) -> Result<Vec<Finding>, NoAudit> {
        self.log.audit_folder(&self.folder).map(|report| report.findings)
    }

    /// What an audit says while a file is another one. The file is put back.
    fn audit_with(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<Finding>, NoAudit> {
        let honest = fs::read(self.path(file)).unwrap();
        let mut changed = honest.clone();
        change(&mut changed);
        fs::write(self.path(file), changed).unwrap();
        let told = self.audit();
        fs::write(self.path(file), honest).unwrap();
        told
    }

    /// As [`Exported::audit_with`], without the file.
    fn audit_without(&self, file: &str) -> Result<Vec<Finding>, NoAudit> {
        let honest = fs::read(self.path(file)).unwrap();
        fs::remove_file(self.path(file)).unwrap();
        let told = self.audit();
        fs::write(self.path(file), honest).unwrap();
        told
    }
}

/// Whether somebody who runs the auditor is told that something is wrong.
fn alarms(told: &Result<Vec<Finding>, NoAudit>) -> bool {
    told.as_ref().map_or(true, |findings| !findings.is_empty())
}

/// The entries and rules of findings.
fn found(told: Result<Vec<Finding>, NoAudit>) -> Vec<(Option<u64>, &'static str)> {
    told.unwrap().iter().map(|finding| (finding.entry, finding.rule)).collect()
}

#[test]
fn nothing_is_found_in_an_export_that_has_grown() {
    let export = Exported::new();
    assert_eq!(export.audit().unwrap(), []);
    let files: BTreeSet<_> = export.files().into_iter().collect();
    for file in ["checkpoint", "log.vkey", "tile/entries/002.p/88", "tile/0/002.p/88", "tile/1/000.p/2"] {
        assert!(files.contains(file), "{file} is not in {files:?}");
    }
    // What was left behind when the log had 300 entries.
    for file in ["tile/entries/001.p/44", "tile/0/001.p/44", "tile/1/000.p/1"] {
        assert!(files.contains(file), "{file} is not in {files:?}");
    }
    assert_eq!(files.iter().filter(|file| file.starts_with("blobs/")).count(), 2);
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let export = Exported::new();
    let files = export.files();
    proptest!(ProptestConfig::with_cases(300), |(file in any::<Index>(), at in any::<Index>(), flip in 1u8..)| {
        let file = file.get(&files);
        let told = export.audit_with(file, |bytes| {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        });
        prop_assert!(alarms(&told), "{file}: {told:?}");
    });
}

#[test]
fn a_changed_bit_of_the_checkpoint_is_an_error() {
    let export = Exported::new();
    let honest = fs::read(export.path("checkpoint")).unwrap();
    for (at, bit) in (0..honest.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let told = export.audit_with("checkpoint", |bytes| bytes[at] ^= 1 << bit);
        assert!(told.is_err(), "byte {at}, bit {bit}: {told:?}");
    }
}

#[test]
fn a_file_that_was_cut_or_goes_on_is_found() {
    let export = Exported::new();
    let files = export.files();
    let of_key = |file: &str, length: usize, new: usize| file == "log.vkey" && new + 1 == length;
    proptest!(ProptestConfig::with_cases(150), |(file in any::<Index>(), at in any::<Index>())| {
        let file = file.get(&files);
        let length = fs::read(export.path(file)).unwrap().len();
        let new = at.index(length);
        let told = export.audit_with(file, |bytes| bytes.truncate(new));
        // The newline at the end of the key's file is nothing but the end of a line.
        prop_assert_eq!(alarms(&told), !of_key(file, length, new), "{} of {} bytes of {}", new, length, file);
    });
    for file in &files {
        for more in [&b"\0"[..], b"\n", b"\0\x01a", &[0; 32]] {
            let told = export.audit_with(file, |bytes| bytes.extend(more));
            assert!(alarms(&told), "{file} with {more:?}: {told:?}");
        }
        assert!(alarms(&export.audit_with(file, Vec::clear)), "{file} emptied");
    }
}

#[test]
fn a_file_that_is_gone_is_found_unless_it_says_nothing_that_others_do_not() {
    let export = Exported::new();
    let of_the_log: BTreeSet<_> = TilePath::all(SIZE as u64).map(|tile| tile.to_string()).collect();
    for file in export.files() {
        // Partial tiles of earlier sizes are the beginnings of others, and the auditor brings the key.
        let superfluous = file == "log.vkey" || (file.starts_with("tile/") && !of_the_log.contains(&file));
        let told = export.audit_without(&file);
        assert_eq!(alarms(&told), !superfluous, "{file}: {told:?}");
    }
}

/// `head.json` and `lock` are the sequencer's own, and it compares them with the entries when it opens a log.
#[test]
fn what_a_store_keeps_for_itself_is_no_part_of_the_log() {
    let export = Exported::new();
    for file in ["head.json", "lock"] {
        fs::write(export.path(file), b"whatever it is").unwrap();
    }
    assert_eq!(export.audit().unwrap(), []);
}

#[test]
fn what_the_log_does_not_explain_is_found() {
    let export = Exported::new();
    let other_key = INSTALLATION.prod.verifier().to_string();
    let old = fs::read(export.path("tile/entries/001.p/44")).unwrap();
    let blob = export.files().into_iter().find(|file| file.starts_with("blobs/")).unwrap();
    for (file, bytes) in [
        ("notes.txt", b"hello".to_vec()),
        ("log.vkey", other_key.into_bytes()),
        ("tile/entries/003", vec![0, 0]),
        ("tile/0/002.p/89", vec![0; 32 * 89]),
        // The beginning of bundle 2 and not of bundle 0.
        ("tile/entries/000.p/44", old.clone()),
        // Bytes that begin as they must, and end inside an entry.
        ("tile/entries/001.p/45", [old, vec![0]].concat()),
        ("tile/2/000.p/1", vec![0; 32]),
        ("tile/0/0000", vec![0; 32]),
        ("blobs/nothing", fs::read(export.path(&blob)).unwrap()),
        ("blobs/deeper/still", Vec::new()),
    ] {
        let honest = fs::read(export.path(file)).ok();
        fs::create_dir_all(export.path(file).parent().unwrap()).unwrap();
        fs::write(export.path(file), bytes).unwrap();
        let told = export.audit().unwrap();
        assert_eq!(told.len(), 1, "{file}: {told:?}");
        assert_eq!((told[0].entry, told[0].rule), (None, "leftover"), "{told:?}");
        assert!(told[0].what.contains(file), "{told:?}");
        match honest {
            Some(honest) => fs::write(export.path(file), honest).unwrap(),
            None => fs::remove_file(export.path(file)).unwrap(),
        }
    }
}

#[test]
fn links_are_told_and_not_followed() {
    let export = Exported::new();
    // Two circles: whoever followed them would never come back.
    for name in ["one", "two"] {
        std::os::unix::fs::symlink(export.folder.path(), export.path(name)).unwrap();
    }
    assert_eq!(found(export.audit()), [(None, "leftover"), (None, "leftover")]);
}

/// Where an entry begins in its bundle: behind its length of two bytes.
fn position(bundle: &[u8], number: usize) -> usize {
    let mut at = 2;
    for _ in 0..number {
        at += 2 + usize::from(u16::from_be_bytes([bundle[at - 2], bundle[at - 1]]));
    }
    at
}

#[test]
fn the_very_entry_is_told_whose_bytes_were_changed() {
    let export = Exported::new();
    for (file, number, entry) in
        [("tile/entries/000", 0, 0), ("tile/entries/001", 255, 511), ("tile/entries/002.p/88", 7, 519)]
    {
        let told = export.audit_with(file, |bytes| {
            let at = position(bytes, number);
            bytes[at] ^= 1;
        });
        // The partial bundle of earlier is no beginning of its changed successor.
        let mut findings = found(told);
        findings.retain(|(_, rule)| *rule != "leftover");
        assert_eq!(findings, [(Some(entry), "entry")], "{file}");
    }
    // Behind a length that was changed nothing can be read.
    let told = export.audit_with("tile/entries/002.p/88", |bytes| {
        let at = position(bytes, 80);
        bytes[at - 2] ^= 0x40;
    });
    let behind: Vec<_> = (592..600).map(|entry| (Some(entry), "entry")).collect();
    let findings: BTreeSet<_> = found(told).into_iter().collect();
    assert_eq!(findings, behind.into_iter().collect());
    let told = export.audit_with("tile/entries/002.p/88", |bytes| bytes.push(0));
    assert_eq!(found(told), [(Some(599), "entry")]);
}

#[test]
fn a_hash_that_was_changed_is_told_apart_from_a_changed_entry() {
    let export = Exported::new();
    let told = export.audit_with("tile/0/002.p/88", |bytes| bytes[32 * 7] ^= 1);
    assert_eq!(found(told), [(Some(519), "tile")]);
    let told = export.audit_with("tile/1/000.p/2", |bytes| bytes[40] ^= 1).unwrap();
    assert_eq!((told.len(), told[0].entry, told[0].rule), (1, None, "tile"));
    assert!(told[0].what.contains("256 to 511"), "{told:?}");
    let told = export.audit_with("tile/0/002.p/88", |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(found(told), [(None, "tile")]);
    let told = export.audit_with("tile/1/000.p/2", |bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(found(told), [(None, "tile")]);
}

/// An entry and a hash far above it: the hashes of level 0 lead to the checkpoint, so both are told and nothing else is.
#[test]
fn a_changed_entry_does_not_hide_a_changed_hash_above_it() {
    let export = Exported::new();
    let mut hashes = fs::read(export.path("tile/1/000.p/2")).unwrap();
    hashes[40] ^= 1;
    fs::write(export.path("tile/1/000.p/2"), hashes).unwrap();
    let told = export.audit_with("tile/entries/000", |bytes| bytes[2] ^= 1);
    assert_eq!(found(told), [(Some(0), "entry"), (None, "tile")]);
}

/// Where neither entries nor hashes lead to the checkpoint, whatever does not fit is told.
#[test]
fn a_changed_entry_and_a_changed_hash_of_another_are_both_told() {
    let export = Exported::new();
    let mut hashes = fs::read(export.path("tile/0/001")).unwrap();
    hashes[32 * 44] ^= 1;
    fs::write(export.path("tile/0/001"), hashes).unwrap();
    let told = export.audit_with("tile/entries/000", |bytes| bytes[2] ^= 1).unwrap();
    // The hash that the first entry has now is not the one above it.
    assert!(told[2].what.contains("0 to 255"), "{told:?}");
    assert_eq!(found(Ok(told)), [(Some(0), "entry"), (Some(300), "entry"), (None, "tile")]);
}

/// From 65,536 entries on there are full tiles above level 0.
#[test]
fn full_tiles_of_hashes_of_hashes_are_compared() {
    let log = short(66_000);
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    // The entries say nothing that an auditor could read; what matters is the bytes.
    let structure = || {
        let findings = log.audit_folder(&folder).unwrap().findings;
        findings.into_iter().filter(|finding| finding.rule != "leaf").collect::<Vec<_>>()
    };
    assert_eq!(structure(), []);
    let change = |file: &str, at: usize| {
        let file = directory.path().join(file);
        let mut bytes = fs::read(&file).unwrap();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
    };
    change("tile/1/000", 32 * 7);
    let told = structure();
    assert_eq!((told.len(), told[0].rule), (1, "tile"));
    assert!(told[0].what.contains("tile/1/000 ") && told[0].what.contains("1792 to 2047"), "{told:?}");
    change("tile/entries/100", 2);
    assert_eq!(found(Ok(structure())), [(Some(25_600), "entry"), (None, "tile")]);
}

/// Whoever changes an entry may change its hash with it, up to where the checkpoint stands against it.
#[test]
fn an_entry_that_was_changed_with_its_hash_is_found_above() {
    let export = Exported::new();
    for (bundle, tile, number, expected) in [
        // A hash of level 1 covers it.
        ("tile/entries/000", "tile/0/000", 9, (None, "tile")),
        // Nothing does but the checkpoint.
        ("tile/entries/002.p/88", "tile/0/002.p/88", 9, (None, "root")),
    ] {
        let honest = fs::read(export.path(bundle)).unwrap();
        let mut changed = honest.clone();
        let (from, to) = (position(&changed, number), position(&changed, number + 1) - 2);
        changed[from] ^= 1;
        let hash = encode_hashes(&[leaf_hash(&changed[from..to])]);
        fs::write(export.path(bundle), &changed).unwrap();
        let told =
            export.audit_with(tile, |bytes| bytes[32 * number..32 * (number + 1)].copy_from_slice(&hash));
        fs::write(export.path(bundle), honest).unwrap();
        // The changed entry is read, for nothing says which one it is, and cannot be.
        let findings: Vec<_> = found(told).into_iter().filter(|(entry, _)| entry.is_none()).collect();
        assert_eq!(findings, [expected], "{bundle}");
    }
}

#[test]
fn a_missing_tile_is_told_once() {
    let export = Exported::new();
    for (file, rule) in
        [("tile/entries/002.p/88", "missing"), ("tile/0/002.p/88", "missing"), ("tile/1/000.p/2", "tile")]
    {
        let told = export.audit_without(file).unwrap();
        let findings: Vec<_> = told.iter().filter(|finding| finding.rule != "leftover").collect();
        assert_eq!(findings.len(), 1, "{file}: {told:?}");
        assert_eq!((findings[0].entry, findings[0].rule), (None, rule), "{told:?}");
        assert!(findings[0].what.contains(file), "{told:?}");
    }
}

/// A bad entry makes no other entry look bad: what refers to it is not blamed for what cannot be read.
#[test]
fn entries_that_refer_to_a_changed_one_are_not_blamed() {
    for log in [&INSTALLATION.control, &INSTALLATION.prod, &INSTALLATION.ceremony] {
        let directory = tempfile::tempdir().unwrap();
        let folder = log.write(directory.path());
        let size = log.entries.len();
        let file = directory.path().join(format!("tile/entries/000.p/{size}"));
        let honest = fs::read(&file).unwrap();
        for number in 0..size {
            let mut changed = honest.clone();
            changed[position(&honest, number)] ^= 1;
            fs::write(&file, changed).unwrap();
            let told = log.audit_folder(&folder).map(|report| report.findings);
            assert_eq!(found(told), [(Some(number as u64), "entry")], "{} {number}", log.origin);
        }
    }
}

#[test]
fn entries_that_refer_to_a_missing_bundle_are_not_blamed() {
    let mut log = INSTALLATION.prod.clone();
    // An outcome in the second bundle, of an intent in the first.
    let outcome = log.last("outcome");
    let body = log.value(outcome)["body"].clone();
    log.remove(outcome);
    let refusal = log.value(log.last("refusal"))["body"].clone();
    while log.entries.len() < 256 {
        log.push("refusal", refusal.clone());
    }
    log.push("outcome", body);
    assert_eq!(log.audit().findings, []);
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    fs::remove_file(directory.path().join("tile/entries/000")).unwrap();
    let told = log.audit_folder(&folder).map(|report| report.findings);
    assert_eq!(found(told), [(None, "missing")]);
}

#[test]
fn entries_that_changed_places_are_both_told() {
    let log = &INSTALLATION.prod;
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    let checkpoint = folder.checkpoint().unwrap().unwrap();
    let hashes = fs::read(directory.path().join(format!("tile/0/000.p/{}", log.entries.len()))).unwrap();
    let mut swapped = log.clone();
    swapped.entries.swap(3, 4);
    swapped.write(directory.path());
    fs::write(directory.path().join(format!("tile/0/000.p/{}", log.entries.len())), hashes).unwrap();
    folder.write_checkpoint(&checkpoint).unwrap();
    let told = log.audit_folder(&folder).map(|report| report.findings);
    assert_eq!(found(told), [(Some(3), "entry"), (Some(4), "entry")]);
}

#[test]
fn a_checkpoint_that_covers_more_or_less_than_there_is_is_found() {
    let log = &INSTALLATION.prod;
    let size = log.entries.len() as u64;
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    for (size, root) in [(size + 1, log.root()), (size - 1, log.root()), (size, INSTALLATION.control.root())]
    {
        folder.write_checkpoint(&log.sign(size, root)).unwrap();
        assert!(alarms(&log.audit_folder(&folder).map(|report| report.findings)), "{size}");
    }
    folder.write_checkpoint(&log.sign(size, INSTALLATION.control.root())).unwrap();
    let told = log.audit_folder(&folder).map(|report| report.findings);
    assert_eq!(found(told), [(None, "root")]);
}

#[test]
fn a_blob_that_was_changed_is_told_with_the_entry_that_names_it() {
    let export = Exported::new();
    let policy = export.log.first("policy");
    let sha256 = export.log.value(policy)["body"]["sha256"].as_str().unwrap().to_owned();
    let file = format!("blobs/{sha256}");
    assert_eq!(
        found(export.audit_with(&file, |bytes| bytes[0] ^= 1)),
        [(Some(policy), "blob"), (None, "leftover")]
    );
    assert_eq!(found(export.audit_without(&file)), [(Some(policy), "blob")]);
    // A folder, a link or a device in its place is not opened.
    fs::remove_file(export.path(&file)).unwrap();
    fs::create_dir(export.path(&file)).unwrap();
    assert_eq!(found(export.audit()), [(Some(policy), "blob")]);
    fs::remove_dir(export.path(&file)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", export.path(&file)).unwrap();
    assert_eq!(found(export.audit()), [(Some(policy), "blob"), (None, "leftover")]);
}

/// The log's key can sign any number; an audit must not count up to it.
#[test]
fn a_checkpoint_of_more_entries_than_could_be_there_is_not_gone_through() {
    let log = &INSTALLATION.prod;
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    for size in [1 << 20, 1 << 56, u64::MAX] {
        folder.write_checkpoint(&log.sign(size, log.root())).unwrap();
        let told = log.audit_folder(&folder).unwrap_err();
        assert!(matches!(told, NoAudit::TooFewFiles { .. }), "{told}");
    }
}

#[test]
fn what_is_no_log_of_the_key_is_not_audited() {
    let log = &INSTALLATION.prod;
    let directory = tempfile::tempdir().unwrap();
    let folder = log.write(directory.path());
    let other = INSTALLATION.control.verifier();
    assert!(matches!(audit(&folder, &other, |_| {}).unwrap_err(), NoAudit::Checkpoint(_)));
    // The same key under another name is the key of another log.
    let renamed = Log { origin: "ca.example/undercroft/prod.example/2".parse().unwrap(), ..log.clone() };
    assert!(matches!(renamed.audit_folder(&folder).unwrap_err(), NoAudit::Checkpoint(_)));
    fs::write(directory.path().join("checkpoint"), [0xff]).unwrap();
    assert!(matches!(log.audit_folder(&folder).unwrap_err(), NoAudit::Folder(_)));
    fs::remove_file(directory.path().join("checkpoint")).unwrap();
    assert!(matches!(log.audit_folder(&folder).unwrap_err(), NoAudit::NoCheckpoint(_)));
    assert!(matches!(log.audit_folder(&Folder::new("/nowhere")).unwrap_err(), NoAudit::NoCheckpoint(_)));
}

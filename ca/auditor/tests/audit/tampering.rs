//! The tamper matrix: what somebody may do to an exported log, who finds it, and under which name.
//!
//! Each row is run against `undercroft-audit` and against `docs/verify.py`, on the export and on the one certificate
//! that its owner has kept with its proof. Without the log's key every row is found by the export alone. With it the
//! thief can sign whatever he likes: then the export is sound in itself, and what finds it is what the thief does not
//! have, which is a witness's cosignature, a checkpoint that an auditor has kept, or the owner's proof.

mod export;

use std::process::Output;

use serde_json::json;

use self::export::{EARLIER, Export, OWNED, SIZE, encoded};
use crate::log::Log;

/// What a verifier says: the name of what is wrong, or that nothing is.
type Says = Result<(), &'static str>;

const SOUND: Says = Ok(());

/// What was done.
enum Deed {
    /// To the files.
    Files(fn(&Export)),
    /// To the entries, with the stolen key of the log: every hash and the checkpoint are made again.
    Signed(fn(&mut Log)),
}

struct Tampering {
    what: &'static str,
    deed: Deed,
    /// `undercroft-audit verify` and `docs/verify.py log`.
    export: Says,
    /// `undercroft-audit verify --tree`.
    tree: Says,
    /// If the export is sound in itself: what both say of it with the policy of the witnesses, and what with the
    /// checkpoint that an auditor has kept, or the one in the owner's proof.
    compared: Option<[Says; 2]>,
    /// Both, on the owner's certificate and proof, and the entry that now stands where his did.
    single: Says,
}

/// A row in which the export alone shows what is wrong.
const fn files(what: &'static str, deed: fn(&Export), found: &'static str, single: Says) -> Tampering {
    let found = Err(found);
    Tampering { what, deed: Deed::Files(deed), export: found, tree: found, compared: None, single }
}

/// A row that nobody finds who has the export alone.
const fn alone(what: &'static str, deed: Deed, compared: [Says; 2], single: Says) -> Tampering {
    Tampering { what, deed, export: SOUND, tree: SOUND, compared: Some(compared), single }
}

/// A row of whoever has the log's key.
const fn signed(what: &'static str, deed: fn(&mut Log), seen: &'static str, single: Says) -> Tampering {
    alone(what, Deed::Signed(deed), [Err("witnesses"), Err(seen)], single)
}

const MATRIX: &[Tampering] = &[
    alone("nothing", Deed::Files(|_| {}), [SOUND, SOUND], SOUND),
    // Without the key.
    files("edit", |e| e.write_bundles(&e.edited()), "entry", Err("proof")),
    files("edit, hash and all", |e| e.write_all(&e.edited()), "root", Err("proof")),
    files("delete", |e| e.write_bundles(&e.deleted()), "entry", Err("proof")),
    files("delete, hashes and all", |e| e.write_all(&e.deleted()), "missing", Err("proof")),
    files("swap", |e| e.write_bundles(&e.swapped()), "entry", Err("proof")),
    files("swap, hashes and all", |e| e.write_all(&e.swapped()), "root", Err("proof")),
    files("insert", |e| e.write_bundles(&e.inserted()), "entry", Err("proof")),
    files("insert, hashes and all", |e| e.write_all(&e.inserted()), "missing", Err("proof")),
    files(
        "truncate",
        |e| e.write_all(&e.log.entries[..EARLIER + 5].iter().map(Vec::as_slice).collect::<Vec<_>>()),
        "missing",
        SOUND,
    ),
    files(
        "truncate, and write the smaller size into the checkpoint",
        |e| {
            let entries: Vec<_> = e.log.entries[..EARLIER + 5].iter().map(Vec::as_slice).collect();
            e.write_all(&entries);
            let sized = |size| format!("\n{size}\n");
            e.replace_in_checkpoint(&sized(SIZE), &sized(EARLIER + 5));
        },
        "checkpoint",
        SOUND,
    ),
    files("a bundle that is gone", |e| e.remove("tile/entries/001"), "missing", SOUND),
    files("an entry that goes on", |e| e.append("tile/entries/001", b"\0"), "entry", SOUND),
    files("a hash of level 0", |e| e.flip("tile/0/001", 40), "tile", SOUND),
    files("a hash of level 1", |e| e.flip("tile/1/000.p/2", 40), "tile", SOUND),
    files("a root that nobody signed", |e| e.flip_root(), "checkpoint", SOUND),
    files("the checkpoint of another key", |e| e.sign_with_another_key(), "checkpoint", SOUND),
    Tampering { tree: SOUND, ..files("an edited blob", |e| e.flip_blob(), "blob", SOUND) },
    Tampering { tree: SOUND, ..files("a blob that is gone", |e| e.remove(&e.blob()), "blob", SOUND) },
    // Nobody's signature is wrong, and the witness did see it once: how old it is only a newer checkpoint shows.
    alone(
        "roll back to an earlier checkpoint",
        Deed::Files(Export::roll_back),
        [SOUND, Err("rollback")],
        SOUND,
    ),
    alone("an edited cosignature", Deed::Files(Export::flip_cosignature), [Err("witnesses"), SOUND], SOUND),
    // With the key.
    signed("truncate and sign again", |log| log.entries.truncate(EARLIER + 5), "rollback", SOUND),
    signed("fork", |log| fork(log, SIZE), "fork", Err("proof")),
    signed("fork, and go on for longer", |log| fork(log, SIZE + 20), "fork", Err("proof")),
    signed("edit and sign again", |log| say(log, 200, "nothing of interest"), "fork", SOUND),
    signed("delete and sign again", |log| log.remove(200), "rollback", Err("proof")),
    signed(
        "delete, fill up, and sign again",
        |log| {
            log.remove(200);
            let last = log.value(log.last("refusal"))["body"].clone();
            log.push("refusal", last);
        },
        "fork",
        Err("proof"),
    ),
    signed("insert and sign again", insert, "fork", Err("proof")),
    signed("swap and sign again", swap, "fork", SOUND),
];

fn say(log: &mut Log, index: u64, reason: &str) {
    log.edit_body(index, |body| body["reason"] = json!(reason));
}

/// Another history from 300 on, of so many entries.
fn fork(log: &mut Log, size: usize) {
    let refusal = log.value(200)["body"].clone();
    log.entries.truncate(EARLIER);
    while log.entries.len() < size {
        log.push("refusal", refusal.clone());
    }
}

/// An entry between others, which move up.
fn insert(log: &mut Log) {
    let more = log.entries[200].clone();
    log.entries.insert(200, more);
    for index in 200..log.entries.len() as u64 {
        log.edit(index, |entry| {
            entry["index"] = json!(index);
            if let Some(intent) = entry["body"]["intent"].as_u64().filter(|intent| *intent >= 200) {
                entry["body"]["intent"] = json!(intent + 1);
            }
        });
    }
}

/// Two entries that say that they were always where they are now.
fn swap(log: &mut Log) {
    log.entries.swap(200, 201);
    for index in [200, 201] {
        log.edit(index, |entry| entry["index"] = json!(index));
    }
}

/// Whether a verifier answers with exit status 5 and the name, or with 0; what it told if not.
fn answers(ran: &Output, says: Says) -> Result<(), String> {
    let told = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let (status, name) = match says {
        Ok(()) => (0, String::new()),
        Err(name) => (5, format!("({name})")),
    };
    let is_so = ran.status.code() == Some(status) && told.contains(&name);
    is_so.then_some(()).ok_or_else(|| format!("should say {says:?}, and says {told}"))
}

/// Everything that does not go as a row says.
fn run(row: &Tampering) -> Vec<String> {
    let export = Export::new();
    let mut wrong = Vec::new();
    let mut expect = |how: &str, ran: Output, says| {
        wrong.extend(answers(&ran, says).err().map(|told| format!("{} | {how}: {told}", row.what)));
    };
    let log = match row.deed {
        Deed::Files(deed) => {
            deed(&export);
            export.log.clone()
        }
        Deed::Signed(deed) => {
            let mut log = export.log.clone();
            deed(&mut log);
            export.rewrite(&log);
            log
        }
    };
    expect("undercroft-audit", export.audit(&[]), row.export);
    expect("undercroft-audit --tree", export.audit(&["--tree"]), row.tree);
    expect("verify.py", export.python(&[]), row.export);
    let policy = export.policy();
    if let Some([witnesses, seen]) = row.compared {
        expect("undercroft-audit, policy", export.audit(&["--witness-policy", &policy]), witnesses);
        expect("verify.py, policy", export.python(&[&policy]), witnesses);
        for file in [export.kept(), export.owned("tlog-proof")] {
            expect("undercroft-audit, seen", export.audit(&["--seen", &file]), seen);
            expect("verify.py, seen", export.python(&["--seen", &file]), seen);
        }
    }
    // What the export has now where the owner's entry was; his own entry if it has nothing.
    let entry = export.entry_now(OWNED).unwrap_or_else(|| export.log.entries[OWNED].clone());
    for (who, ran) in export.certificate(&entry, &export.owned("tlog-proof"), None) {
        expect(&format!("{who} certificate"), ran, row.single);
    }
    // A proof that the thief makes for the owner: it holds, and no witness has seen it.
    if matches!(row.deed, Deed::Signed(_)) && log.entries.get(OWNED) == Some(&export.log.entries[OWNED]) {
        let proof = export.prove(OWNED);
        for (who, ran) in export.certificate(&entry, &proof, None) {
            expect(&format!("{who} certificate, another proof"), ran, SOUND);
        }
        for (who, ran) in export.certificate(&entry, &proof, Some(&policy)) {
            expect(&format!("{who} certificate, another proof, policy"), ran, Err("witnesses"));
        }
    }
    wrong
}

#[test]
fn every_tampering_is_found_by_its_name() {
    // Processes wait for the disk and for each other: rows run side by side.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let rows = MATRIX.chunks(MATRIX.len().div_ceil(4));
        let running: Vec<_> =
            rows.map(|rows| scope.spawn(|| rows.iter().flat_map(run).collect::<Vec<_>>())).collect();
        running.into_iter().flat_map(|rows| rows.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The witness' word and the auditor's checkpoint must be of this log, or they compare nothing.
#[test]
fn what_is_of_another_log_is_no_comparison() {
    let export = Export::new();
    std::fs::write(export.path("other"), crate::installation::INSTALLATION.control.sign(0, encoded()))
        .unwrap();
    let other = export.path("other").display().to_string();
    let ran = export.audit(&["--seen", &other]);
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(export.python(&["--seen", &other]).status.code(), Some(5));
}

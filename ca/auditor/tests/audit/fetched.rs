//! Logs that are served somewhere: fetched, audited, mirrored; and servers that lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::installation::INSTALLATION;
use crate::log::Log;
use crate::served::{ALWAYS, Lie, Served};

/// The log of prod.example, `more` entries longer.
fn grown(more: usize) -> Log {
    let mut log = INSTALLATION.prod.clone();
    for n in 0..more {
        log.push("alert", json!({ "event": "raised", "rule": "x", "text": format!("{n}") }));
    }
    log
}

#[track_caller]
fn ends(ran: &Output, status: i32, words: &str) {
    let told = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(ran.status.code(), Some(status), "{told}");
    assert!(told.contains(words), "{words}: {told}");
}

/// The files of a folder, and what is in them.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => found
                .extend(contents(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes))),
            false => drop(found.insert(name, fs::read(&path).unwrap())),
        }
    }
    found
}

#[test]
fn every_command_takes_a_url_where_it_takes_a_folder() {
    let served = Served::new(&grown(300));
    ends(&served.audit("verify", &[]), 0, "Everything is as it must be");
    ends(&served.audit("verify", &["--tree"]), 0, "Every byte");
    ends(&served.audit("show", &["3"]), 0, "\"index\": 3");
    ends(&served.audit("report", &[]), 0, "# Audit report");
    let out = served.path("out");
    fs::create_dir(&out).unwrap();
    ends(&served.audit("prove", &["3", "--out", out.to_str().unwrap()]), 0, "3.tlog-proof");
    let pem = served.path("some.der");
    fs::write(&pem, INSTALLATION.intermediate.der()).unwrap();
    ends(&served.audit("reconcile", &[pem.to_str().unwrap()]), 0, "not signed by a key of this log");
    // Nothing of what was fetched stays.
    assert_eq!(fs::read_dir(served.temporary()).unwrap().count(), 0);
    // A transcript, which has blobs.
    let served = Served::new(&INSTALLATION.ceremony);
    ends(&served.audit("verify", &[]), 0, "Everything is as it must be");
    assert!(served.asked().iter().filter(|path| path.starts_with("blobs/")).count() >= 2);
}

#[test]
fn custody_is_judged_on_a_log_that_is_served() {
    let served = Served::new(&INSTALLATION.prod);
    ends(&served.audit("custody", &[]), 0, "software");
    assert_eq!(fs::read_dir(served.temporary()).unwrap().count(), 0);
    let mirror = served.path("mirror");
    ends(&served.audit("custody", &["--mirror", mirror.to_str().unwrap()]), 0, "software");
    assert!(mirror.join("checkpoint").exists());
    ends(&served.audit("custody", &["--require", "declared"]), 5, "`declared` was to be");
    // What the entry says and its evidence does not; a byte that the server changes; and nothing at all.
    let mut log = INSTALLATION.prod.clone();
    log.edit_body(log.last("key"), |body| body["grade"] = "declared".into());
    ends(&Served::new(&log).audit("custody", &[]), 5, "`declared` was to be");
    let bundle = contents(&served.folder).into_keys().find(|path| path.starts_with("tile/entries/")).unwrap();
    let mut changed = served.file(&bundle);
    changed[50] ^= 1;
    served.lie(&bundle, Lie::Bytes(changed));
    ends(&served.audit("custody", &[]), 5, "(entry)");
    served.lie("checkpoint", Lie::Status(403, ALWAYS));
    ends(&served.audit("custody", &[]), 3, "403");
    let both = ["--file", "key.custody.json"];
    ends(&served.audit("custody", &both), 2, "cannot be used with");
}

#[test]
fn what_a_server_changed_is_found_as_in_a_folder() {
    let log = grown(300);
    let size = log.entries.len();
    let served = Served::new(&log);
    let bundle = format!("tile/entries/001.p/{}", size - 256);
    let changed = |path: &str, at: usize| {
        let mut bytes = served.file(path);
        bytes[at] ^= 1;
        bytes
    };
    let cut = |path: &str| served.file(path)[..served.file(path).len() - 1].to_vec();
    for (path, lie, words) in [
        ("tile/entries/000", cut("tile/entries/000"), "(entry)"),
        ("tile/entries/000", changed("tile/entries/000", 50), "(entry)"),
        (&bundle, changed(&bundle, 50), "(entry)"),
        (&bundle, Vec::new(), "(entry)"),
        ("tile/0/000", changed("tile/0/000", 50), "(tile)"),
        ("tile/0/000", cut("tile/0/000"), "(tile)"),
        ("tile/1/000.p/1", changed("tile/1/000.p/1", 3), "(tile)"),
        ("checkpoint", changed("checkpoint", 3), "(checkpoint)"),
        ("checkpoint", vec![0xff; 20], "is no text"),
    ] {
        let served = Served::new(&log);
        served.lie(path, Lie::Bytes(lie));
        ends(&served.audit("verify", &[]), 5, words);
    }
    for path in ["tile/entries/000", "tile/0/000", &bundle] {
        let served = Served::new(&log);
        served.lie(path, Lie::Status(404, ALWAYS));
        ends(&served.audit("verify", &[]), 5, "(missing)");
    }
    let ceremony = Served::new(&INSTALLATION.ceremony);
    let blob = contents(&ceremony.folder).into_keys().find(|path| path.starts_with("blobs/")).unwrap();
    ceremony.lie(&blob, Lie::Status(404, ALWAYS));
    ends(&ceremony.audit("verify", &[]), 5, "(blob)");
    ceremony.lie(&blob, Lie::Bytes(b"other".to_vec()));
    ends(&ceremony.audit("verify", &[]), 5, "(blob)");
    // The log of somebody else.
    let other = Served::new(&INSTALLATION.control);
    fs::write(&other.key, log.verifier().to_string()).unwrap();
    ends(&other.audit("verify", &[]), 5, "(checkpoint)");
}

/// Whoever has the log's key can sign any size, and nobody goes through what is not there.
#[test]
fn a_size_that_nothing_could_have_is_given_up_soon() {
    let log = INSTALLATION.prod.clone();
    let served = Served::new(&log);
    served.lie("checkpoint", Lie::Bytes(log.sign(1 << 60, log.root()).into_bytes()));
    ends(&served.audit("verify", &[]), 5, "(missing)");
    let mirror = served.path("mirror");
    ends(&served.audit("mirror", &[mirror.to_str().unwrap()]), 5, "the server does not have it");
    assert!(!mirror.exists());
    assert!(served.asked().len() < 100);
}

#[test]
fn servers_that_do_not_answer_as_they_must_end_the_command() {
    let log = grown(0);
    let bundle = format!("tile/entries/000.p/{}", log.entries.len());
    for (path, lie, status, words) in [
        ("checkpoint", Lie::Status(404, ALWAYS), 2, "no log is served there"),
        ("checkpoint", Lie::Endless, 5, "has more than"),
        (&bundle, Lie::Endless, 5, "has more than"),
        (&bundle, Lie::Silence, 3, "no whole answer within 2 s"),
        (&bundle, Lie::Cut, 3, "4 times"),
        (&bundle, Lie::Status(503, ALWAYS), 3, "503"),
        (&bundle, Lie::Status(403, ALWAYS), 3, "403"),
        (&bundle, Lie::Redirect, 3, "nobody is followed elsewhere"),
        // It passes.
        (&bundle, Lie::Status(503, 2), 0, "Everything is as it must be"),
    ] {
        let served = Served::new(&log);
        served.lie(path, lie);
        ends(&served.audit("verify", &[]), status, words);
        assert_eq!(fs::read_dir(served.temporary()).unwrap().count(), 0);
    }
    // Nobody is there at all, or there can be nobody.
    let mut served = Served::new(&log);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    served.url = format!("http://{port}");
    ends(&served.audit("verify", &[]), 3, "4 times");
    for url in ["http://", "http://user@host/log", "https://host/log?x=1", "http://host/log#x", "http://a b/"]
    {
        served.url = url.to_owned();
        ends(&served.audit("verify", &[]), 2, "http");
    }
}

#[test]
fn a_mirror_grows_and_fetches_only_what_is_new() {
    let served = Served::new(&grown(0));
    let mirror = served.path("mirror");
    let at = mirror.to_str().unwrap().to_owned();
    for more in [0, 0, 10, 300, 600, 600] {
        let log = grown(more);
        served.serve(&log);
        let before = contents_or_none(&mirror);
        served.asked();
        let ran = served.audit("mirror", &[&at, "--output", "json"]);
        ends(&ran, 0, &format!("\"entries\":{}", log.entries.len()));
        let asked = served.asked();
        assert!(asked.iter().all(|path| path == "checkpoint" || !before.contains_key(path)), "{asked:?}");
        assert_eq!(asked.len() == 1, before.get("checkpoint") == Some(&served.file("checkpoint")));
        let now = contents(&mirror);
        for (path, bytes) in contents(&served.folder) {
            assert_eq!(now.get(&path), Some(&bytes), "{path}");
        }
        assert!(before.keys().all(|path| now.contains_key(path)));
        ends(&served.audit("verify", &["--mirror", &at]), 0, "Everything is as it must be");
    }
    let served = Served::new(&INSTALLATION.ceremony);
    let at = served.path("mirror");
    ends(&served.audit("verify", &["--mirror", at.to_str().unwrap()]), 0, "Everything is as it must be");
    assert!(fs::read_dir(at.join("blobs")).unwrap().count() >= 2);
    served.asked();
    ends(&served.audit("verify", &["--mirror", at.to_str().unwrap()]), 0, "Everything is as it must be");
    assert_eq!(served.asked(), ["checkpoint"]);
    // One that was cut off before it was whole is made whole.
    let held = contents(&at);
    fs::remove_file(at.join("checkpoint")).unwrap();
    fs::remove_dir_all(at.join("blobs")).unwrap();
    fs::remove_dir_all(at.join("tile/0")).unwrap();
    ends(&served.audit("verify", &["--mirror", at.to_str().unwrap()]), 0, "Everything is as it must be");
    assert!(contents(&at) == held);
}

fn contents_or_none(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    if folder.exists() { contents(folder) } else { BTreeMap::new() }
}

/// A mirror is evidence: it stays as it is.
#[test]
fn a_log_that_is_not_the_continuation_of_its_mirror_changes_nothing() {
    let log = grown(300);
    let served = Served::new(&log);
    let mirror = served.path("mirror");
    let at = mirror.to_str().unwrap().to_owned();
    ends(&served.audit("mirror", &[&at]), 0, &format!("({} new)", log.entries.len()));
    let held = contents(&mirror);
    let refused = |served: &Served, words: &str| {
        for command in [&["mirror", &at][..], &["verify", "--mirror", &at]] {
            ends(&served.audit(command[0], &command[1..]), 5, words);
            assert!(contents(&mirror) == held, "the mirror was changed: {words}");
        }
    };
    served.serve(&grown(100));
    refused(&served, "the log went back");
    // Another history, as long or longer, and from the beginning or in its last bundle.
    for (size, entry) in [(300, 5), (300, 290), (700, 5), (700, 290)] {
        let mut fork = grown(size);
        fork.edit(entry, |entry| entry["time"] = "2026-11-22T09:00:00Z".into());
        served.serve(&fork);
        refused(&served, "keep it, it is evidence");
    }
    // What is no history at all.
    let longer = grown(700);
    served.serve(&longer);
    let path = "tile/entries/001";
    let mut changed = served.file(path);
    changed[50] ^= 1;
    for (lie, words) in [
        (Lie::Bytes(changed), "it is evidence"),
        (Lie::Bytes(served.file(path)[..1000].to_vec()), "it is evidence"),
        (Lie::Status(404, ALWAYS), "the server does not have it"),
        (Lie::Endless, "has more than"),
    ] {
        served.lie(path, lie);
        refused(&served, words);
    }
    for (lie, words) in [(Lie::Cut, "4 times"), (Lie::Status(500, ALWAYS), "500")] {
        served.lie(path, lie);
        ends(&served.audit("mirror", &[&at]), 3, words);
        assert!(contents(&mirror) == held);
    }
    served.lie(path, Lie::Status(500, 1));
    ends(&served.audit("mirror", &[&at]), 0, "(400 new)");
}

#[test]
fn a_mirror_has_the_hashes_that_follow_and_no_others() {
    let log = grown(300);
    let served = Served::new(&log);
    let at = served.path("mirror");
    let mut wrong = served.file("tile/0/000");
    wrong[40] ^= 1;
    served.lie("tile/0/000", Lie::Bytes(wrong));
    ends(&served.audit("mirror", &[at.to_str().unwrap()]), 5, "tile/0/000 is not what follows");
    assert_eq!(fs::read(at.join("tile/0/000")).unwrap(), served.file("tile/0/000"));
    let report = log.audit_folder(&undercroft_log_files::Folder::new(&at)).unwrap();
    assert_eq!(report.findings, []);
}

#[test]
fn a_blob_that_is_missing_or_another_never_comes_into_a_mirror() {
    let served = Served::new(&INSTALLATION.ceremony);
    let at = served.path("mirror");
    let blob = contents(&served.folder).into_keys().find(|path| path.starts_with("blobs/")).unwrap();
    let mut other = served.file(&blob);
    other[0] ^= 1;
    for (lie, words) in [
        (Lie::Status(404, ALWAYS), "is not there, and an entry names it"),
        (Lie::Bytes(other), "not the blob that its name says"),
        (Lie::Bytes(Vec::new()), "not the blob that its name says"),
        (Lie::Endless, "has more than"),
    ] {
        served.lie(&blob, lie);
        ends(&served.audit("mirror", &[at.to_str().unwrap()]), 5, words);
        assert!(!at.exists());
    }
}

#[test]
fn a_folder_that_holds_something_else_is_no_mirror() {
    let served = Served::new(&grown(0));
    let at = served.path("mirror");
    fs::create_dir(&at).unwrap();
    fs::write(at.join("letter.txt"), "dear").unwrap();
    ends(&served.audit("mirror", &[at.to_str().unwrap()]), 2, "choose an empty folder");
    INSTALLATION.control.write(&served.path("control"));
    let control = served.path("control");
    ends(&served.audit("mirror", &[control.to_str().unwrap()]), 5, "(checkpoint)");
    // One whose own files were changed is told so, and not the server.
    let broken = served.path("broken");
    let log = grown(300);
    log.write(&broken);
    served.serve(&grown(600));
    let file = broken.join("tile/entries/000");
    let mut bytes = fs::read(&file).unwrap();
    bytes[50] ^= 1;
    fs::write(&file, &bytes).unwrap();
    ends(&served.audit("verify", &["--mirror", broken.to_str().unwrap()]), 5, "(entry)");
    // A folder is not fetched.
    let mut served = served;
    served.url = served.folder.display().to_string();
    ends(&served.audit("verify", &["--mirror", at.to_str().unwrap()]), 2, "is no URL");
}

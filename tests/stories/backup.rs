//! The daemon's state is copied while it runs, and put back; whether it is the newest is for others to say.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::Tool;
use undercroft_log::leaf::Body;

use crate::place::{Place, bodies, files};

fn backup(place: &Place, to: &str) -> PathBuf {
    let to = place.path(to);
    place.site.administer(&["backup", "--out"]).unwrap().arg(&to).done().unwrap().says("entries of").unwrap();
    to
}

fn restore(place: &Place, from: &Path) -> Tool {
    let tool = Tool::ours("undercroft").unwrap().args(["restore", "--from"]).arg(from).arg("--config");
    tool.arg(place.path("daemon/undercroft.toml")).with(&place.site.variables())
}

/// The disk of the database is gone.
fn lose(place: &Place) {
    for file in files(&place.path("daemon")) {
        if file.file_name().unwrap().to_string_lossy().starts_with("undercroft.db") {
            fs::remove_file(file).unwrap();
        }
    }
}

/// A copy of a backup, in which one file was changed.
fn changed(place: &Place, from: &Path, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let to = place.path("changed");
    let _ = fs::remove_dir_all(&to);
    fs::create_dir(&to).unwrap();
    for name in ["undercroft.db", "backup.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let bytes = change(fs::read(to.join(file)).unwrap());
    fs::write(to.join(file), bytes).unwrap();
    to
}

fn edited(from: &str, to: &str) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    let (from, to) = (from.to_owned(), to.to_owned());
    move |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        let changed = text.replacen(&from, &to, 1);
        assert_ne!(changed, text, "{from}");
        changed.into_bytes()
    }
}

#[test]
fn what_was_lost_is_restored_and_what_is_no_backup_of_ours_is_not() {
    let mut place = Place::prod();
    place.issue("prod.example", "before", &[]).expect(0).unwrap();
    let freeze = ["freeze", "caller", "spiffe://control.example/operator/bob", "--reason", "x"];
    place.site.administer(&freeze).unwrap().done().unwrap();
    let saved = backup(&place, "backup");
    // Nothing is overwritten, and no key is in it.
    let again = place.site.administer(&["backup", "--out"]).unwrap().arg(&saved).run().unwrap();
    again.expect(2).unwrap().says("overwrites nothing").unwrap();
    assert_eq!(files(&saved).len(), 2);
    for file in files(&place.path("daemon")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with(".backup-"), "{name} is left behind");
    }
    // Not while a daemon runs, and not over a state that is there.
    restore(&place, &saved).run().unwrap().expect(3).unwrap().says("another daemon").unwrap();
    place.issue("prod.example", "newer", &[]).expect(0).unwrap();
    place.stop();
    restore(&place, &saved).run().unwrap().expect(4).unwrap().says("newer").unwrap();
    restore(&place, &saved).arg("--dry-run").run().unwrap().expect(4).unwrap();
    lose(&place);

    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(saved.join("backup.json")).unwrap()).unwrap();
    let schema = manifest["schema"].as_i64().unwrap();
    let sha256 = manifest["copy"]["sha256"].as_str().unwrap();
    let prod = manifest["logs"].as_array().unwrap().iter();
    let prod = prod.clone().find(|log| log["origin"].as_str().unwrap().contains("/prod.example/")).unwrap();
    let root = prod["head"]["root"].as_str().unwrap();
    let key = prod["key"].as_str().unwrap();
    let other_key = manifest["logs"][0]["key"].as_str().unwrap();
    let refused = |from: PathBuf, status: i32, says: &str| {
        restore(&place, &from).run().unwrap().expect(status).unwrap().says(says).unwrap();
        restore(&place, &from).arg("--dry-run").run().unwrap().expect(status).unwrap();
    };
    let nowhere = place.path("nowhere");
    refused(nowhere, 2, "cannot be read");
    let manifest_with = |from: &str, to: &str| changed(&place, &saved, "backup.json", edited(from, to));
    refused(manifest_with("undercroft-backup-v1", "undercroft-backup-v9"), 2, "its format is");
    refused(manifest_with("\"schema\"", "\"scheme\""), 2, "unknown field");
    let newer = (format!("\"schema\": {schema}"), format!("\"schema\": {}", schema + 1));
    refused(manifest_with(&newer.0, &newer.1), 2, "schema version");
    refused(
        manifest_with("/undercroft/prod.example/1\"", "/undercroft/edge.example/1\""),
        2,
        "another installation",
    );
    refused(manifest_with(key, other_key), 2, "another installation");
    refused(manifest_with(sha256, &"07".repeat(32)), 5, "was changed");
    refused(manifest_with(root, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), 5, "in its manifest");
    let flipped = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    };
    refused(changed(&place, &saved, "undercroft.db", flipped), 5, "was changed");
    let short = |bytes: Vec<u8>| bytes[..bytes.len() - 8192].to_vec();
    refused(changed(&place, &saved, "undercroft.db", short), 5, "was changed");
    let missing = changed(&place, &saved, "undercroft.db", |bytes| bytes);
    fs::remove_file(missing.join("undercroft.db")).unwrap();
    refused(missing, 5, "not whole");

    restore(&place, &saved).arg("--dry-run").done().unwrap().says("nothing was written").unwrap();
    restore(&place, &saved).done().unwrap().says("restored").unwrap();
    restore(&place, &saved).run().unwrap().expect(4).unwrap().says("never overwritten").unwrap();
    place.start();
    assert_eq!(place.json(&["status"])["frozen"][0]["kind"], "caller");
    place.issue("prod.example", "after", &[]).expect(0).unwrap();
    place.export_and_audit();
    place.stop();
}

/// The backup of somebody else's installation, with origins like ours and keys of its own.
#[test]
fn the_backup_of_another_installation_is_refused() {
    let mut other = Place::prod();
    let saved = backup(&other, "backup");
    other.stop();
    let mut place = Place::prod();
    place.stop();
    lose(&place);
    restore(&place, &saved).run().unwrap().expect(2).unwrap().says("another installation").unwrap();
}

/// The token remembers more than the backup has: the daemon does not start, and a mirror holds the rest.
#[test]
fn an_older_backup_than_the_anchor_does_not_start_until_it_is_refilled() {
    let mut place = Place::prod();
    place.stop();
    let config = place.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (head, devices) = text.split_once("\n[[device]]").unwrap();
    let text = format!("{head}\n[domain.anchor]\ndevice = \"prod\"\n\n[[device]]{devices}");
    fs::write(&config, text).unwrap();
    place.start();
    place.issue("prod.example", "before", &[]).expect(0).unwrap();
    let saved = backup(&place, "backup");
    place.issue("prod.example", "lost", &[]).expect(0).unwrap();
    place.export_and_audit();
    place.stop();
    let mirror = place.path("prod.example/log");
    let before = bodies(&mirror);
    lose(&place);

    // Refused, and nothing is written; unless whoever restores knows it and says so.
    for tool in [restore(&place, &saved), restore(&place, &saved).arg("--dry-run")] {
        let refused = tool.run().unwrap().expect(5).unwrap();
        refused.says("DISAGREES: device `prod`").unwrap().says("nothing was written").unwrap();
    }
    let mut restored = restore(&place, &saved).arg("--behind").done().unwrap();
    for part in ["DISAGREES: device `prod`", "the log went back", "recover refill"] {
        restored = restored.says(part).unwrap();
    }
    place.site.serve().unwrap().run().unwrap().expect(5).unwrap().says("the log went back").unwrap();
    let refill = Tool::ours("undercroft").unwrap().args(["recover", "refill", "--config"]).arg(&config);
    let refill =
        refill.args(["--domain", "prod.example", "--from"]).arg(&mirror).with(&place.site.variables());
    refill.done().unwrap().says("were put back").unwrap();
    place.start();
    place.issue("prod.example", "after", &[]).expect(0).unwrap();
    let prod = place.site.domains()[1].clone();
    place.site.export(&prod).unwrap().done().unwrap();
    place.site.audit(&prod).unwrap().done().unwrap();
    let log = bodies(&mirror);
    assert_eq!(log[..before.len()], before[..]);
    assert!(log.iter().any(|body| matches!(body, Body::Recovery(_))));
    place.stop();
}

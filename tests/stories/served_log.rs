//! A log where the daemon serves it: read, audited and mirrored by somebody who has its address and its key alone.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use e2e::{Ran, Tool};

use crate::place::{Place, files};

/// An installation whose logs are served, at this address.
pub(crate) fn served() -> (Place, String) {
    let mut place = Place::prod();
    place.stop();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration = place.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    let with_logs = format!("logs = \"127.0.0.1:{port}\"\nadmin-socket =");
    fs::write(&configuration, text.replace("admin-socket =", &with_logs)).unwrap();
    place.start();
    (place, format!("127.0.0.1:{port}"))
}

/// Runs the auditor's program on a URL.
fn audit(command: &str, url: &str, key: &std::path::Path, more: &[&str]) -> Ran {
    let audit = Tool::ours("undercroft-audit").unwrap().arg(command).arg(url).args(more);
    audit.arg("--key").arg(key).run().unwrap()
}

/// The head of the answer to a GET.
fn head(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    answer.split("\r\n\r\n").next().unwrap().to_owned()
}

#[test]
fn an_auditor_reads_and_mirrors_the_log_where_it_is_served() {
    let (mut place, address) = served();
    place.issue("prod.example", "one", &[]).expect(0).unwrap();
    let key = place.path("prod.vkey");
    fs::write(&key, place.log_key("prod.example") + "\n").unwrap();
    let url = format!("http://{address}/prod.example");
    let mirror = place.path("mirrored");
    let at = mirror.to_str().unwrap().to_owned();

    let sound = "Everything is as it must be";
    audit("verify", &url, &key, &[]).expect(0).unwrap().says(sound).unwrap();
    let seen = place.path("one/leaf.tlog-proof");
    audit("verify", &url, &key, &["--seen", seen.to_str().unwrap()]).expect(0).unwrap().says(sound).unwrap();
    audit("show", &url, &key, &["--kind", "intent"]).expect(0).unwrap().says("operator/alice").unwrap();
    audit("report", &url, &key, &[]).expect(0).unwrap().says("# Audit report").unwrap();
    let leaf = place.path("one/leaf.pem");
    audit("reconcile", &url, &key, &[leaf.to_str().unwrap()])
        .expect(0)
        .unwrap()
        .says("for spiffe://")
        .unwrap();
    audit("mirror", &url, &key, &[&at]).expect(0).unwrap().says("in ").unwrap();

    // It goes on, and so does its mirror.
    place.issue("prod.example", "two", &[]).expect(0).unwrap();
    audit("mirror", &url, &key, &[&at]).expect(0).unwrap().says("(2 new)").unwrap();
    audit("mirror", &url, &key, &[&at]).expect(0).unwrap().says("(0 new)").unwrap();
    audit("verify", &at, &key, &[]).expect(0).unwrap().says(sound).unwrap();
    audit("verify", &url, &key, &["--mirror", &at]).expect(0).unwrap().says(sound).unwrap();

    // The log of another domain is not this one, and where none is served there is none.
    let other = format!("http://{address}/control.example");
    audit("verify", &other, &key, &[]).expect(5).unwrap().says("(checkpoint)").unwrap();
    audit("mirror", &other, &key, &[&at]).expect(5).unwrap();
    audit("verify", &format!("http://{address}/nowhere.example"), &key, &[]).expect(2).unwrap();

    // What the daemon serves after its database was put back is not what the mirror has.
    place.stop();
    let database = place.path("daemon/undercroft.db");
    let newest = fs::read(&database).unwrap();
    audit("mirror", &url, &key, &[&at]).expect(3).unwrap();
    place.start();
    place.issue("prod.example", "three", &[]).expect(0).unwrap();
    audit("mirror", &url, &key, &[&at]).expect(0).unwrap();
    place.stop();
    fs::write(&database, newest).unwrap();
    place.start();
    let held: Vec<_> = files(&mirror).iter().map(|file| fs::read(file).unwrap()).collect();
    audit("mirror", &url, &key, &[&at]).expect(5).unwrap();
    let now: Vec<_> = files(&mirror).iter().map(|file| fs::read(file).unwrap()).collect();
    assert_eq!(held.len(), now.len());
    assert!(held == now, "the mirror was changed");
    place.stop();
}

/// A policy that is too long for an entry is a blob, and comes with the log.
#[test]
fn blobs_are_served_and_fetched_with_the_log() {
    let (mut place, address) = served();
    place.stop();
    let long = format!("{}\n# {}\n", place.site.policy(), "long ".repeat(8000));
    place.site.set_policy(&long).unwrap();
    place.start();
    let key = place.path("control.vkey");
    fs::write(&key, place.log_key("control.example") + "\n").unwrap();
    let url = format!("http://{address}/control.example");
    let mirror = place.path("mirrored");
    audit("verify", &url, &key, &["--mirror", mirror.to_str().unwrap()]).expect(0).unwrap();
    audit("verify", &url, &key, &[]).expect(0).unwrap().says("Everything is as it must be").unwrap();
    let blobs = files(&mirror.join("blobs"));
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    let name = blobs[0].file_name().unwrap().to_str().unwrap();
    for (path, kept) in [
        (format!("/control.example/blobs/{name}"), true),
        ("/control.example/tile/0/000.p/1".to_owned(), true),
        ("/control.example/checkpoint".to_owned(), false),
    ] {
        let head = head(&address, &path);
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        assert_eq!(head.contains("immutable"), kept, "{path}: {head}");
    }
    assert!(head(&address, &format!("/prod.example/blobs/{}", "0".repeat(64))).starts_with("http/1.1 404"));
    place.stop();
}

//! What OCSP responders were asked for, against a log. The requests are OpenSSL's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};
use undercroft_audit::{AskedFor, Register};
use undercroft_ca::certificate::to_pem;
use x509_parser::prelude::{FromDer as _, TbsCertificate};

use crate::installation::INSTALLATION;

/// A log of prod.example in a folder, and what OpenSSL needs to ask about it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = &INSTALLATION.prod;
        log.write(&directory.path().join("log"));
        fs::write(directory.path().join("log.vkey"), log.verifier().to_string()).unwrap();
        let pem = to_pem("CERTIFICATE", INSTALLATION.intermediate.der()).unwrap();
        fs::write(directory.path().join("issuer.pem"), pem).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Has OpenSSL write a request.
    fn request(&self, issuer: &Path, hash: &str, serials: &[String], more: &[&str]) -> Vec<u8> {
        let out = self.path("request.der");
        let mut openssl = Command::new("openssl");
        openssl.arg("ocsp");
        for serial in serials {
            openssl.arg(hash).arg("-issuer").arg(issuer).args(["-serial", &format!("0x{serial}")]);
        }
        let ran = openssl.args(more).arg("-reqout").arg(&out).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        fs::read(out).unwrap()
    }

    fn ask(&self, serials: &[String]) -> Vec<u8> {
        self.request(&self.path("issuer.pem"), "-sha1", serials, &[])
    }

    fn reconcile(&self, files: &[&Path], more: &[&str]) -> Output {
        let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
        audit.arg("reconcile").arg(self.path("log")).arg("--key").arg(self.path("log.vkey")).args(more);
        for file in files {
            audit.arg("--ocsp").arg(file);
        }
        audit.output().unwrap()
    }

    fn json(&self, file: &Path, status: i32) -> Vec<Value> {
        let ran = self.reconcile(&[file], &["--output", "json"]);
        assert_eq!(ran.status.code(), Some(status), "{}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).unwrap()
    }
}

/// Each intent for a certificate: its entry, its serial number, and whether it was abandoned.
fn intents() -> Vec<(u64, String, bool)> {
    let log = &INSTALLATION.prod;
    let is_abandoned = |intent: u64| {
        let of = |index: &u64| log.value(*index)["body"]["intent"] == intent;
        let outcome = log.all("outcome").into_iter().find(of).unwrap();
        !log.value(outcome)["body"]["result"]["abandoned"].is_null()
    };
    let read = |intent: u64| {
        let der = Base64::decode_vec(log.value(intent)["body"]["tbs"]["der"].as_str().unwrap()).unwrap();
        let (_, tbs) = TbsCertificate::from_der(&der).unwrap();
        (intent, hex::encode(tbs.raw_serial()), is_abandoned(intent))
    };
    log.all("intent").into_iter().map(read).collect()
}

#[test]
fn what_is_asked_for_stands_in_the_log_under_its_intent() {
    let place = Place::new();
    let (signed, abandoned): (Vec<_>, Vec<_>) = intents().into_iter().partition(|(_, _, given_up)| !given_up);
    let serials: Vec<_> = signed.iter().map(|(_, serial, _)| serial.clone()).collect();
    let issuer = place.path("issuer.pem");
    let file = place.path("asked.der");
    for hash in ["-sha1", "-sha256", "-sha384", "-sha512"] {
        for more in [&[][..], &["-no_nonce"]] {
            fs::write(&file, place.request(&issuer, hash, &serials, more)).unwrap();
            let told = place.json(&file, 0);
            let found: Vec<_> = told.iter().map(|told| told["index"].as_u64().unwrap()).collect();
            assert_eq!(found, signed.iter().map(|(intent, _, _)| *intent).collect::<Vec<_>>());
            assert!(told.iter().all(|told| told["outcome"] == "signed" && told["alarm"] == false));
        }
    }
    let ran = place.reconcile(&[&file], &[]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains(&format!("serial {}: entry {}", serials[0], signed[0].0)), "{text}");
    // Nothing should carry that serial number, and somebody has it.
    let (intent, serial, _) = &abandoned[0];
    fs::write(&file, place.ask(std::slice::from_ref(serial))).unwrap();
    let told = place.json(&file, 5);
    assert_eq!((&told[0]["index"], &told[0]["outcome"]), (&json!(intent), &json!("abandoned")));
}

#[test]
fn a_serial_number_that_the_log_does_not_know_is_an_alarm() {
    let place = Place::new();
    let (_, known, _) = &intents()[0];
    let mut other = hex::decode(known).unwrap();
    *other.last_mut().unwrap() ^= 1;
    let file = place.path("asked.der");
    for hash in ["-sha1", "-sha256"] {
        for unknown in [hex::encode(&other), format!("{known}00"), "01".into(), "00".into(), "ff".repeat(20)]
        {
            let request = place.request(&place.path("issuer.pem"), hash, &[known.clone(), unknown], &[]);
            fs::write(&file, request).unwrap();
            let told = place.json(&file, 5);
            assert_eq!((&told[0]["alarm"], &told[1]["alarm"]), (&json!(false), &json!(true)));
            assert_eq!(told[1]["standing"], "unlogged");
        }
    }
    let ran = place.reconcile(&[&file], &[]);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("ALARM: asked for as issued by the key"));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("1 requests are for certificates that the log"));
}

#[test]
fn what_others_issued_is_foreign() {
    let place = Place::new();
    let (_, known, _) = &intents()[0];
    let (key, issuer) = (place.path("other.key"), place.path("other.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=other", "-keyout"]).arg(&key).arg("-out").arg(&issuer);
    assert!(openssl.output().unwrap().status.success());
    let file = place.path("asked.der");
    fs::write(&file, place.request(&issuer, "-sha256", &[known.clone(), "77".into()], &[])).unwrap();
    let told = place.json(&file, 0);
    assert!(told.iter().all(|told| told["standing"] == "foreign" && told["alarm"] == false), "{told:?}");
}

#[test]
fn logs_of_requests_are_read_line_by_line() {
    let place = Place::new();
    let intents = intents();
    let (known, given_up) = (intents[0].1.clone(), intents.iter().find(|intent| intent.2).unwrap().1.clone());
    let base64 = Base64::encode_string(&place.ask(std::slice::from_ref(&known)));
    let encoded = base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let lines = [
        "# a comment".to_owned(),
        base64.clone(),
        base64.trim_end_matches('=').to_owned(),
        hex::encode(place.ask(std::slice::from_ref(&known))),
        hex::encode(place.ask(std::slice::from_ref(&known))).to_uppercase(),
        Base64UrlUnpadded::encode_string(&place.ask(std::slice::from_ref(&known))),
        String::new(),
        format!("/{encoded}"),
        format!("/ocsp/prod/i1/{encoded}"),
        format!("/ocsp/{base64}"),
        format!("GET /ocsp/{encoded} HTTP/1.1"),
    ];
    let file = place.path("requests.log");
    fs::write(&file, lines.join("\r\n")).unwrap();
    let told = place.json(&file, 0);
    assert_eq!(told.len(), 9, "{told:?}");
    assert!(told.iter().all(|told| told["index"] == intents[0].0), "{told:?}");
    assert_eq!((&told[0]["line"], &told[8]["line"]), (&json!(2), &json!(11)));
    // Strangers write what they like, and hide nothing by it.
    let unknown = Base64::encode_string(&place.ask(&["77".into()]));
    let given_up = Base64::encode_string(&place.ask(&[given_up]));
    fs::write(&file, ["/favicon.ico", "zz", "00", &base64, &unknown, "../../etc", &given_up].join("\n"))
        .unwrap();
    let told = place.json(&file, 5);
    let standings: Vec<_> = told.iter().map(|told| told["standing"].as_str().unwrap()).collect();
    assert_eq!(standings, ["unread", "unread", "unread", "logged", "unlogged", "unread", "logged"]);
    assert_eq!(told.iter().filter(|told| told["alarm"] == true).count(), 2);
    // A folder of them, and a file that is none.
    let folder = place.path("requests");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("1.der"), place.ask(std::slice::from_ref(&known))).unwrap();
    fs::write(folder.join("2.log"), &base64).unwrap();
    assert_eq!(place.json(&folder, 0).len(), 2);
    for (content, status) in
        [(&b"nothing\nof that kind"[..], 2), (&[0xff, 0xfe], 2), (b"", 0), (b"# empty\n", 0)]
    {
        fs::write(&file, content).unwrap();
        let ran = place.reconcile(&[&folder, &file], &[]);
        assert_eq!(ran.status.code(), Some(status), "{content:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    assert_eq!(place.reconcile(&[&place.path("nowhere")], &[]).status.code(), Some(2));
    assert_eq!(place.reconcile(&[], &[]).status.code(), Some(2));
}

#[test]
fn what_is_no_request_is_none() {
    let place = Place::new();
    let request = place.ask(&["77".into()]);
    let log = &INSTALLATION.prod;
    let register =
        Register::read(&undercroft_log_files::Folder::new(place.path("log")), &log.verifier()).unwrap();
    let asked = AskedFor::read(&request).unwrap();
    assert_eq!((asked.len(), asked[0].serial()), (1, &[0x77][..]));
    assert!(register.asked_for(&asked[0]).is_an_alarm());
    for end in 0..request.len() {
        assert!(AskedFor::read(&request[..end]).is_err(), "{end}");
    }
    assert!(AskedFor::read(&[&request[..], &[0]].concat()).is_err());
    // Wherever a bit is turned: it is read or not, and nothing else.
    for at in 0..8 * request.len() {
        let mut turned = request.clone();
        turned[at / 8] ^= 1 << (at % 8);
        AskedFor::read(&turned).ok();
    }
    // An issuer that is named by MD5.
    let md5 = place.request(&place.path("issuer.pem"), "-md5", &["77".into()], &[]);
    assert_eq!(AskedFor::read(&md5).unwrap(), []);
    assert!(AskedFor::read(INSTALLATION.intermediate.der()).is_err());
}

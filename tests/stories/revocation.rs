//! Taken back and given back: what the daemon publishes, as OpenSSL, GnuTLS and pkilint see it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use e2e::{Ran, Tool};
use undercroft_ca::certificate::to_pem;
use undercroft_log::leaf::{Body, Object, OutcomeResult, Reason, RevocationEvent};

use crate::judges::{judge_certificates, judge_crls, judge_ocsp, verify_py};
use crate::place::{Place, bodies};

/// How long something that is to be published may take.
const PATIENCE: Duration = Duration::from_secs(60);

const TABLE: &str = r#"
[domain.authority.revocation]
crl-lifetime = "1d"
delta-lifetime = "1h"
ocsp-key = "pkcs11:token=prod;object=ocsp"
ocsp-algorithm = "ecdsa-p256"
"#;

/// An installation that publishes the revocations of `prod.example`.
struct Published {
    place: Place,
    address: String,
}

impl Published {
    fn new() -> Self {
        let mut place = Place::prod();
        place.stop();
        let environment = ("UNDERCROFT_ENVIRONMENT".to_owned(), place.site.devices().display().to_string());
        let create = Tool::ours("undercroft").unwrap().with(&place.site.variables()).with(&[environment]);
        let create = create.args(["keys", "create", "pkcs11:token=prod;object=ocsp"]);
        let create = create.args(["--algorithm", "ecdsa-p256", "--name", "ocsp", "--out"]);
        create.arg(place.path("ocsp")).done().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let configuration = place.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&configuration).unwrap();
        let text = text.replace("admin-socket =", &format!("logs = \"{address}\"\nadmin-socket ="));
        let urls = r#"certificate = "http://pki.ca.example/prod/i1.cer" }"#;
        let more = r#"certificate = "http://pki.ca.example/prod/i1.cer", ocsp = "http://pki.ca.example/prod/ocsp", crl-shards = 2 }"#;
        assert!(text.contains(urls));
        fs::write(&configuration, text.replace(urls, &format!("{more}\n{TABLE}"))).unwrap();
        place.start();
        Self { place, address }
    }

    /// What is at a path, once `is_it` says that it is what is waited for.
    fn wait_for(&self, path: &str, is_it: impl Fn(&Answer) -> bool) -> Answer {
        let rest = Duration::from_millis(50);
        let mut last = None;
        for _ in 0..PATIENCE.as_millis() / rest.as_millis() {
            match get(&self.address, path, "") {
                answer if is_it(&answer) => return answer,
                answer => last = Some(answer),
            }
            std::thread::sleep(rest);
        }
        panic!("{path} is not what it should be: {last:?}\n{}", self.place.daemon().logged());
    }

    /// A CRL, once its text has every one of `parts`. In DER, in a file below the site.
    fn crl(&self, name: &str, parts: &[&str]) -> PathBuf {
        let file = self.place.path("published").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        self.wait_for(&format!("/prod/{name}"), |answer| {
            fs::write(&file, &answer.body).unwrap();
            answer.status == 200 && parts.iter().all(|part| self.text(&file).contains(part))
        });
        file
    }

    fn text(&self, crl: &std::path::Path) -> String {
        let openssl = Tool::foreign("openssl").args(["crl", "-inform", "DER", "-noout", "-text", "-in"]);
        openssl.arg(crl).run().unwrap().stdout
    }

    fn revoke(&self, arguments: &[&str]) -> Ran {
        let arguments = [&["revoke", "--domain", "prod.example"], arguments].concat();
        self.place.site.administer(&arguments).unwrap().run().unwrap()
    }

    fn certificate(&self, name: &str) -> String {
        self.place.path(name).join("leaf.pem").display().to_string()
    }

    /// What `openssl ocsp` says of a certificate, once that has `part` in it.
    fn ocsp(&self, name: &str, part: &str) -> Ran {
        let rest = Duration::from_millis(50);
        let mut last = None;
        for _ in 0..PATIENCE.as_millis() / rest.as_millis() {
            let ran = self.ask(name, &[]);
            if ran.status == 0 && ran.stdout.contains(part) {
                assert!(ran.stderr.contains("Response verify OK"), "{ran:?}");
                return ran;
            }
            last = Some(ran);
            std::thread::sleep(rest);
        }
        panic!("{last:?}\n{}", self.place.daemon().logged());
    }

    fn ask(&self, name: &str, more: &[&str]) -> Ran {
        let both = self.place.path("both.pem");
        let pems = ["prod.example/root.pem", "prod.example/intermediate.pem"]
            .map(|name| fs::read_to_string(self.place.path(name)).unwrap());
        fs::write(&both, pems.concat()).unwrap();
        let openssl = Tool::foreign("openssl").args(["ocsp", "-issuer"]).args(more);
        let openssl = if more.is_empty() {
            openssl.arg(self.place.path("prod.example/intermediate.pem"))
        } else {
            openssl
        };
        let openssl = openssl.arg("-cert").arg(self.certificate(name)).arg("-CAfile").arg(&both);
        openssl.arg("-url").arg(format!("http://{}/prod/ocsp", self.address)).run().unwrap()
    }

    /// `openssl verify` of a certificate with a base and its delta.
    fn verify(&self, name: &str, crls: &[PathBuf]) -> Ran {
        let mut all = String::new();
        for crl in crls {
            all += &to_pem("X509 CRL", &fs::read(crl).unwrap()).unwrap();
        }
        let crls = self.place.path("crls.pem");
        fs::write(&crls, all).unwrap();
        let openssl = Tool::foreign("openssl");
        let openssl = openssl.args(["verify", "-crl_check", "-extended_crl", "-use_deltas", "-CAfile"]);
        let openssl = openssl.arg(self.place.path("prod.example/root.pem")).arg("-untrusted");
        let openssl = openssl.arg(self.place.path("prod.example/intermediate.pem")).arg("-CRLfile").arg(crls);
        openssl.arg(self.certificate(name)).run().unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

fn exchange(address: &str, request: &[u8]) -> Answer {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return Answer { status: 0, head: "no connection".into(), body: Vec::new() };
    };
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // The other side may have closed before it read all that was sent.
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head, body: answer.get(end + 4..).unwrap_or_default().to_vec() }
}

pub(crate) fn get(address: &str, path: &str, headers: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    exchange(address, request.as_bytes())
}

fn post(address: &str, path: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    exchange(address, &[head.as_bytes(), body].concat())
}

/// The value of a header.
fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let line = answer.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name}: {}", answer.head))
}

fn max_age(answer: &Answer) -> u64 {
    let control = header(answer, "cache-control");
    let age = control.split(',').find_map(|part| part.trim().strip_prefix("max-age="));
    age.unwrap_or_else(|| panic!("{control}")).parse().unwrap()
}

#[test]
fn what_is_taken_back_is_told_by_crls_deltas_and_ocsp_until_it_is_given_back() {
    let mut published = Published::new();
    let place = &published.place;
    place.issue("prod.example", "one", &[]).expect(0).unwrap();
    place.issue("prod.example", "two", &[]).expect(0).unwrap();
    let text = Tool::foreign("openssl").args(["x509", "-noout", "-text", "-in"]);
    let text = text.arg(published.certificate("one")).done().unwrap().stdout;
    let shard = ["i1-0.crl", "i1-1.crl"].into_iter().find(|name| text.contains(name)).unwrap();
    let delta = shard.replace(".crl", "-delta.crl");
    assert!(text.contains("OCSP - URI:http://pki.ca.example/prod/ocsp"), "{text}");

    // Good.
    published.ocsp("one", "leaf.pem: good");
    let base = published.crl(shard, &["No Revoked Certificates", "Issuing Distribution Point: critical"]);
    let first = published.crl(&delta, &["Delta CRL Indicator: critical"]);
    published.verify("one", &[base.clone(), first.clone()]).expect(0).unwrap();
    // OpenSSL does not take the shard of others for its own.
    let other = published.crl(if shard == "i1-0.crl" { "i1-1.crl" } else { "i1-0.crl" }, &[]);
    published.verify("one", &[other]).expect(2).unwrap();

    // Nothing is done that is only asked about.
    let certificate = published.certificate("one");
    let said = published.revoke(&["--certificate", &certificate, "--hold", "--dry-run"]);
    said.expect(0).unwrap().says("would be put on hold").unwrap();
    published
        .revoke(&["--certificate", &certificate, "--release"])
        .expect(4)
        .unwrap()
        .says("not on hold")
        .unwrap();

    // On hold.
    published
        .revoke(&["--certificate", &certificate, "--hold"])
        .expect(0)
        .unwrap()
        .says("is on hold")
        .unwrap();
    published.ocsp("one", "leaf.pem: revoked").says("certificateHold").unwrap();
    published.ocsp("two", "leaf.pem: good");
    let held = published.crl(&delta, &["Certificate Hold"]);
    published.verify("one", &[base.clone(), held]).expect(2).unwrap().says("revoked").unwrap();
    published
        .revoke(&["--certificate", &certificate, "--hold"])
        .expect(4)
        .unwrap()
        .says("on hold since")
        .unwrap();

    // Released.
    let said = published.revoke(&["--certificate", &certificate, "--release"]);
    said.expect(0).unwrap().says("is released").unwrap();
    published.ocsp("one", "leaf.pem: good");
    let released = published.crl(&delta, &["Remove From CRL"]);
    published.verify("one", &[base.clone(), released.clone()]).expect(0).unwrap();

    // Revoked, for ever.
    let reason = ["--certificate", &certificate, "--reason", "key-compromise"];
    published.revoke(&reason).expect(0).unwrap().says("is revoked").unwrap();
    published.ocsp("one", "leaf.pem: revoked").says("keyCompromise").unwrap();
    let revoked = published.crl(&delta, &["Key Compromise"]);
    published.verify("one", &[base.clone(), revoked.clone()]).expect(2).unwrap().says("revoked").unwrap();
    published.revoke(&reason).expect(4).unwrap().says("revoked since").unwrap();
    let release = published.revoke(&["--certificate", &certificate, "--release"]);
    release.expect(4).unwrap().says("for ever").unwrap();

    // GnuTLS asks, too.
    let gnutls = Tool::foreign("ocsptool").arg(format!("--ask=http://{}/prod/ocsp", published.address));
    let gnutls = gnutls.arg("--load-cert").arg(published.certificate("one")).arg("--load-issuer");
    let gnutls = gnutls.arg(place.path("prod.example/intermediate.pem")).arg("--load-trust");
    let gnutls = gnutls.arg(place.path("both.pem")).arg("--outfile").arg(place.path("response.der"));
    let said = gnutls.run().unwrap();
    let said = said.stdout + &said.stderr;
    assert!(said.contains("Verifying OCSP Response: Success") && said.contains("revoked"), "{said}");
    judge_ocsp(&place.path("response.der"));

    // The complete CRL follows when there are no deltas any more; after a restart, what was published still is.
    let before = get(&published.address, "/prod/i1.crl", "").body;
    published.place.stop();
    published.place.start();
    let after = published.wait_for("/prod/i1.crl", |answer| answer.status == 200);
    assert_eq!(after.body, before);
    published.place.stop();
    let configuration = published.place.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("delta-lifetime = \"1h\"\n", "")).unwrap();
    published.place.start();
    let whole = published.crl("i1.crl", &["Key Compromise"]);
    assert!(!published.text(&whole).contains("Freshest CRL"));
    let intermediate = published.place.path("prod.example/intermediate.pem");
    judge_crls(&[base, first, released, revoked, whole].map(|crl| (crl, intermediate.clone())));
    published
        .verify("one", &[published.place.path("published/i1.crl")])
        .expect(2)
        .unwrap()
        .says("revoked")
        .unwrap();
    published.verify("two", &[published.place.path("published/i1.crl")]).expect(0).unwrap();

    published.place.export_and_audit();
    let log = published.place.path("prod.example/log");
    verify_py(&[std::path::Path::new("log"), &log, &published.place.path("prod.example/log.vkey")])
        .expect(0)
        .unwrap();
    let log = bodies(&log);
    let events: Vec<_> = log
        .iter()
        .filter_map(|body| match body {
            Body::Revocation(revocation) => Some((revocation.event, revocation.reason)),
            _ => None,
        })
        .collect();
    assert_eq!(
        events,
        [
            (RevocationEvent::Hold, None),
            (RevocationEvent::Release, None),
            (RevocationEvent::Revoke, Some(Reason::KeyCompromise))
        ]
    );
    let batches =
        log.iter().filter(|body| matches!(body, Body::Intent(it) if it.object == Object::OcspResponses));
    let signed = log.iter().filter(
        |body| matches!(body, Body::Outcome(it) if matches!(it.result, OutcomeResult::Signatures(_))),
    );
    assert!(batches.count() == signed.count());
    let refusals = published.place.refusals("prod.example");
    let rules: Vec<_> = refusals.iter().map(|refusal| &*refusal.rule).collect();
    assert_eq!(rules, ["release-not-held", "revocation-twice", "revocation-twice", "release-not-held"]);
    // The responder's own certificate.
    let responder =
        Tool::foreign("openssl").args(["ocsp", "-respin"]).arg(published.place.path("response.der"));
    let responder = responder.args(["-noverify", "-resp_text"]).done().unwrap().stdout;
    let begin = responder.find("-----BEGIN CERTIFICATE").unwrap();
    let end = responder.find("-----END CERTIFICATE-----").unwrap() + "-----END CERTIFICATE-----".len();
    let pem = published.place.path("responder.pem");
    fs::write(&pem, format!("{}\n", &responder[begin..end])).unwrap();
    judge_certificates(&[pem]);
    published.place.stop();
}

#[test]
fn what_cannot_be_taken_back_is_refused_and_what_is_no_question_gets_no_answer() {
    let mut published = Published::new();
    published.place.issue("prod.example", "one", &[]).expect(0).unwrap();
    let certificate = published.certificate("one");
    let serial = "17".repeat(16);
    for (arguments, status, part) in [
        (&["--serial", &*serial][..], 4, "has issued no certificate"),
        (&["--serial", "17"], 2, "32 hexadecimal digits"),
        (&["--serial", &"ff".repeat(16)], 2, "32 hexadecimal digits"),
        (&["--certificate", &certificate, "--reason", "ca-compromise"], 4, "no CA certificate"),
        (&["--certificate", &certificate, "--reason", "remove-from-crl"], 2, "is no reason"),
        (&["--certificate", &certificate, "--reason", "certificate-hold"], 2, "is no reason"),
        (&["--certificate", &certificate, "--reason", "superseded", "--hold"], 2, "cannot be used with"),
        (&["--certificate", &certificate, "--hold", "--release"], 2, "cannot be used with"),
        (&["--certificate", &certificate, "--serial", &serial], 2, "cannot be used with"),
        (&["--certificate", &certificate, "--authority", "i9"], 4, "no authority `i9`"),
        (&["--spiffe-id", "spiffe://prod.example/nobody"], 4, "no live certificate"),
        (&[], 2, "required"),
    ] {
        let ran = published.revoke(arguments);
        assert_eq!(ran.status, status, "{ran:?}");
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    // The same certificate in another domain's name.
    let other = published.place.site.administer(&[
        "revoke",
        "--domain",
        "control.example",
        "--certificate",
        &certificate,
    ]);
    other.unwrap().run().unwrap().expect(4).unwrap().says("has issued no certificate").unwrap();
    let all = published.revoke(&["--spiffe-id", "spiffe://prod.example/ns/pay/sa/ledger", "--dry-run"]);
    all.expect(0).unwrap().says("would be revoked").unwrap();

    // OCSP.
    published.ocsp("one", "leaf.pem: good");
    let address = &published.address;
    let malformed = [0x30, 0x03, 0x0a, 0x01, 0x01];
    let unauthorized = [0x30, 0x03, 0x0a, 0x01, 0x06];
    for garbage in [&b""[..], b"garbage", &[0x30, 0x00], &[0x30, 0x82, 0xff, 0xff]] {
        let answer = post(address, "/prod/ocsp", garbage);
        assert_eq!((answer.status, &answer.body[..]), (200, &malformed[..]), "{garbage:?}");
        assert_eq!(header(&answer, "cache-control"), "no-store");
    }
    assert_eq!(post(address, "/prod/ocsp", &[0x30; 5000]).status, 413);
    assert_eq!(get(address, "/prod/ocsp/%%%", "").body, malformed);
    assert_eq!(get(address, &format!("/prod/ocsp/{}", "A".repeat(9000)), "").status, 414);
    assert_eq!(get(address, "/prod/nothing.crl", "").status, 404);
    assert_eq!(post(address, "/prod/i1.crl", b"x").status, 405);

    // Whose issuer is another, and what was never issued.
    let control = published.place.path("control/intermediate.pem");
    let request = published.place.path("request.der");
    let of = |arguments: &[&str]| {
        let openssl = Tool::foreign("openssl").args(["ocsp", "-no_nonce", "-reqout"]).arg(&request);
        openssl.args(arguments).done().unwrap();
        fs::read(&request).unwrap()
    };
    let intermediate = published.place.path("prod.example/intermediate.pem").display().to_string();
    let other = of(&["-issuer", control.to_str().unwrap(), "-cert", &certificate]);
    assert_eq!(post(address, "/prod/ocsp", &other).body, unauthorized);
    let never = of(&["-issuer", &intermediate, "-serial", &format!("0x{serial}")]);
    assert_eq!(post(address, "/prod/ocsp", &never).body, unauthorized);
    let two = of(&["-issuer", &intermediate, "-cert", &certificate, "-cert", &certificate]);
    assert_eq!(post(address, "/prod/ocsp", &two).body, unauthorized);

    // By POST and by GET, with SHA-1 and with SHA-256, it is one response, and caches may keep it as long as it is good.
    let sha1 = of(&["-issuer", &intermediate, "-cert", &certificate]);
    let sha256 = of(&["-sha256", "-issuer", &intermediate, "-cert", &certificate]);
    let answer = post(address, "/prod/ocsp", &sha1);
    assert_eq!(header(&answer, "content-type"), "application/ocsp-response");
    assert!((1..=3600).contains(&max_age(&answer)), "{}", answer.head);
    for name in ["last-modified", "expires"] {
        assert!(header(&answer, name).ends_with(" gmt"), "{}", answer.head);
    }
    assert_eq!(post(address, "/prod/ocsp", &sha256).body, answer.body);
    let path = base64(&sha1).replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    let by_get = get(address, &format!("/prod/ocsp/{path}"), "");
    assert_eq!(by_get.body, answer.body);
    let known = format!("If-None-Match: {}\r\n", header(&by_get, "etag"));
    let again = get(address, &format!("/prod/ocsp/{path}"), &known);
    assert_eq!((again.status, again.body.len()), (304, 0));

    let crl = published.wait_for("/prod/i1.crl", |answer| answer.status == 200);
    assert_eq!(header(&crl, "content-type"), "application/pkix-crl");
    assert!((1..=60).contains(&max_age(&crl)), "{}", crl.head);
    let known = format!("If-None-Match: {}\r\n", header(&crl, "etag"));
    assert_eq!(get(address, "/prod/i1.crl", &known).status, 304);
    let certificate = get(address, "/prod/i1.cer", "");
    assert_eq!(header(&certificate, "content-type"), "application/pkix-cert");
    let pem = to_pem("CERTIFICATE", &certificate.body).unwrap();
    assert_eq!(pem, fs::read_to_string(&intermediate).unwrap());
    published.place.stop();
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};
    Base64::encode_string(bytes)
}

/// What contradicts itself is refused at start, by name.
#[test]
fn a_configuration_that_publishes_what_nobody_could_use_does_not_start() {
    let mut published = Published::new();
    published.place.stop();
    let configuration = published.place.path("daemon/undercroft.toml");
    let good = fs::read_to_string(&configuration).unwrap();
    let listens = format!("logs = \"{}\"\n", published.address);
    for (from, to, part) in [
        ("crl-shards = 2", "crl-shards = 3", "crl-shards was 2"),
        ("crl-shards = 2", "crl-shards = 1", "2 to 1024 shards"),
        (TABLE, "", "crl-shards is set"),
        (&*listens, "", "nothing is served"),
        ("delta-lifetime = \"1h\"", "delta-lifetime = \"1d\"", "shorter than crl-lifetime"),
        ("delta-lifetime = \"1h\"", "delta-lifetime = \"59s\"", "shorter than a minute"),
        ("ocsp-algorithm = \"ecdsa-p256\"\n", "", "a responder has ocsp-key"),
        ("object=ocsp\"", "object=intermediate-i1\"", "the authority's own key"),
        ("object=ocsp\"", "object=nothing\"", "object=nothing"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        fs::write(&configuration, text).unwrap();
        let ran = published.place.site.serve().unwrap().run().unwrap();
        assert!([2, 3].contains(&ran.status), "{from}: {ran:?}");
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    fs::write(&configuration, good).unwrap();
    published.place.start();
    published.place.stop();
}

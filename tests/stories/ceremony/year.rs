//! A PKI team's year, by the clock of a simulated year: the first ceremony, a SPIRE CA below it, a CRL that is renewed, a root that is rotated, an
//! intermediate that is replaced in an emergency, and the end of the old root's key. Each is rehearsed, approved, run,
//! approved again and verified, and continues the one before.
//!
//! `make ceremony` leaves everything in target/ceremony/, with a report of each.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Domain, Tool};
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use undercroft_log::leaf::Digest;

use super::formal::{Formal, faketime};
use super::ocsp;

#[test]
fn a_year() {
    let mut year = Year::new();
    let (day, end) = (year.day(0), year.day(395));

    // The first ceremony is that of the site: a root for each domain, intermediates and CRLs, and which roots there are.
    year.site.state_roots(&["prod.example"]);
    year.hold("first", 0, &[]);
    let root = year.site.path("prod.example/root.pem");
    year.accepts(&root, &[], "prod.example/intermediate.pem", 1);
    // Below it the daemon makes the CAs of SPIRE servers, which live for a day.
    let spire = year.site.spire_ca("ceremonies/first");
    year.accepts_now(&root, &["prod.example/intermediate.pem"], &spire);

    // Half a year later the CRL is about to end.
    let existing = year.existing("prod-root", "prod-root-r1", "prod.example/root.pem");
    let crl = |number: u32, from: u32, until: u32, output: &str, issuer: &str, revoked: &str, year: &Year| {
        format!(
            "\n[[crl]]\nname = \"crl-{number}\"\nissuer = \"{issuer}\"\nnumber = {number}\nthis-update = {}\nnext-update = {}\nrevoked = [{revoked}]\nfollows = \"CP 1.0 section 7.2\"\noutput = \"{output}\"\n",
            year.day(from),
            year.day(until)
        )
    };
    let renewed = crl(2, 170, 350, "prod.example/root-2.crl", "prod-root", "", &year);
    year.write_plan("half-year", &[&existing, &renewed]);
    year.hold("half-year", 170, &[]);
    let text = Tool::foreign("openssl").args(["crl", "-inform", "DER", "-noout", "-crlnumber", "-in"]);
    text.arg(year.site.path("prod.example/root-2.crl")).done().unwrap().says("2").unwrap();

    // The root is rotated: a new one, cross-certificates in both directions, and an intermediate under the new one.
    year.create_key("intermediate-i2", "intermediate-2");
    let ends = "2046-01-01T00:00:00Z";
    let made = format!(
        r#"
[[root]]
name = "prod-root-2"
domains = ["prod.example"]
key = {{ device = "roots", label = "prod-root-r2", algorithm = "ecdsa-p384" }}
subject = {{ organization = "Example", common-name = "prod.example Root R2" }}
not-before = {at}
not-after = {ends}
urls = {{ crl = "http://pki.ca.example/prod/r2.crl", certificate = "http://pki.ca.example/prod/r2.cer" }}
follows = "CP 1.0 section 5.6"
output = "prod.example/root-2.pem"
"#,
        at = year.day(200)
    );
    let cross = |name: &str, issuer: &str, subject: &str, year: &Year| {
        format!(
            "\n[[cross-certificate]]\nname = \"{name}\"\nissuer = \"{issuer}\"\nsubject = \"{subject}\"\nnot-before = {}\nnot-after = {}\nfollows = \"CP 1.0 section 5.6\"\noutput = \"prod.example/{name}.pem\"\n",
            year.day(200),
            year.day(900)
        )
    };
    let intermediate = |name: &str, request: &str, at: u32, year: &Year| {
        format!(
            "\n[[intermediate]]\nname = \"{name}\"\ndomain = \"prod.example\"\nissuer = \"prod-root-2\"\nrequest = \"prod.example/{request}\"\nalgorithm = \"ecdsa-p256\"\nsubject = {{ organization = \"Example\", common-name = \"prod.example {name}\" }}\nnot-before = {}\nnot-after = {}\nfollows = \"CP 1.0 section 7.1.2\"\noutput = \"prod.example/{name}.pem\"\n",
            year.day(at),
            year.day(at + 360)
        )
    };
    let parts = [
        existing.clone(),
        made,
        cross("new-by-old", "prod-root", "prod-root-2", &year),
        cross("old-by-new", "prod-root-2", "prod-root", &year),
        intermediate("intermediate-2", "intermediate-2", 200, &year),
        crl(1, 200, 380, "prod.example/r2-1.crl", "prod-root-2", "", &year),
        format!(
            "\n[[bundle-statement]]\nname = \"both-roots\"\ndomain = \"prod.example\"\nnumber = 2\nroots = [\"prod-root\", \"prod-root-2\"]\nnot-before = {}\nnot-after = {}\nfollows = \"CP 1.0 section 6.1.4\"\noutput = \"prod.example/roots-2.json\"\n",
            year.day(200),
            year.day(900)
        ),
    ];
    year.write_plan("rotation", &parts.iter().map(String::as_str).collect::<Vec<_>>());
    year.hold("rotation", 200, &[]);
    let new_root = year.site.path("prod.example/root-2.pem");
    year.accepts(&new_root, &[], "prod.example/intermediate-2.pem", 201);
    // Who knows only one of the roots accepts what is below the other.
    year.accepts(&root, &["prod.example/new-by-old.pem"], "prod.example/intermediate-2.pem", 201);
    year.accepts(&new_root, &["prod.example/old-by-new.pem"], "prod.example/intermediate.pem", 201);

    // An intermediate's key is in doubt: another is signed, and the first revoked, on the same day.
    year.create_key("intermediate-i3", "intermediate-3");
    let second = year.existing("prod-root-2", "prod-root-r2", "prod.example/root-2.pem");
    // From now on a responder answers for what is below that root.
    let second =
        second.replace("root.cer\" }", "root.cer\", ocsp = \"http://pki.ca.example/prod/r2/ocsp\" }");
    ocsp::create_key(&year.site);
    let signer = format!(
        "\n[[ocsp-signer]]\nname = \"r2-ocsp\"\nissuer = \"prod-root-2\"\nrequest = \"prod.example/ocsp\"\nalgorithm = \"ecdsa-p256\"\nsubject = {{ organization = \"Example\", common-name = \"prod.example Root R2 OCSP\" }}\nnot-before = {}\nnot-after = {}\nfollows = \"CP 1.0 section 7.3\"\noutput = \"prod.example/r2-ocsp.pem\"\n",
        year.day(231),
        year.day(321)
    );
    let revoked = format!(
        "{{ serial = \"{}\", date = {}, reason = \"ca-compromise\" }}",
        serial(&year.site.path("prod.example/intermediate-2.pem")),
        year.day(230)
    );
    let parts = [
        second.clone(),
        intermediate("intermediate-3", "intermediate-3", 231, &year),
        signer,
        crl(2, 231, 400, "prod.example/r2-2.crl", "prod-root-2", &revoked, &year),
    ];
    year.write_plan("emergency", &parts.iter().map(String::as_str).collect::<Vec<_>>());
    year.hold("emergency", 231, &[]);
    year.revoked("prod.example/r2-2.crl", "prod.example/intermediate-2.pem", 232);
    ocsp::answers(&year.site, &|day, hour| faketime(&year.at(day, hour)));

    // The old root has drained. Its cards are destroyed by people, its key by the token.
    let key = Tool::ours("undercroft").unwrap().args(["keys", "list", "--environment"]);
    let key = key.arg(year.site.path("ceremony/environment.toml")).args(["--output", "json"]);
    let listed = key.with(&year.site.variables()).done().unwrap().stdout;
    assert!(listed.contains("prod-root-r1"), "{listed}");
    let parts = [
        "\n[[manual]]\nname = \"cards\"\ninstruction = \"shred the cards of the old root\"\nfollows = \"CP 1.0 section 6.2.10\"\n".to_owned(),
        format!(
            "\n[[destruction]]\nname = \"end-of-r1\"\nkey = {{ device = \"roots\", label = \"prod-root-r1\", algorithm = \"ecdsa-p384\" }}\nkey-id = \"{}\"\nfollows = \"CP 1.0 section 6.2.10\"\n",
            key_id(&root)
        ),
    ];
    year.write_plan("end", &parts.iter().map(String::as_str).collect::<Vec<_>>());
    year.hold("end", 390, &["--done", "cards"]);
    let key = Tool::ours("undercroft").unwrap().args(["keys", "list", "--environment"]);
    let key = key.arg(year.site.path("ceremony/environment.toml"));
    let listed = key.with(&year.site.variables()).done().unwrap().stdout;
    assert!(!listed.contains("prod-root-r1") && listed.contains("prod-root-r2"), "{listed}");
    assert!(day < end);
    year.keep();
}

#[test]
fn the_roster_is_changed_by_its_own_quorum_alone() {
    let mut year = Year::new();
    year.hold("first", 0, &[]);
    let existing = year.existing("prod-root", "prod-root-r1", "prod.example/root.pem");
    year.header = year.header.replace("quorum = 2", "quorum = 1");
    year.write_plan("second", &[&existing]);
    let (_, previous) = year.previous.clone().unwrap();
    let run = || year.site.tool("run").arg("--previous").arg(&previous).run().unwrap();
    let refused = run().expect(4).unwrap().says("quorum 1 instead of 2").unwrap();
    assert!(refused.stderr.contains("undercroft-ceremony statement roster"), "{refused:?}");
    let statement = Tool::ours("undercroft-ceremony").unwrap().args(["statement", "roster"]);
    let statement = statement.arg(year.site.path("ceremony/plan.toml")).arg("--previous").arg(&previous);
    statement.arg("--approvals").arg(year.site.path("approvals")).done().unwrap();
    // One is enough for the new roster, and not for the old one.
    year.site.sign("roster", "alice");
    run().expect(4).unwrap().says("1 of the 2 persons").unwrap();
    year.site.sign("roster", "carol");
    run().expect(4).unwrap().says("carol asked for it").unwrap();
    year.site.take_back("roster", "carol");
    year.site.sign("roster", "bob");
    year.hold("second", 1, &[]);
}

/// What this ceremony leaves behind is tried out before the room is left.
#[test]
fn the_next_ceremony_is_rehearsed_before_this_one_closes() {
    let year = Year::new();
    let site = &year.site;
    site.change_plan("requester =", "rehearse-next = true\nrequester =");
    site.approved("plan");
    site.deviation("not-rehearsed", "a test");
    site.sign("deviation-1", "alice");
    site.sign("deviation-1", "bob");
    site.run().expect(6).unwrap().says("run again with --next").unwrap();
    assert!(!site.path("approvals/result.json").exists());

    // A plan that forgets one of the roots, and one that takes over all of them.
    let first = fs::read_to_string(site.path("ceremony/plan.toml")).unwrap();
    let prod = year.existing("prod-root", "prod-root-r1", "prod.example/root.pem");
    let control = year.existing("control-root", "control-root-r1", "control/root.pem");
    let control = control.replace("prod.example\"]", "control.example\"]");
    let next = |name: &str, parts: &[&str]| {
        year.write_plan_after(name, Digest::of(b"not known yet"), parts);
        site.rehearse_at(&[], &["--transcript", &format!("{}", site.path(name).display())])
            .expect(0)
            .unwrap();
        site.write("ceremony/next.toml", &fs::read_to_string(site.path("ceremony/plan.toml")).unwrap());
        site.write("ceremony/plan.toml", &first);
    };
    let run = |name: &str| site.tool("run").arg("--next").arg(site.path(name)).run().unwrap();
    next("forgetful", &[&prod]);
    run("forgetful")
        .expect(4)
        .unwrap()
        .says("no [[existing-root]] with the certificate of `control-root`")
        .unwrap();
    run("nowhere").expect(2).unwrap();
    let _ = fs::remove_dir_all(site.rehearsal("out"));
    next("next", &[&prod, &control]);
    run("next").expect(6).unwrap().says("result.json").unwrap();
    site.approved_result();
    site.run().expect(0).unwrap();
    assert!(site.transcript().contains(r#""event":"next-rehearsed""#));
    site.audited();
    // The auditor looks into it as well.
    let audit = |next: &str| {
        let transcript = site.path("ceremony/transcript");
        let tool = Tool::ours("undercroft-audit").unwrap().arg("ceremony").arg(&transcript);
        let tool = tool.arg("--plan").arg(site.path("ceremony/plan.toml")).arg("--key");
        let tool = tool.arg(transcript.join("log.vkey")).arg("--next").arg(site.path(next)).arg("--next-key");
        tool.arg(site.path(next).join("log.vkey")).arg("--development").run().unwrap()
    };
    audit("next").expect(0).unwrap().says("with the roots").unwrap();
    let other = audit("forgetful").expect(5).unwrap();
    for rule in ["next-head", "next-roots"] {
        assert!(other.stdout.contains(rule), "{rule}: {}", other.stdout);
    }
}

struct Year {
    site: Formal,
    begins: Date,
    /// The head of the transcript of the ceremony before, and where that is.
    previous: Option<(Digest, PathBuf)>,
    header: String,
}

impl Year {
    fn new() -> Self {
        let site = Formal::with(vec![Domain::softhsm("prod.example", "ecdsa-p256")]);
        let plan = fs::read_to_string(site.path("ceremony/plan.toml")).unwrap();
        // The first plan's validity begins today.
        let begins = plan.split("not-before = ").nth(1).unwrap().get(..10).unwrap().parse().unwrap();
        let terms = plan.split("\n[[device]]").nth(1).unwrap();
        let header = format!("\n[[device]]{terms}");
        Self { site, begins, previous: None, header }
    }

    /// Midnight of a day of the year.
    fn day(&self, number: u32) -> String {
        let date = self.begins.checked_add(Span::new().days(i64::from(number))).unwrap();
        format!("{date}T00:00:00Z")
    }

    /// An hour of a day, as libfaketime wants it.
    fn at(&self, day: u32, hour: u32) -> String {
        self.day(day).replace("T00:00:00Z", &format!(" {hour:02}:00:00"))
    }

    fn write_plan(&self, name: &str, parts: &[&str]) {
        let (head, _) = self.previous.as_ref().unwrap();
        self.write_plan_after(name, *head, parts);
    }

    fn write_plan_after(&self, name: &str, head: Digest, parts: &[&str]) {
        let entropy = Digest::of(name.as_bytes());
        let text = format!(
            "version = 1\ntitle = \"Ceremony {name} of Example\"\noperator = \"ca.example\"\nname = \"{name}\"\npolicy-arc = \"1.3.6.1.4.1.32473.1\"\nrequester = \"carol\"\nwindow = {{ begins = 2026-11-01T00:00:00Z, ends = 2098-12-31T00:00:00Z }}\ntranscript = {{ device = \"roots\", label = \"ceremony-log\" }}\nentropy = \"{entropy}\"\nprevious = \"{head}\"\n{}{}",
            parts.concat(),
            self.header
        );
        self.site.write("ceremony/plan.toml", &text);
    }

    /// A root that was made earlier in the year.
    fn existing(&self, name: &str, label: &str, certificate: &str) -> String {
        let pem = fs::read_to_string(self.site.path(certificate)).unwrap();
        format!(
            "\n[[existing-root]]\nname = \"{name}\"\ndomains = [\"prod.example\"]\nkey = {{ device = \"roots\", label = \"{label}\", algorithm = \"ecdsa-p384\" }}\ncertificate = \"\"\"{pem}\"\"\"\nurls = {{ crl = \"http://pki.ca.example/prod/root.crl\", certificate = \"http://pki.ca.example/prod/root.cer\" }}\nfollows = \"CP 1.0 section 5.6\"\n"
        )
    }

    fn create_key(&self, label: &str, name: &str) {
        let uri = format!("pkcs11:token=prod;object={label}");
        let tool =
            Tool::ours("undercroft").unwrap().args(["keys", "create", &uri, "--algorithm", "ecdsa-p256"]);
        let tool = tool.args(["--name", name, "--out"]).arg(self.site.path("ceremony/requests/prod.example"));
        let tool = tool.arg("--environment").arg(self.site.devices());
        tool.with(&self.site.variables()).done().unwrap();
    }

    /// Statement, signatures, rehearsal, run, signatures, and the auditor's word.
    fn hold(&mut self, name: &str, day: u32, more: &[&str]) {
        let time = faketime(&self.at(day, 9));
        let previous: Vec<PathBuf> = self.previous.iter().map(|(_, path)| path.clone()).collect();
        let previous: Vec<&str> =
            previous.iter().flat_map(|path| ["--previous", path.to_str().unwrap()]).collect();
        let plan = self.site.path("ceremony/plan.toml");
        let shown = Tool::ours("undercroft-ceremony").unwrap().arg("plan").arg(&plan).args(&previous);
        let shown = shown.done().unwrap();
        assert!(shown.stdout.contains("digest of the plan"), "{shown:?}");
        let statement = Tool::ours("undercroft-ceremony").unwrap().args(["statement", "plan"]).arg(&plan);
        let statement = statement.arg("--approvals").arg(self.site.path("approvals")).with(&time);
        statement.done().unwrap();
        self.site.sign("plan", "alice");
        self.site.sign("plan", "bob");
        self.site.rehearse_at(&time, more).expect(0).unwrap();
        let rehearsal = self.site.rehearsal("out/transcript");
        let run = |hour| {
            let run = self.site.tool("run").arg("--rehearsal").arg(&rehearsal).args(&previous).args(more);
            run.with(&faketime(&self.at(day, hour))).run().unwrap()
        };
        run(10).expect(6).unwrap().says("result.json").unwrap();
        self.site.approved_result();
        run(15).expect(0).unwrap();
        // The first ceremony makes the transcript's key, and the others find it.
        let told = self.site.transcript();
        let record = told.lines().find(|line| line.contains(r#""purpose":"the transcript""#)).unwrap();
        let event = if self.previous.is_some() { "opened" } else { "made" };
        assert!(record.contains(&format!(r#""event":"{event}""#)), "{record}");
        let kept = self.site.path(&format!("ceremonies/{name}"));
        fs::create_dir_all(&kept).unwrap();
        self.audited(&rehearsal, &kept);

        // Put away, for the next to begin with empty folders.
        fs::copy(&plan, kept.join("plan.toml")).unwrap();
        for folder in ["ceremony/transcript", "approvals"] {
            let path = self.site.path(folder);
            fs::rename(&path, kept.join(path.file_name().unwrap())).unwrap();
        }
        fs::create_dir_all(self.site.path("approvals")).unwrap();
        fs::rename(self.site.rehearsal("out"), kept.join("rehearsal")).unwrap();
        let note = fs::read_to_string(kept.join("transcript/checkpoint")).unwrap();
        let text = note.split("\n\n").next().unwrap().to_owned() + "\n";
        self.previous = Some((Digest::of(text.as_bytes()), kept.join("transcript")));
    }

    /// The auditor's verdict, with the rehearsal and the ceremony before, and the pages to print.
    fn audited(&self, rehearsal: &Path, kept: &Path) {
        let transcript = self.site.path("ceremony/transcript");
        let plan = self.site.path("ceremony/plan.toml");
        let mut tool = Tool::ours("undercroft-audit").unwrap().arg("ceremony").arg(&transcript);
        tool = tool.arg("--key").arg(transcript.join("log.vkey")).arg("--plan").arg(&plan);
        tool = tool
            .arg("--out")
            .arg(self.site.folder())
            .arg("--requests")
            .arg(self.site.path("ceremony/requests"));
        tool = tool.arg("--rehearsal").arg(rehearsal).arg("--rehearsal-key").arg(rehearsal.join("log.vkey"));
        if let Some((_, previous)) = &self.previous {
            tool = tool.arg("--previous").arg(previous).arg("--previous-key").arg(previous.join("log.vkey"));
        }
        let ran = tool.arg("--development").arg("--report").arg(kept.join("report.html")).done().unwrap();
        fs::write(kept.join("verdict.txt"), &ran.stdout).unwrap();
        let script = Tool::ours("undercroft-audit").unwrap().arg("ceremony-script").arg(&plan).arg("--out");
        script.arg(kept.join("script.html")).done().unwrap();
    }

    /// What `make ceremony` leaves for people to look at.
    fn keep(&self) {
        let Some(folder) = std::env::var_os("UNDERCROFT_CEREMONIES") else { return };
        let folder = PathBuf::from(folder);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        Tool::foreign("cp").arg("-a").arg(self.site.path("ceremonies")).arg(&folder).done().unwrap();
    }

    /// OpenSSL's opinion, on a day of the year.
    fn accepts(&self, root: &Path, between: &[&str], leaf: &str, day: u32) {
        let mut tool =
            Tool::foreign("openssl").args(["verify", "-x509_strict", "-attime"]).arg(self.seconds(day));
        tool = tool.arg("-CAfile").arg(root);
        for certificate in between {
            tool = tool.arg("-untrusted").arg(self.site.path(certificate));
        }
        tool.arg(self.site.path(leaf)).done().unwrap();
    }

    fn accepts_now(&self, root: &Path, between: &[&str], leaf: &Path) {
        let mut tool = Tool::foreign("openssl").args(["verify", "-x509_strict", "-CAfile"]).arg(root);
        for certificate in between {
            tool = tool.arg("-untrusted").arg(self.site.path(certificate));
        }
        tool.arg(leaf).done().unwrap();
    }

    fn revoked(&self, crl: &str, certificate: &str, day: u32) {
        let pem = self.site.path("r2-2.crl.pem");
        let convert =
            Tool::foreign("openssl").args(["crl", "-inform", "DER", "-in"]).arg(self.site.path(crl));
        convert.arg("-out").arg(&pem).done().unwrap();
        let tool = Tool::foreign("openssl").args(["verify", "-crl_check", "-attime"]).arg(self.seconds(day));
        let tool =
            tool.arg("-CAfile").arg(self.site.path("prod.example/root-2.pem")).arg("-CRLfile").arg(&pem);
        let ran = tool.arg(self.site.path(certificate)).run().unwrap();
        assert!(ran.status != 0 && ran.stderr.contains("certificate revoked"), "{ran:?}");
    }

    fn seconds(&self, day: u32) -> String {
        self.day(day).parse::<Timestamp>().unwrap().as_second().to_string()
    }
}

/// The serial number of a certificate as plans write it.
fn serial(certificate: &Path) -> String {
    super::formal::serial(certificate).trim().trim_start_matches("serial=").to_lowercase()
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, as OpenSSL reads it.
fn key_id(certificate: &Path) -> String {
    let tool = Tool::foreign("openssl").args(["x509", "-noout", "-pubkey", "-in"]).arg(certificate);
    let pem = tool.done().unwrap().stdout;
    let key = undercroft_ca::certificate::public_key_from_pem(&pem).unwrap();
    Digest::of(key.spki()).to_string()
}

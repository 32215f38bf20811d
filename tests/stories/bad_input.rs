//! What people get wrong: one paragraph that names the field or the device and the next step, the right exit status, and
//! nothing half written.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Domain, Issue, Ran, Site, Tool, request};

use crate::place::{Place, files};

struct Built {
    site: Site,
    _folder: tempfile::TempDir,
}

/// A site that is ready for its daemon, which has not been started.
fn built() -> Built {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::built(folder.path(), vec![Domain::softhsm("prod.example", "ecdsa-p256")]).unwrap();
    Built { site, _folder: folder }
}

/// One paragraph, of this exit status, that says all of this.
fn complains(ran: Ran, status: i32, says: &[&str]) {
    let ran = ran.expect(status).unwrap();
    let paragraph = ran.stderr.trim_end();
    assert!(!paragraph.contains("\n\n") && !paragraph.contains("panicked"), "{paragraph}");
    for part in says {
        assert!(paragraph.contains(part), "`{part}` is not in: {paragraph}");
    }
}

/// A daemon that must end by itself: one that starts after all is stopped.
fn started(site: &Site) -> Ran {
    let daemon = site.serve().unwrap().into_command();
    let run = Tool::foreign("timeout").args(["--preserve-status", "20"]).arg(daemon.get_program());
    run.args(daemon.get_args()).with(&site.variables()).run().unwrap()
}

#[test]
fn a_configuration_that_is_wrong_says_where_and_how_to_mend_it() {
    let built = built();
    let site = &built.site;
    let path = site.path("daemon/undercroft.toml");
    let good = fs::read_to_string(&path).unwrap();
    let table: &[(&str, &str, i32, &[&str])] = &[
        ("database =", "databse =", 2, &["undercroft.toml:", "databse", "did you mean `database`?"]),
        ("admin-socket", "admin-sockets", 2, &["did you mean `admin-socket`?"]),
        ("operator = \"ca.example\"\n", "", 2, &["operator"]),
        (
            "admin-socket = \"admin.sock\"",
            "admin-socket = \"policy.toml\"",
            2,
            &["policy.toml is there", "no socket"],
        ),
        ("127.0.0.1:0", "127.0.0.1:port", 2, &["address"]),
        ("name = \"prod.example\"", "name = \"Prod.example\"", 2, &["Prod.example"]),
        ("name = \"prod.example\"", "name = \"control\"", 2, &["control"]),
        ("control = \"control.example\"", "control = \"controll.example\"", 2, &["control", "no [[domain]]"]),
        ("\"../prod.example/root.pem\"", "\"../prod.example/rot.pem\"", 2, &["rot.pem"]),
        ("\"../prod.example/root.pem\"", "\"../control/root.pem\"", 2, &["prod.example", "share the root"]),
        ("../prod.example/intermediate.pem", "../control/intermediate.pem", 2, &["prod.example", "key"]),
        ("pkcs11:token=prod;object=intermediate-i1", "pkcs11:token=prod;object=nothing", 3, &["nothing"]),
        ("pkcs11:token=prod;object", "pkcs11:tokn=prod;object", 2, &["tokn"]),
        ("pkcs11:token=prod;object", "yubihsm:token=prod;object", 2, &["yubihsm"]),
        ("algorithm = \"ecdsa-p256\"", "algorithm = \"ecdsa-p384\"", 2, &["ecdsa-p384"]),
        ("algorithm = \"ecdsa-p256\"", "algorithm = \"p256\"", 2, &["p256"]),
        ("server-names = [\"ca.control.example\"]\n", "", 2, &["server-names"]),
        ("development = true", "development = false", 4, &["software", "custody"]),
        ("1.3.6.1.4.1.32473.1", "1.3.6.1.4.1.32473.x", 2, &["undercroft.toml:", "no object identifier"]),
        ("../ceremony/plan.toml", "undercroft.toml", 2, &["another plan"]),
    ];
    for (from, to, status, says) in table {
        // The last: what stands for the domain, not for the control domain.
        let changed = match good.rsplit_once(from) {
            Some((before, after)) => format!("{before}{to}{after}"),
            None => panic!("{from} is not in the configuration"),
        };
        fs::write(&path, changed).unwrap();
        complains(started(site), *status, says);
    }
    fs::write(&path, &good).unwrap();

    let policy = site.path("daemon/policy.toml");
    let rules = fs::read_to_string(&policy).unwrap();
    for (from, to, says) in [
        ("profile = \"svid\"", "profile = \"svids\"", ["prod-workloads", "svids"]),
        ("domain = \"prod.example\"", "domain = \"prd.example\"", ["prod-workloads", "prd.example"]),
        ("max-lifetime = \"4h\"", "max-lifetime = \"4 weeks\"", ["prod-workloads", "7d"]),
        ("max-lifetime = \"4h\"", "authority = \"i2\"", ["no authority `i2`", "i1"]),
        ("spiffe-ids", "spife-ids", ["spife-ids", "did you mean `spiffe-ids`?"]),
    ] {
        fs::write(&policy, rules.replacen(from, to, 1)).unwrap();
        complains(started(site), 2, &says);
    }
}

#[test]
fn a_wrong_pin_is_tried_once_and_a_device_that_is_missing_is_named() {
    let built = built();
    let site = &built.site;
    let devices = fs::read_to_string(site.devices()).unwrap();
    let pin_file = |token: &str| -> PathBuf {
        let table =
            devices.split("[[device]]").find(|table| table.contains(&format!("name = \"{token}\""))).unwrap();
        let line = table.lines().find(|line| line.starts_with("pin-file")).unwrap();
        PathBuf::from(line.split('"').nth(1).unwrap())
    };
    let file = pin_file("prod");
    let pin = fs::read(&file).unwrap();
    fs::write(&file, b"000000\n").unwrap();
    for _ in 0..6 {
        let ran = started(site);
        complains(ran.clone(), 2, &["PIN", "`prod`"]);
        assert!(!ran.stderr.contains("000000"));
    }
    fs::write(&file, &pin).unwrap();
    let daemon = site.start().unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);

    let configuration = site.path("daemon/undercroft.toml");
    let good = fs::read_to_string(&configuration).unwrap();
    let module = good.lines().find(|line| line.contains("module-path")).unwrap();
    let library = module.split("module-path=").nth(1).unwrap().trim_end_matches('"');
    fs::write(&configuration, good.replace(library, "/nowhere/module.so")).unwrap();
    complains(started(site), 3, &["/nowhere/module.so"]);
    fs::write(
        &configuration,
        good.replace("token=prod?", "token=absent?").replace("token=prod;", "token=absent;"),
    )
    .unwrap();
    complains(started(site), 3, &["not there", "tokens seen"]);
    // A file that others can read is no place for a PIN.
    fs::write(&configuration, &good).unwrap();
    Tool::foreign("chmod").arg("644").arg(&file).done().unwrap();
    complains(started(site), 2, &[file.to_str().unwrap(), "chmod"]);
}

#[test]
fn a_ceremony_that_cannot_be_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let domains = vec![Domain::softhsm("prod.example", "ecdsa-p256")];
    let site = Site::new(folder.path(), domains, e2e::Listen::Anywhere).unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    site.write_plan().unwrap();
    for tool in site.create_keys().unwrap() {
        tool.done().unwrap();
    }
    let plan_path = site.path("ceremony/plan.toml");
    let plan = fs::read_to_string(&plan_path).unwrap();
    let request = site.path("ceremony/requests/prod.example/intermediate.csr.pem");
    let csr = fs::read_to_string(&request).unwrap();
    let before = files(folder.path());
    let refused = |status, says: &[&str]| {
        complains(site.ceremony().unwrap().run().unwrap(), status, says);
        assert_eq!(files(folder.path()), before, "something is half written");
    };
    for (from, to, says) in [
        ("[[intermediate]]", "[[intermediates]]", ["intermediates", "did you mean `intermediate`?"]),
        (
            "issuer = \"prod-root\"\nrequest",
            "issuer = \"prd-root\"\nrequest",
            ["prod-intermediate", "prd-root"],
        ),
        ("output = \"prod.example/root.pem\"", "output = \"control/root.pem\"", ["same output", "prod-root"]),
        ("policy-arc = \"1.3", "policy-arc = \"9.3", ["plan.toml:", "9.3"]),
        ("version = 1", "version = 9", ["version", "9"]),
    ] {
        let changed = plan.replacen(from, to, 1);
        assert_ne!(changed, plan, "{from}");
        fs::write(&plan_path, changed).unwrap();
        refused(2, &says);
    }
    fs::write(&plan_path, &plan).unwrap();

    // Somebody else's request, and custody that is of another key.
    let other = fs::read_to_string(site.path("ceremony/requests/control/intermediate.csr.pem")).unwrap();
    fs::write(&request, &other).unwrap();
    let ran = site.ceremony().unwrap().run().unwrap();
    assert!([2, 4, 5].contains(&ran.status), "{ran:?}");
    assert_eq!(files(folder.path()), before);
    e2e::break_signature(&site.path("ceremony/requests/control/intermediate.csr.pem"), &request).unwrap();
    refused(2, &["intermediate.csr.pem", "signature"]);
    fs::remove_file(&request).unwrap();
    complains(site.ceremony().unwrap().run().unwrap(), 2, &["intermediate.csr.pem"]);
    fs::write(&request, &csr).unwrap();
    // Not in development mode, keys in software make no authorities.
    let environment = site.path("ceremony/environment.toml");
    let text = fs::read_to_string(&environment).unwrap();
    fs::write(&environment, text.replace("development = true", "development = false")).unwrap();
    refused(4, &["software"]);
    fs::write(&environment, &text).unwrap();
    site.ceremony().unwrap().done().unwrap();
}

#[test]
fn requests_that_cannot_be_read_are_refused_here_or_there() {
    let mut place = Place::prod();
    let out = place.path("refused");
    let (_, good) =
        request(&place.path("request"), "good", "P-256", Some("spiffe://prod.example/ns/a/sa/b")).unwrap();
    let pem = fs::read_to_string(&good).unwrap();
    let odd = |name: &str, text: &str| {
        let path = place.path("request").join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let cases: [(PathBuf, &[&str]); 6] = [
        (place.path("no-such.pem"), &["no-such.pem"]),
        (odd("empty", ""), &["empty"]),
        (odd("twice", &format!("{pem}{pem}")), &["twice"]),
        (odd("other", &pem.replace("CERTIFICATE REQUEST", "CERTIFICATE")), &["other"]),
        (odd("cut", &pem.replace("-----END", "AAAA\n-----END")), &["cut"]),
        (odd("long", &"x".repeat(2_000_000)), &["long"]),
    ];
    for (csr, says) in cases {
        let issue = Issue { domain: "prod.example", profile: "svid", csr: &csr, out: &out, more: &[] };
        complains(place.ask(&place.operator, &issue), 2, says);
    }
    let weak = place.path("request/weak.csr.pem");
    let args = [
        "req",
        "-new",
        "-newkey",
        "rsa:1024",
        "-nodes",
        "-subj",
        "/",
        "-batch",
        "-keyout",
        "/dev/null",
        "-out",
    ];
    Tool::foreign("openssl").args(args).arg(&weak).done().unwrap();
    let issue = Issue {
        domain: "prod.example",
        profile: "svid",
        csr: &weak,
        out: &out,
        more: &["--id", "spiffe://prod.example/ns/a/sa/b"],
    };
    let ran = place.ask(&place.operator, &issue);
    assert!([2, 4].contains(&ran.status) && ran.stderr.contains("1024"), "{ran:?}");
    assert!(files(&out).is_empty());
    place.stop();
}

/// A disk of its own that is small, in a user namespace of its own.
#[test]
fn a_full_disk_loses_nothing_and_leaves_nothing_half_written() {
    if !Tool::foreign("unshare").args(["-rm", "true"]).run().is_ok_and(|ran| ran.status == 0) {
        // Where namespaces are forbidden; the store's own tests fill a database up on any machine.
        return;
    }
    let built = built();
    let site = &built.site;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories/full_disk.sh");
    let undercroft = std::env::current_exe().unwrap();
    let binaries = undercroft.parent().unwrap().parent().unwrap();
    let run = Tool::foreign("timeout")
        .args(["120", "unshare", "-rm", "bash"])
        .arg(&script)
        .arg(site.folder())
        .arg(binaries);
    let ran = run.with(&site.variables()).run().unwrap();
    assert_eq!(ran.status, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("exported nothing, exit status 1"), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("full, exit status 3"), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("room again, exit status 0"), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("audit 0"), "{}{}", ran.stdout, ran.stderr);
    assert!(Path::new(site.folder()).is_dir());
}

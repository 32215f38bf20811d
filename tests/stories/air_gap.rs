//! Across the air gap: keys are made, a request goes to the ceremony, its response comes back, and the daemon starts with it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use e2e::{Domain, Listen, Ran, Site, Tool};
use serde_json::Value;

use crate::place::files;

/// A site whose keys are made and whose ceremony is elsewhere: `offline` below it.
struct Gap {
    site: Site,
    _folder: tempfile::TempDir,
}

impl Gap {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domains = vec![Domain::softhsm("prod.example", "ecdsa-p256")];
        let site = Site::new(folder.path(), domains, Listen::Anywhere).unwrap();
        site.hsm_sim_up().unwrap().done().unwrap();
        site.write_plan().unwrap();
        for tool in site.create_keys().unwrap() {
            tool.done().unwrap();
        }
        site.write_configuration().unwrap();
        // The transcript comes back with the response.
        let config = site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("../ceremony/transcript", "../transcripts/first")).unwrap();
        Self { site, _folder: folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let tool = Tool::ours(program).unwrap().args(arguments.iter().map(|argument| {
            // Paths are written as `@name`, below the site.
            argument
                .strip_prefix('@')
                .map_or_else(|| (*argument).into(), |name| self.path(name).into_os_string())
        }));
        tool.with(&self.site.variables()).run().unwrap()
    }

    fn request(&self, out: &str, more: &[&str]) -> Ran {
        let arguments =
            ["request", "--config", "@daemon/undercroft.toml", "--requests", "@ceremony/requests"];
        self.run(
            "undercroft",
            &[&arguments[..], &["--out", out, "--vkey-out", "@control.vkey"], more].concat(),
        )
    }

    fn open(&self, file: &str, key: &str, plan: &str, policy: &str) -> Ran {
        let arguments = ["requests", "open", file, "--key", key, "--plan", plan, "--policy", policy];
        let places = ["--state", "@offline/state", "--out", "@offline/requests"];
        self.run("undercroft-ceremony", &[&arguments[..], &places].concat())
    }

    fn respond(&self, out: &str, more: &[&str]) -> Ran {
        let arguments = ["respond", "@ceremony/plan.toml", "--environment", "@ceremony/environment.toml"];
        let places =
            ["--requests", "@offline/requests", "--from", "@offline/out", "--state", "@offline/state"];
        self.run("undercroft-ceremony", &[&arguments[..], &places, &["--out", out], more].concat())
    }

    fn import(&self, file: &str, key: &str, more: &[&str]) -> Ran {
        let arguments = ["import", file, "--config", "@daemon/undercroft.toml", "--key", key, "--into", "@"];
        self.run("undercroft", &[&arguments[..], more].concat())
    }

    /// The same at a terminal, where somebody types `answer`. Gives the exit status and what the terminal showed.
    fn import_typing(&self, file: &str, key: &str, into: &str, answer: &str) -> (Option<i32>, String) {
        let tool = Tool::ours("undercroft").unwrap().arg("import").arg(self.path(file)).arg("--config");
        let tool = tool.arg(self.path("daemon/undercroft.toml")).arg("--key").arg(self.path(key));
        let command = tool.arg("--into").arg(self.path(into)).into_command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line: Vec<_> = words.map(|word| word.to_str().unwrap().to_owned()).collect();
        // script(1) of util-linux runs it at a terminal of its own, and types what it reads.
        let script = Tool::foreign("script").args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]);
        let mut script = script.with(&self.site.variables()).into_command();
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut script = script.unwrap();
        script.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = script.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A copy of a file with one byte changed, in the middle.
    fn changed(&self, name: &str) -> String {
        let mut bytes = fs::read(self.path(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        fs::write(self.path("changed"), bytes).unwrap();
        "@changed".to_owned()
    }
}

fn refused(ran: Ran, status: i32, name: &str) {
    ran.expect(status).unwrap().says(&format!("{name}:")).unwrap();
}

fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.expect(0).unwrap().stdout).unwrap()
}

#[test]
fn what_a_ceremony_made_from_a_request_comes_back_and_is_served() {
    let gap = Gap::new();
    let (plan, policy) = ("@ceremony/plan.toml", "@daemon/policy.toml");

    // Online: the request, which can be made before anything that the configuration names is there.
    let dry = gap.request("@request.ucr", &["--plan", plan, "--dry-run"]).expect(0).unwrap();
    dry.says("requests for 4 keys").unwrap();
    assert!(!gap.path("request.ucr").exists());
    let request = json(gap.request("@request.ucr", &["--plan", plan, "--output", "json"]));
    assert_eq!(request["origin"], "ca.example/undercroft/control/1");
    let sum = Tool::foreign("sha256sum").arg(gap.path("request.ucr")).done().unwrap();
    assert!(sum.stdout.starts_with(request["digest"].as_str().unwrap()), "{}", sum.stdout);
    gap.request("@request.ucr", &[]).expect(2).unwrap().says("nothing is overwritten").unwrap();

    // Offline: everything that is not what was asked for is refused, and leaves nothing.
    let other_policy = gap.path("other-policy.toml");
    fs::write(&other_policy, gap.site.policy().to_owned() + "\n").unwrap();
    let text = fs::read_to_string(gap.path("ceremony/plan.toml")).unwrap();
    fs::write(gap.path("other-plan.toml"), text.replace("First", "Second")).unwrap();
    fs::write(gap.path("foreign-plan.toml"), text.replace("ca.example\"", "ca.other\"")).unwrap();
    fs::write(gap.path("other.vkey"), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
        .unwrap();
    let key = "@control.vkey";
    refused(gap.open("@request.ucr", key, plan, "@other-policy.toml"), 4, "other-policy");
    refused(gap.open("@request.ucr", key, "@other-plan.toml", policy), 4, "other-plan");
    refused(gap.open("@request.ucr", "@other.vkey", plan, policy), 5, "not-signed");
    refused(gap.open(&gap.changed("request.ucr"), key, plan, policy), 5, "altered");
    fs::write(gap.path("cut"), &fs::read(gap.path("request.ucr")).unwrap()[..1000]).unwrap();
    refused(gap.open("@cut", key, plan, policy), 5, "truncated");
    // A request that names no plan is still for the operator's own ceremonies alone.
    gap.request("@planless.ucr", &[]).expect(0).unwrap();
    refused(gap.open("@planless.ucr", key, "@foreign-plan.toml", policy), 4, "other-origin");
    assert!(!gap.path("offline/requests").exists());
    let opened = gap.open("@request.ucr", key, plan, policy).expect(0).unwrap();
    opened.says("certificates for 4 keys").unwrap().says("prod.example/intermediate.csr.pem").unwrap();

    // Nothing to answer with yet; then the ceremony; then its answer, and the same one again.
    assert_ne!(gap.respond("@early.ucr", &[]).status, 0);
    let places = ["--requests", "@offline/requests", "--out", "@offline/out"];
    let run = ["run", plan, "--environment", "@ceremony/environment.toml"];
    gap.run("undercroft-ceremony", &[&run[..], &places].concat()).expect(0).unwrap();
    gap.respond("@response.ucr", &["--dry-run"]).expect(0).unwrap().says("nothing was signed").unwrap();
    // What nobody has signed in this ceremony does not leave it: a root in the place of another one.
    let root = gap.path("offline/out/prod.example/root.pem");
    let made = fs::read(&root).unwrap();
    let forged = Tool::foreign("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
    ]);
    let forged =
        forged.args(["-nodes", "-subj", "/CN=prod.example Root R1", "-keyout"]).arg(gap.path("forged.key"));
    forged.arg("-out").arg(&root).done().unwrap();
    let refused_root = gap.respond("@response.ucr", &[]).expect(5).unwrap();
    refused_root.says("root.pem: the transcript does not say").unwrap();
    fs::write(&root, made).unwrap();
    let response = json(gap.respond("@response.ucr", &["--output", "json"]));
    assert_eq!(response["request"], request["digest"]);
    assert_eq!(response["ceremony"], "ca.example/undercroft/ceremony/first/1");
    gap.respond("@small.ucr", &["--checkpoint-only"]).expect(0).unwrap();
    refused(gap.open("@request.ucr", key, plan, policy), 4, "replayed");
    let too_long = gap.respond("@qr.ucr", &["--qr"]).expect(2).unwrap();
    too_long.says("USB stick").unwrap();
    assert!(!gap.path("qr.ucr").exists());

    // Back: the difference is shown, and nothing is written before somebody accepts.
    let ceremony = "@offline/out/transcript/log.vkey";
    refused(gap.import(&gap.changed("response.ucr"), ceremony, &["--accept"]), 5, "altered");
    refused(gap.import("@response.ucr", key, &["--accept"]), 5, "not-signed");
    refused(gap.import("@request.ucr", ceremony, &["--accept"]), 2, "unknown-version");
    gap.import("@response.ucr", ceremony, &["--rehearsal"]).expect(2).unwrap();
    let asked = gap.path(&format!("daemon/exchange/{}.asked.json", request["digest"].as_str().unwrap()));
    fs::rename(&asked, gap.path("hidden")).unwrap();
    refused(gap.import("@response.ucr", ceremony, &["--accept"]), 4, "other-request");
    fs::rename(gap.path("hidden"), &asked).unwrap();
    let policy_file = gap.path("daemon/policy.toml");
    fs::copy(&other_policy, &policy_file).unwrap();
    refused(gap.import("@response.ucr", ceremony, &["--accept"]), 4, "other-policy");
    fs::write(&policy_file, gap.site.policy()).unwrap();
    let shown = gap.import("@response.ucr", ceremony, &[]).expect(0).unwrap();
    let shown = shown.says("Nothing was written").unwrap().says("ROOT COMES").unwrap();
    shown.says("issuer itself: a root").unwrap().says("new        crl prod.example/root.crl").unwrap();
    assert!(!gap.path("prod.example/root.pem").exists());
    // At a terminal it is asked, and takes `yes` and nothing else.
    let (marker, key) =
        (asked.with_extension("").with_extension("imported"), "offline/out/transcript/log.vkey");
    let before = everything(gap.site.folder());
    for answer in ["no\n", "\n", "y\n", "YES\n", "yes please\n", ""] {
        let (status, shown) = gap.import_typing("response.ucr", key, "", answer);
        assert_eq!(status, Some(0), "{answer:?}: {shown}");
        for part in ["ROOT COMES", "Type yes to write this: ", "Nothing was written"] {
            assert!(shown.contains(part), "{answer:?}: {shown}");
        }
        assert!(!shown.contains("was imported"), "{answer:?}: {shown}");
        assert_eq!(everything(gap.site.folder()), before, "{answer:?}");
    }
    let (status, shown) = gap.import_typing("response.ucr", key, "typed", "yes\n");
    assert!(status == Some(0) && shown.contains("It was imported into"), "{shown}");
    // It is shown once, before it is asked about.
    assert_eq!(shown.matches("new        crl prod.example/root.crl").count(), 1, "{shown}");
    assert_same(&gap.path("offline/out/prod.example"), &gap.path("typed/prod.example"));
    refused(gap.import("@response.ucr", ceremony, &["--accept"]), 4, "replayed");
    // As it would be on another machine of this installation.
    fs::remove_file(&marker).unwrap();
    let imported = json(gap.import("@response.ucr", ceremony, &["--accept", "--output", "json"]));
    assert_eq!(imported["imported"], true);
    assert_eq!(imported["difference"]["roots_added"].as_array().unwrap().len(), 2);
    assert_same(&gap.path("offline/out/prod.example"), &gap.path("prod.example"));

    // It is good once, with whatever transcript.
    refused(gap.import("@response.ucr", ceremony, &["--accept"]), 4, "replayed");
    refused(gap.import("@small.ucr", ceremony, &["--accept"]), 4, "replayed");

    // The auditor takes the transcript that came back, and the daemon all of it.
    let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(gap.path("transcripts/first"));
    audit.arg("--key").arg(gap.path("transcripts/first/log.vkey")).done().unwrap();
    let daemon = gap.site.start().unwrap();
    gap.site.administer(&["status"]).unwrap().done().unwrap().says("prod.example").unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
}

/// Every file below a folder that a program of ours might write, and what is in it.
fn everything(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let is_device = |file: &PathBuf| file.starts_with(folder.join("devices"));
    let mut all: Vec<_> = files(folder).into_iter().filter(|file| !is_device(file)).collect();
    all.sort();
    all.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn assert_same(one: &Path, other: &Path) {
    let there: Vec<_> = files(one);
    assert!(!there.is_empty());
    for file in there {
        let name = file.strip_prefix(one).unwrap();
        assert_eq!(fs::read(&file).unwrap(), fs::read(other.join(name)).unwrap(), "{}", name.display());
    }
}

#[test]
fn the_digest_of_a_plan_is_read_aloud_and_heard() {
    let folder = tempfile::tempdir().unwrap();
    let site =
        Site::new(folder.path(), vec![Domain::softhsm("prod.example", "ecdsa-p256")], Listen::Anywhere)
            .unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    site.write_plan().unwrap();
    let plan = |more: &[&str]| {
        let tool =
            Tool::ours("undercroft-ceremony").unwrap().arg("plan").arg(site.path("ceremony/plan.toml"));
        tool.args(more).with(&[("LC_ALL".to_owned(), "C.UTF-8".to_owned())])
    };
    let shown: Value = serde_json::from_str(&plan(&["--output", "json"]).done().unwrap().stdout).unwrap();
    let sum = Tool::foreign("sha256sum").arg(site.path("ceremony/plan.toml")).done().unwrap();
    assert!(sum.stdout.starts_with(shown["digest"].as_str().unwrap()));
    let (words, groups) = (shown["digest_words"].as_str().unwrap(), shown["digest_groups"].as_str().unwrap());
    assert_eq!((words.split(' ').count(), groups.len()), (32, 64 + 15));
    for heard in [words.to_owned(), words.to_uppercase(), groups.to_owned()] {
        plan(&["--heard", &heard]).done().unwrap().says("is what was heard").unwrap();
    }
    let mut swapped: Vec<&str> = words.split(' ').collect();
    swapped.swap(10, 11);
    plan(&["--heard", &swapped.join(" ")]).run().unwrap().expect(5).unwrap().says("word 11,").unwrap();
    plan(&["--heard", &words.replacen(' ', " xyzzy", 1)])
        .run()
        .unwrap()
        .expect(5)
        .unwrap()
        .says("word 2,")
        .unwrap();

    // On a terminal that is not UTF-8 a code has no glyphs that it could not show, and without colours no escapes.
    let code = plan(&["--qr"]).with(&[("NO_COLOR".to_owned(), "1".to_owned())]).done().unwrap();
    assert!(code.stdout.contains('▀') && !code.stdout.contains('\u{1b}'), "{}", code.stdout);
    let plain = plan(&["--qr"]).with(&[("LC_ALL".to_owned(), "C".to_owned())]).done().unwrap();
    assert!(plain.stdout.contains("####") && !plain.stdout.contains('█'), "{}", plain.stdout);
}

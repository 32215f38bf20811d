//! An installation whose plan has terms, and the people of its roster.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use e2e::{Domain, Listen, Ran, Site, Tool};
use undercroft_log_files::Folder;

/// Who has a key; `mallory` is not on the roster.
const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "mallory"];

/// The terms of a plan from today on: alice and bob approve what carol asks for.
const WINDOW: &str = "window = { begins = 2026-11-01T00:00:00Z, ends = 2098-12-31T00:00:00Z }";

pub(super) struct Formal {
    _folder: tempfile::TempDir,
    site: Site,
    simulators: Site,
}

impl Formal {
    pub(super) fn new() -> Self {
        Self::with(vec![])
    }

    pub(super) fn with(domains: Vec<Domain>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::new(&folder.path().join("site"), domains.clone(), Listen::Anywhere).unwrap();
        let simulators = Site::new(&folder.path().join("rehearsal"), domains, Listen::Anywhere).unwrap();
        for site in [&site, &simulators] {
            site.hsm_sim_up().unwrap().done().unwrap();
            site.write_plan().unwrap();
        }
        site.create_keys().unwrap().into_iter().for_each(|tool| drop(tool.done().unwrap()));
        let formal = Self { _folder: folder, site, simulators };
        fs::create_dir_all(formal.path("approvals")).unwrap();
        fs::create_dir_all(formal.path("people")).unwrap();
        for name in PEOPLE {
            Tool::foreign("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(formal.person(name))
                .done()
                .unwrap();
        }
        let persons: String = PEOPLE[..3]
            .iter()
            .map(|name| {
                let key = fs::read_to_string(formal.person(name).with_extension("pub")).unwrap();
                format!("\n[[roster.person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", key.trim_end())
            })
            .collect();
        let terms = format!(
            "\n[[device]]\nname = \"roots\"\nmodel = \"SoftHSM v2\"\nfirmware = \"2.6\"\n\n[roster]\nquorum = 2\n{persons}"
        );
        formal.add_to_plan(&terms);
        formal.change_plan("transcript =", &format!("requester = \"carol\"\n{WINDOW}\ntranscript ="));
        let serial = formal.serial();
        formal.change("ceremony/environment.toml", "token=roots", &format!("token=roots;serial={serial}"));
        formal
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    pub(super) fn variables(&self) -> Vec<(String, String)> {
        self.site.variables()
    }

    pub(super) fn folder(&self) -> &Path {
        self.site.folder()
    }

    /// The environment with every device.
    pub(super) fn devices(&self) -> PathBuf {
        self.site.devices()
    }

    /// A path below the rehearsal's folder.
    pub(super) fn rehearsal(&self, name: &str) -> PathBuf {
        self.simulators.path(name)
    }

    /// The serial number of the token for roots, as its own module tells.
    fn serial(&self) -> String {
        let module = fs::read_to_string(self.path("ceremony/environment.toml")).unwrap();
        let module = module.split("module-path=").nth(1).unwrap().split('"').next().unwrap();
        let list = Tool::foreign("pkcs11-tool").args(["--module", module, "--list-token-slots"]);
        let list = list.with(&self.site.variables()).done().unwrap().stdout;
        let roots =
            list.split("token label").find(|part| part.trim_start_matches([' ', ':']).starts_with("roots"));
        let serial = roots.unwrap().split("serial num").nth(1).unwrap().lines().next().unwrap();
        serial.trim_start_matches([' ', ':']).trim().to_owned()
    }

    fn person(&self, name: &str) -> PathBuf {
        self.path("people").join(name)
    }

    pub(super) fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }

    pub(super) fn change_plan(&self, from: &str, to: &str) {
        self.change("ceremony/plan.toml", from, to);
    }

    pub(super) fn add_to_plan(&self, text: &str) {
        let path = self.path("ceremony/plan.toml");
        let plan = fs::read_to_string(&path).unwrap();
        fs::write(path, plan + text).unwrap();
    }

    /// The plan states which roots there are, of the control domain and of these.
    pub(super) fn state_roots(&self, domains: &[&str]) {
        let of = |domain: &&str| {
            let name = domain.split('.').next().unwrap();
            format!(
                "\n[[bundle-statement]]\nname = \"{name}-roots\"\ndomain = \"{domain}\"\nnumber = 1\nroots = [\"{name}-root\"]\nnot-before = 2026-11-01T00:00:00Z\nnot-after = 2098-12-31T00:00:00Z\nfollows = \"CP 1.0 section 6.1.4\"\noutput = \"{}/roots.json\"\n",
                if *domain == "control.example" { "control" } else { domain }
            )
        };
        self.add_to_plan(&["control.example"].iter().chain(domains).map(of).collect::<String>());
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn statement(&self, name: &str) {
        assert_eq!(name, "plan");
        let tool = Tool::ours("undercroft-ceremony").unwrap().args(["statement", "plan"]);
        let tool = tool.arg(self.path("ceremony/plan.toml")).arg("--approvals").arg(self.path("approvals"));
        tool.done().unwrap();
    }

    pub(super) fn deviation(&self, kind: &str, reason: &str) {
        let tool = Tool::ours("undercroft-ceremony").unwrap().args(["statement", "deviation"]);
        let tool = tool.arg(self.path("ceremony/plan.toml")).arg("--approvals").arg(self.path("approvals"));
        tool.args(["--kind", kind, "--reason", reason]).done().unwrap();
    }

    pub(super) fn sign(&self, statement: &str, person: &str) {
        self.sign_as(statement, person, person);
    }

    /// The person's signature, in a file with another name.
    pub(super) fn sign_as(&self, statement: &str, person: &str, name: &str) {
        let message = self.path("approvals").join(format!("{statement}.json"));
        let tool =
            Tool::foreign("ssh-keygen").args(["-q", "-Y", "sign", "-n", "undercroft-approval-v1", "-f"]);
        tool.arg(self.person(person)).arg(&message).done().unwrap();
        let signature = self.path("approvals").join(format!("{statement}.json.sig"));
        fs::rename(signature, self.path("approvals").join(format!("{statement}.{name}.sig"))).unwrap();
    }

    pub(super) fn take_back(&self, statement: &str, name: &str) {
        fs::remove_file(self.path("approvals").join(format!("{statement}.{name}.sig"))).unwrap();
    }

    /// Writes a statement about the plan, and has it signed by enough.
    pub(super) fn approved(&self, statement: &str) {
        self.statement(statement);
        self.sign(statement, "alice");
        self.sign(statement, "bob");
    }

    /// Has the result signed by enough, and what was stated about roots.
    pub(super) fn approved_result(&self) {
        let stated = self.approvals_of("statement-").into_iter();
        let stated = stated.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let stated = stated.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
        for statement in stated.chain(["result".to_owned()]) {
            self.sign(&statement, "alice");
            self.sign(&statement, "bob");
        }
    }

    pub(super) fn move_away(&self, statement: &str) {
        self.rename(statement, ".away");
    }

    pub(super) fn put_back(&self, statement: &str) {
        for file in self.approvals_of(&format!("{statement}.")) {
            if file.extension().is_none_or(|extension| extension != "away") {
                fs::remove_file(file).unwrap();
            }
        }
        for file in self.approvals_of(&format!("{statement}.")) {
            fs::rename(&file, file.with_extension("")).unwrap();
        }
    }

    fn rename(&self, statement: &str, ending: &str) {
        for file in self.approvals_of(&format!("{statement}.")) {
            let mut name = file.clone().into_os_string();
            name.push(ending);
            fs::rename(&file, name).unwrap();
        }
    }

    fn approvals_of(&self, prefix: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("approvals")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect()
    }

    /// A command on this ceremony.
    pub(super) fn tool(&self, command: &str) -> Tool {
        self.tool_with(command, &self.path("ceremony/environment.toml"))
    }

    fn tool_with(&self, command: &str, environment: &Path) -> Tool {
        Tool::ours("undercroft-ceremony")
            .unwrap()
            .arg(command)
            .arg(self.path("ceremony/plan.toml"))
            .arg("--environment")
            .arg(environment)
            .arg("--requests")
            .arg(self.path("ceremony/requests"))
            .arg("--out")
            .arg(self.site.folder())
            .arg("--transcript")
            .arg(self.path("ceremony/transcript"))
            .arg("--approvals")
            .arg(self.path("approvals"))
            .with(&self.site.variables())
    }

    pub(super) fn run(&self) -> Ran {
        self.run_with(&[])
    }

    pub(super) fn run_with(&self, more: &[&str]) -> Ran {
        self.tool("run").args(more).run().unwrap()
    }

    pub(super) fn run_after(&self, rehearsal: &Path) -> Ran {
        self.tool("run").arg("--rehearsal").arg(rehearsal).run().unwrap()
    }

    /// On the simulators of the rehearsal, whose folder is another.
    pub(super) fn rehearse(&self) -> Ran {
        self.rehearse_at(&[], &[])
    }

    /// The same at another time, with more arguments.
    pub(super) fn rehearse_at(&self, time: &[(String, String)], more: &[&str]) -> Ran {
        Tool::ours("undercroft-ceremony")
            .unwrap()
            .arg("rehearse")
            .arg(self.path("ceremony/plan.toml"))
            .arg("--environment")
            .arg(self.rehearsal("ceremony/environment.toml"))
            .arg("--requests")
            .arg(self.path("ceremony/requests"))
            .arg("--out")
            .arg(self.rehearsal("out"))
            .args(more)
            .with(&self.simulators.variables())
            .with(time)
            .run()
            .unwrap()
    }

    pub(super) fn note(&self, text: &str) -> Ran {
        self.tool("note").args(["--text", text]).run().unwrap()
    }

    pub(super) fn abort(&self, reason: &str) -> Ran {
        self.tool("abort").args(["--reason", reason]).run().unwrap()
    }

    /// At another time, as the programs see it (libfaketime).
    pub(super) fn at(&self, time: &str, more: &[&str]) -> Ran {
        let faked = faketime(time);
        self.tool("run").args(more).with(&faked).run().unwrap()
    }

    pub(super) fn without_serial(&self) -> Ran {
        let path = self.path("ceremony/no-serial.toml");
        let text = fs::read_to_string(self.path("ceremony/environment.toml")).unwrap();
        fs::write(&path, text.replace(&format!(";serial={}", self.serial()), "")).unwrap();
        self.tool_with("run", &path).run().unwrap()
    }

    pub(super) fn with_another_serial(&self) -> Ran {
        let path = self.path("ceremony/other-serial.toml");
        let text = fs::read_to_string(self.path("ceremony/environment.toml")).unwrap();
        fs::write(&path, text.replace(&format!(";serial={}", self.serial()), ";serial=0000000000000000"))
            .unwrap();
        self.tool_with("run", &path).run().unwrap()
    }

    /// Runs it where there is no network, if this user may make such a place, and gives the sockets that it has asked for.
    pub(super) fn sockets(&self) -> (Ran, String) {
        let plain = self.tool("run").into_command();
        let trace = self.path("sockets");
        let alone = Tool::foreign("unshare").args(["-n", "true"]).run().is_ok_and(|ran| ran.status == 0);
        let mut tool = match alone {
            true => Tool::foreign("unshare").args(["-n", "strace"]),
            false => Tool::foreign("strace"),
        };
        tool =
            tool.args(["-f", "-e", "trace=socket,connect,bind", "-o"]).arg(&trace).arg(plain.get_program());
        let ran = tool.args(plain.get_args()).with(&self.site.variables()).run().unwrap();
        (ran, fs::read_to_string(trace).unwrap())
    }

    /// Runs it and answers its prompts.
    pub(super) fn answering(&self, answers: &str) -> Ran {
        let mut command = self.tool("run").arg("--ask").into_command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Ran {
            line: "undercroft-ceremony run --ask".into(),
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The entries of the transcript, a line each.
    pub(super) fn transcript(&self) -> String {
        let folder = Folder::new(self.path("ceremony/transcript"));
        let note = folder.checkpoint().unwrap().unwrap();
        let size = undercroft_log::checkpoint::Checkpoint::parse(
            note.split("\n\n").next().map(|text| format!("{text}\n")).as_deref().unwrap(),
        )
        .unwrap()
        .size;
        let entries = (0..size.div_ceil(256)).flat_map(|bundle| folder.bundle(bundle, size).unwrap());
        entries.map(|entry| String::from_utf8(entry).unwrap() + "\n").collect()
    }

    /// Has the daemon take note of the ceremony, with these persons to approve of a recovery.
    pub(super) fn configure(&self, quorum: usize, persons: &[&str]) {
        self.site.write_configuration().unwrap();
        let persons = persons.iter().map(|name| {
            let key = fs::read_to_string(self.person(name).with_extension("pub")).unwrap();
            format!("\n[[recovery.person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", key.trim_end())
        });
        let path = self.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&path).unwrap();
        let recovery = format!("\n[recovery]\nquorum = {quorum}\n{}", persons.collect::<String>());
        fs::write(path, text + &recovery).unwrap();
    }

    /// A SPIRE CA of prod.example, from the daemon whose ceremony was kept in that folder; its certificate.
    pub(super) fn spire_ca(&self, kept: &str) -> PathBuf {
        self.configure(2, &["alice", "bob", "carol"]);
        for file in ["plan.toml", "transcript"] {
            self.change(
                "daemon/undercroft.toml",
                &format!("../ceremony/{file}"),
                &format!("../{kept}/{file}"),
            );
        }
        let daemon = self.serve().unwrap();
        let server = self.site.enrolled(&daemon, "/server/prod").unwrap();
        let out = self.path("prod.example/spire-ca");
        let (_, csr) = e2e::request(&out, "leaf", "P-384", Some("spiffe://prod.example")).unwrap();
        let issue =
            e2e::Issue { domain: "prod.example", profile: "spire-ca", csr: &csr, out: &out, more: &[] };
        self.site.issue(&daemon, &server, &issue).unwrap().done().unwrap();
        out.join("leaf.pem")
    }

    /// Starts the daemon.
    pub(super) fn serve(&self) -> Result<e2e::Daemon, undercroft_cli::Failure> {
        self.site.start()
    }

    /// The bundle of the control domain, held to what lies there with these signatures, by these persons of a roster.
    pub(super) fn stated_bundle(&self, signed: &[&str], roster: &[&str]) -> Ran {
        let persons = roster.iter().map(|name| {
            let key = fs::read_to_string(self.person(name).with_extension("pub")).unwrap();
            format!("\n[[person]]\nname = \"{name}\"\nkeys = [\"{}\"]\n", key.trim_end())
        });
        self.write("roster.toml", &format!("quorum = 2\n{}", persons.collect::<String>()));
        let approvals = self.path("approvals");
        let mut tool = self.site.administer(&["bundle", "control.example", "--stated"]).unwrap();
        tool = tool.arg(self.path("control/roots.json"));
        tool = tool.arg("--statement").arg(approvals.join("statement-control-roots.json"));
        for name in signed {
            let signature = approvals.join(format!("statement-control-roots.{name}.sig"));
            tool = tool.arg("--approval").arg(signature);
        }
        tool.arg("--roster").arg(self.path("roster.toml")).run().unwrap()
    }

    /// Whether a root, intermediate or CRL lies there, or a key of a root is in its token.
    pub(super) fn has_made_anything(&self) -> bool {
        let listed = Tool::ours("undercroft").unwrap().args(["keys", "list", "--environment"]);
        let listed =
            listed.arg(self.path("ceremony/environment.toml")).with(&self.site.variables()).done().unwrap();
        let files = ["control/root.pem", "control/intermediate.pem", "control/root.crl"];
        listed.stdout.contains("root-r1") || files.iter().any(|file| self.path(file).exists())
    }

    pub(super) fn audited(&self) {
        let transcript = self.path("ceremony/transcript");
        let audit = Tool::ours("undercroft-audit").unwrap().arg("verify").arg(&transcript);
        audit.arg("--key").arg(transcript.join("log.vkey")).done().unwrap();
        self.is_verified(&transcript);
    }

    /// The auditor finds nothing but that one which was given up was given up. Keys in simulators are a trial.
    fn is_verified(&self, transcript: &Path) {
        let audit = Tool::ours("undercroft-audit").unwrap().arg("ceremony").arg(transcript);
        let audit = audit.arg("--plan").arg(self.path("ceremony/plan.toml")).arg("--key");
        let audit = audit.arg(transcript.join("log.vkey")).arg("--out").arg(self.site.folder());
        let audit = audit.arg("--requests").arg(self.path("ceremony/requests")).arg("--development");
        let ran = audit.run().unwrap();
        let is_closed = self.transcript().contains(r#""event":"closed""#);
        assert_eq!(ran.status, if is_closed { 0 } else { 5 }, "{ran:?}");
        assert_eq!(ran.stdout.contains("(aborted)"), !is_closed, "{ran:?}");
    }
}

/// The environment of programs that see another time.
pub(crate) fn faketime(time: &str) -> Vec<(String, String)> {
    let library = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists())
    .unwrap_or_else(|| panic!("the package libfaketime is not installed; `make packages` does it"));
    [
        ("LD_PRELOAD", library),
        ("FAKETIME", &format!("@{time}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("TZ", "UTC"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The serial number of a certificate, as OpenSSL reads it.
pub(super) fn serial(certificate: &Path) -> String {
    let tool = Tool::foreign("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(certificate);
    tool.done().unwrap().stdout
}

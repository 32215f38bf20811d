//! The chapter of the node: it attests, boots something else, is refused, and is taken when policy knows the new boot.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use e2e::{Daemon, Tool};
use hsm_sim::measured_boot::{BOOT_SERVICES_APPLICATION, MeasuredBoot, SimBank, SimEvent};
use hsm_sim::programs::SimError;
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use hsm_sim::tpm2_pkcs11::ResourceManager;
use undercroft_cli::Failure;

use crate::Story;

/// The file of the policy for nodes, in the daemon's folder.
const POLICY: &str = "nodes.toml";

/// A machine with a TPM.
struct Machine {
    folder: PathBuf,
    swtpm: Swtpm,
    running: Option<RunningSwtpm>,
}

impl Story<'_> {
    /// Before the daemon starts: which TPMs it believes, and which boot it takes.
    pub(crate) fn node_policy(&self) -> Result<(), Failure> {
        let tpm = self.site.path("node/tpm");
        fs::create_dir_all(&tpm).map_err(failed(&tpm))?;
        let swtpm = Swtpm::manufacture(&tpm, Manufacture::WithEndorsement).map_err(simulated)?;
        let mut makers = String::new();
        for path in swtpm.manufacturer() {
            makers += &fs::read_to_string(&path).map_err(failed(&path))?;
        }
        write(&self.site.path("daemon/makers.pem"), &makers)?;
        write(&self.site.path("daemon").join(POLICY), &policy(&MeasuredBoot::honest()))?;
        let configuration = self.site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&configuration).map_err(failed(&configuration))?;
        write(&configuration, &format!("node-policy = \"{POLICY}\"\n{text}"))
    }

    /// Attests, is refused after another boot, and is taken by another policy. Gives the daemon, which was started again.
    pub(crate) fn node(&self, daemon: Daemon) -> Result<Daemon, Failure> {
        self.chapter("A node: a TPM that measured its boot gets a certificate whose key never leaves it")?;
        let folder = self.site.path("node");
        let mut machine =
            Machine { swtpm: Swtpm::in_folder(&absolute(&folder.join("tpm"))?), folder, running: None };
        machine.boot(&MeasuredBoot::honest())?;
        machine.configure(self, &daemon)?;
        let ran = self.step(machine.node(&["attest", "--dry-run"])?)?;
        self.quote(&ran)?;
        let ran = self.step(machine.node(&["attest"])?)?;
        self.quote(&ran)?;
        let id = machine.id()?;
        self.chapter("mTLS: OpenSSL shows the certificate, and the TPM signs the handshake")?;
        machine.shakes_hands(self)?;
        self.chapter("Another boot loader: the node is refused, and the log says why")?;
        let changed = changed();
        machine.boot(&changed)?;
        self.refused(machine.node(&["attest"])?, 4)?;
        let prod = self.domain("prod.example")?;
        self.step(self.site.export(prod)?)?;
        let (log, key) = (self.site.path("prod.example/log"), self.site.path("prod.example/log.vkey"));
        let evidence = |words: &[&str]| -> Result<Tool, Failure> {
            let tool = Tool::ours("undercroft")?.arg("attest").args(words);
            Ok(tool.arg("--from").arg(&log).arg("--log-key").arg(&key))
        };
        let newest = self.refused_entry(&log, &key)?;
        let ran = self.step(evidence(&["explain", &newest])?)?;
        self.quote(&ran)?;
        self.chapter("The new boot is known: another policy, first tried on the past, then enabled")?;
        let next = self.site.path("daemon/nodes-next.toml");
        write(&next, &policy(&changed))?;
        let ran = self.step(evidence(&["simulate"])?.arg("--policy").arg(&next))?;
        self.quote(&ran)?;
        let (current, address) = (self.site.path("daemon").join(POLICY), daemon.address().to_owned());
        fs::rename(&next, &current).map_err(failed(&current))?;
        daemon.stop()?;
        let daemon = self.site.start()?;
        if daemon.address() != address {
            return Err(Failure::failed("the daemon listens somewhere else than before"));
        }
        let ran = self.step(machine.node(&["attest"])?)?;
        self.quote(&ran)?;
        let ran = self.step(self.site.administer(&["node", "list", "--domain", "prod.example"])?)?;
        self.quote(&ran.says(&id)?)?;
        Ok(daemon)
    }

    /// Once the logs are exported: what an auditor makes of the node.
    pub(crate) fn node_audit(&self) -> Result<(), Failure> {
        self.chapter(
            "The node, audited: each verdict is judged again, and its certificate stands in the log",
        )?;
        let key = self.site.path("prod.example/log.vkey");
        let audit = Tool::ours("undercroft-audit")?.arg("reverify").arg(self.site.path("prod.example/log"));
        let ran = self.step(audit.arg("--key").arg(&key))?;
        self.quote(&ran)?;
        let of = |name: &str| self.site.path("node/svid/current").join(name);
        let audit = Tool::ours("undercroft-audit")?.arg("certificate").arg(of("svid.pem"));
        let audit = audit.arg("--entry").arg(of("svid.entry")).arg("--proof").arg(of("svid.tlog-proof"));
        self.step(audit.arg("--key").arg(&key)).map(drop)
    }

    /// The index of the newest verdict that refused.
    fn refused_entry(&self, log: &Path, key: &Path) -> Result<String, Failure> {
        let show = Tool::ours("undercroft-audit")?.args(["--output", "json", "show"]).arg(log);
        let shown = show.arg("--key").arg(key).args(["--kind", "verdict"]).done()?.stdout;
        let told = || Failure::failed("undercroft-audit shows no verdict");
        let newest = shown.lines().last().and_then(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            entry["index"].as_u64()
        });
        let newest = newest.ok_or_else(told)?;
        Ok(newest.to_string())
    }
}

impl Machine {
    /// Switches it off, if it is on, and on again: it measures `boot`.
    fn boot(&mut self, boot: &MeasuredBoot) -> Result<(), Failure> {
        let tcti = self.swtpm.tcti();
        if let Some(running) = self.running.take() {
            // In order: after a power cut the clock of a TPM is not safe for a while.
            Tool::foreign("tpm2_shutdown").args(["--tcti", &tcti, "--clear"]).done()?;
            drop(running);
        }
        self.running = Some(self.swtpm.start().map_err(simulated)?);
        let boot = sha256(boot);
        for some in boot.extends().chunks(40) {
            Tool::foreign("tpm2_pcrextend").args(["--tcti", &tcti]).args(some).done()?;
        }
        let log = self.folder.join("events");
        fs::write(&log, boot.log()).map_err(failed(&log))
    }

    fn configure(&self, story: &Story<'_>, daemon: &Daemon) -> Result<(), Failure> {
        let root = |domain: &str| absolute(&story.site.path(domain).join("root.pem"));
        let text = format!(
            "server = \"{}\"\ndomain = \"prod.example\"\nroots = \"{}\"\nserver-id = \"spiffe://control.example/undercroft/server\"\n\
             server-roots = \"{}\"\nstate = \"state\"\noutput = \"svid\"\ntcti = \"{}\"\nevent-log = \"events\"\n",
            daemon.address(),
            root("prod.example")?.display(),
            root("control")?.display(),
            self.swtpm.tcti()
        );
        write(&self.folder.join("node.toml"), &text)
    }

    fn node(&self, words: &[&str]) -> Result<Tool, Failure> {
        Ok(Tool::ours("undercroft-node")?.args(words).arg("--config").arg(self.folder.join("node.toml")))
    }

    fn id(&self) -> Result<String, Failure> {
        let told = self.node(&["--output", "json", "fetch"])?.done()?.stdout;
        let value: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        let id = value["uris"][0].as_str();
        id.map(str::to_owned).ok_or_else(|| Failure::failed("undercroft-node tells no SPIFFE ID"))
    }

    /// A server that wants a client's certificate, and a client whose key is in the TPM: both by OpenSSL.
    fn shakes_hands(&self, story: &Story<'_>) -> Result<(), Failure> {
        let site = |name: &str| story.site.path(name);
        let port = crate::free_port()?.to_string();
        let root = site("prod.example/root.pem");
        let server =
            Tool::foreign("openssl").args(["s_server", "-quiet", "-tls1_3", "-naccept", "1", "-rev"]);
        let server = server.args(["-accept", &port, "-Verify", "3", "-verify_return_error"]);
        let server = server.arg("-CAfile").arg(&root).arg("-cert").arg(site("prod.example/leaf.pem"));
        let server = server.arg("-cert_chain").arg(site("prod.example/chain.pem"));
        let server = server.arg("-key").arg(site("prod.example/leaf.key"));
        story.say(format!("  $ {} &", server.line()))?;
        let _server = Running::start(server)?;
        let of = |name: &str| self.folder.join("svid/current").join(name);
        // The kernel's resource manager on a machine; a TPM has three places for objects, and OpenSSL wants more.
        let manager =
            ResourceManager::start(&absolute(&self.folder)?.join("m"), &self.swtpm).map_err(simulated)?;
        let mut variables = manager.variables();
        variables.push(("TPM2OPENSSL_TCTI".to_owned(), manager.tcti().to_owned()));
        let client = || {
            Tool::foreign("openssl")
                .args(["s_client", "-quiet", "-tls1_3", "-provider", "tpm2", "-provider", "default"])
                .args(["-propquery", "?provider=tpm2", "-verify_return_error"])
                .args(["-connect", &format!("127.0.0.1:{port}")])
                .arg("-CAfile")
                .arg(&root)
                .arg("-cert")
                .arg(of("svid.pem"))
                .arg("-cert_chain")
                .arg(of("svid.pem"))
                .arg("-key")
                .arg(of("svid.key"))
                .with(&variables)
        };
        story.say(format!("  $ {}", client().line()))?;
        let answer = answered(client, "tfig a si erutangis a")?;
        story.say(format!("    {answer}"))
    }
}

/// A program that is stopped when it is not needed any more.
struct Running(Child);

impl Running {
    fn start(tool: Tool) -> Result<Self, Failure> {
        let line = tool.line().to_owned();
        let mut command = tool.into_command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| Failure::unreachable(format!("{line}: {error}")))?;
        Ok(Self(child))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has mostly ended by itself, after its one connection.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a client is answered to a line, which the server sends back to front. The server may take a moment to be there.
fn answered(client: impl Fn() -> Tool, line: &str) -> Result<String, Failure> {
    let told = |what: String| Failure::failed(format!("openssl s_client: {what}"));
    for _ in 0..100 {
        let mut command = client().into_command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| told(error.to_string()))?;
        if let Some(input) = &mut child.stdin {
            // A client that could not connect takes nothing, and says so below.
            let _ = writeln!(input, "{line}");
        }
        let mut answer = String::new();
        if let Some(output) = child.stdout.take() {
            use std::io::BufRead as _;
            let read = std::io::BufReader::new(output).read_line(&mut answer);
            read.map_err(|error| told(error.to_string()))?;
        }
        let _ = child.kill();
        let ended = child.wait_with_output().map_err(|error| told(error.to_string()))?;
        let backwards: String = line.chars().rev().collect();
        match answer.trim_end() {
            answer if answer == backwards => return Ok(backwards),
            "" if String::from_utf8_lossy(&ended.stderr).contains("onnection refused") => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            other => return Err(told(format!("{other} {}", String::from_utf8_lossy(&ended.stderr)))),
        }
    }
    Err(told("the server does not come up".to_owned()))
}

/// A boot in which another boot loader ran.
fn changed() -> MeasuredBoot {
    let mut boot = MeasuredBoot::honest();
    boot.events.push(SimEvent::of(4, BOOT_SERVICES_APPLICATION, *b"grub 2.12", *b"grub 2.12"));
    boot
}

fn sha256(boot: &MeasuredBoot) -> MeasuredBoot {
    MeasuredBoot { banks: vec![SimBank::Sha256], ..boot.clone() }
}

/// A policy that takes every TPM of this maker, booted like this.
fn policy(boot: &MeasuredBoot) -> String {
    let loaders = hex::encode(&sha256(boot).values(SimBank::Sha256, 0)[4]);
    format!(
        r#"[tpm]
pcrs = {{ sha256 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] }}
event-log = true

[[tpm.maker]]
file = "makers.pem"
class = "simulated"

[[rule]]
name = "nodes"
domain = "prod.example"
profile = "svid"
spiffe-id = "spiffe://prod.example/node/{{ek}}"
assurance = "software"
select = ["tpm:pcr:sha256:4:{loaders}"]
lifetime = {{ software = "1h" }}
"#
    )
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(failed(path))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::failed(format!("{}: {error}", path.display()))
}

fn simulated(error: SimError) -> Failure {
    Failure::failed(error.to_string())
}

//! `make demo`: the main job, on simulated devices, by the real binaries.

mod node;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use e2e::forge::{Forgery, uri};
use e2e::verifiers::{Verdict, gnutls, openssl, rustls};
use e2e::{Caller, Daemon, Domain, Issue, Listen, Ran, Site, Tool, break_signature, request};
use undercroft_cli::{Failure, OutputFormat, Progress, Terminal};

/// Steps that the story counts, for the progress bar.
const STEPS: u64 = 38;

fn main() -> ExitCode {
    let terminal = Terminal::new(OutputFormat::Text);
    match run(&terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.fail("demo", &failure);
            failure.status().into()
        }
    }
}

fn run(terminal: &Terminal) -> Result<(), Failure> {
    let folder = PathBuf::from("target/demo");
    clear(&folder)?;
    let port = free_port()?;
    let domains =
        vec![Domain::softhsm("prod.example", "ecdsa-p256"), Domain::tpm("edge.example", "ecdsa-p256")];
    let site = Site::new(&folder, domains, Listen::Port(port))?;
    let progress = terminal.progress(STEPS, "demo");
    Story { site, terminal, progress }.tell()?;
    epilogue(&folder, terminal)
}

/// An earlier demo is stopped and removed.
fn clear(folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
    if folder.exists() {
        Tool::ours("hsm-sim")?.arg("down").arg(folder.join("devices")).done()?;
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::create_dir_all(folder).map_err(failed)
}

fn free_port() -> Result<u16, Failure> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|error| Failure::unreachable(format!("no port is free: {error}")))
}

struct Story<'a> {
    site: Site,
    terminal: &'a Terminal,
    progress: Progress,
}

impl Story<'_> {
    fn tell(self) -> Result<(), Failure> {
        self.chapter("Devices: SoftHSM tokens for roots, logs and two domains, and a TPM for the third")?;
        self.step(self.site.hsm_sim_up()?)?;
        self.ceremony()?;
        let forged = self.forge()?;
        self.chapter("The daemon: three domains, SQLite, mTLS on loopback, administration by Unix socket")?;
        self.site.write_configuration()?;
        self.node_policy()?;
        self.say(format!("  $ {}", self.site.serve()?.line()))?;
        let daemon = self.site.start()?;
        self.site.write_exports(&self.site.path("env"), daemon.address())?;
        self.progress.advance(1);
        let (operator, spire) = self.first_callers(&daemon)?;
        self.certificates(&daemon, &operator, &spire)?;
        self.isolation(&daemon, &forged)?;
        self.refusals(&daemon, &operator)?;
        let daemon = self.node(daemon)?;
        self.chapter("Export: each log as static tiles, for any web server")?;
        for domain in self.site.domains() {
            self.step(self.site.export(domain)?)?;
        }
        daemon.stop()?;
        self.strangers()?;
        self.audits()?;
        self.site.hsm_sim_down()?.done()?;
        Ok(())
    }

    fn ceremony(&self) -> Result<(), Failure> {
        self.chapter("Keys: each is made on the machine where it lives; only requests travel")?;
        self.site.write_plan()?;
        for tool in self.site.create_keys()? {
            self.step(tool)?;
        }
        self.chapter(
            "Ceremony: lint first, then a root for each domain, an intermediate below each, and CRLs",
        )?;
        self.step(self.site.ceremony()?)?;
        Ok(())
    }

    /// The thief has the use of edge.example's key. What it makes with it is shown later.
    fn forge(&self) -> Result<Caller, Failure> {
        let folder = self.site.path("forged");
        let edge = self.domain("edge.example")?;
        let names = [uri("spiffe://prod.example/ns/pay/sa/ledger")?];
        Forgery {
            devices: &self.site.devices(),
            key: &edge.key,
            intermediate: &self.site.path("edge.example/intermediate.pem"),
            names: &names,
        }
        .write(&folder, "forged")?;
        self.progress.advance(1);
        Ok(Caller { cert: folder.join("forged.chain.pem"), key: folder.join("forged.key") })
    }

    fn first_callers(&self, daemon: &Daemon) -> Result<(Caller, Caller), Failure> {
        self.chapter("First contact: a single-use token becomes a client certificate of the control domain")?;
        let operator = self.enrol(daemon, "/operator/alice")?;
        let spire = self.enrol(daemon, "/server/prod")?;
        Ok((operator, spire))
    }

    fn enrol(&self, daemon: &Daemon, path: &str) -> Result<Caller, Failure> {
        let folder = self.site.path("control").join(path.trim_start_matches('/').replace('/', "-"));
        let (key, csr) = request(&folder, "leaf", "P-256", None)?;
        let token = folder.join("token");
        self.step(self.site.create_enrolment(&format!("spiffe://control.example{path}"), &token)?)?;
        self.step(self.site.enrol(daemon, &token, &csr, &folder)?)?;
        // The control log's key, where the audit looks for it.
        copy(&folder.join("log.vkey"), &self.site.path("control/log.vkey"))?;
        Ok(Caller { cert: folder.join("chain.pem"), key })
    }

    fn certificates(&self, daemon: &Daemon, operator: &Caller, spire: &Caller) -> Result<(), Failure> {
        self.chapter("Certificates: logged before they are signed, each with chain, roots and .tlog-proof")?;
        for domain in ["prod.example", "edge.example"] {
            let out = self.site.path(domain);
            let id = format!("spiffe://{domain}/ns/pay/sa/ledger");
            let (_, csr) = request(&out, "leaf", "P-256", Some(&id))?;
            let issue = Issue { domain, profile: "svid", csr: &csr, out: &out, more: &[] };
            self.step(self.site.issue(daemon, operator, &issue)?)?;
        }
        let out = self.site.path("prod.example/spire-ca");
        let (_, csr) = request(&out, "leaf", "P-384", Some("spiffe://prod.example"))?;
        let issue = Issue { domain: "prod.example", profile: "spire-ca", csr: &csr, out: &out, more: &[] };
        self.step(self.site.issue(daemon, spire, &issue)?)?;
        Ok(())
    }

    fn isolation(&self, daemon: &Daemon, forged: &Caller) -> Result<(), Failure> {
        self.chapter("Isolation: a certificate for prod.example, forged with the key of edge.example, under prod's root")?;
        let root = self.site.path("prod.example/root.pem");
        self.refused(openssl(&root, &forged.cert), 2)?;
        self.refused(gnutls(&root, &forged.cert), 1)?;
        match rustls(&root, &forged.cert)? {
            Verdict::Refused(why) => self.say(format!("rustls-webpki: refused, {why}"))?,
            Verdict::Accepted => {
                return Err(Failure::tampered("rustls-webpki accepts the forged certificate"));
            }
        }
        let folder = self.site.path("refused");
        let (_, csr) = request(&folder, "workload", "P-256", Some("spiffe://prod.example/ns/a/sa/b"))?;
        let issue = Issue { domain: "prod.example", profile: "svid", csr: &csr, out: &folder, more: &[] };
        self.refused(self.site.issue(daemon, forged, &issue)?, 4)
    }

    fn refusals(&self, daemon: &Daemon, operator: &Caller) -> Result<(), Failure> {
        self.chapter("Refusals: each names its rule, exits with 4 and stands in the log")?;
        let folder = self.site.path("refused");
        let csr = folder.join("workload.csr.pem");
        let issue = |csr, more| Issue { domain: "prod.example", profile: "svid", csr, out: &folder, more };
        let (_, nameless) = request(&folder, "nameless", "P-256", None)?;
        let other = ["--id", "spiffe://edge.example/ns/pay/sa/ledger"];
        self.refused(self.site.issue(daemon, operator, &issue(&nameless, &other))?, 4)?;
        let broken = folder.join("broken.csr.pem");
        break_signature(&csr, &broken)?;
        self.refused(self.site.issue(daemon, operator, &issue(&broken, &[]))?, 4)?;
        self.refused(self.site.issue(daemon, operator, &issue(&csr, &["--lifetime", "48h"]))?, 4)?;
        let stranger = self.enrol(daemon, "/visitor/mallory")?;
        self.refused(self.site.issue(daemon, &stranger, &issue(&csr, &[]))?, 4)
    }

    fn strangers(&self) -> Result<(), Failure> {
        self.chapter("Strangers' tools: OpenSSL and GnuTLS accept the chains")?;
        for chain in ["prod.example", "edge.example", "prod.example/spire-ca"] {
            let domain = chain.split('/').next().unwrap_or(chain);
            let root = self.site.path(domain).join("root.pem");
            let chain = self.site.path(chain).join("chain.pem");
            self.step(openssl(&root, &chain))?;
            self.step(gnutls(&root, &chain))?;
        }
        Ok(())
    }

    fn audits(&self) -> Result<(), Failure> {
        self.chapter("Audit: every byte, every signature, every custody record, with nothing but the files")?;
        for domain in self.site.domains() {
            let ran = self.step(self.site.audit(domain)?)?;
            self.quote(&ran)?;
        }
        let transcript = self.site.path("ceremony/transcript");
        let audit = Tool::ours("undercroft-audit")?.arg("verify").arg(&transcript);
        self.step(audit.arg("--key").arg(transcript.join("log.vkey")))?;
        self.node_audit()?;
        self.chapter("Tampering: one byte of a copy is changed")?;
        let copy_of = self.site.path("tampered/log");
        copy_folder(&self.site.path("prod.example/log"), &copy_of)?;
        tamper(&copy_of)?;
        let audit = Tool::ours("undercroft-audit")?.arg("verify").arg(&copy_of);
        let ran = audit.arg("--key").arg(self.site.path("prod.example/log.vkey")).run()?.expect(5)?;
        self.say(format!("  $ {}", ran.line))?;
        self.say(format!("    exit status 5: {}", ran.stderr.trim_end()))
    }

    fn domain(&self, name: &str) -> Result<&Domain, Failure> {
        let found = self.site.domains().iter().find(|domain| domain.name == name);
        found.ok_or_else(|| Failure::failed(format!("there is no domain {name}")))
    }

    fn chapter(&self, title: &str) -> Result<(), Failure> {
        self.say(format!("\n{title}"))
    }

    fn say(&self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.progress.above(|| self.terminal.say(line))
    }

    /// Runs a program that must succeed.
    fn step(&self, tool: Tool) -> Result<Ran, Failure> {
        self.say(format!("  $ {}", tool.line()))?;
        let ran = tool.done()?;
        self.progress.advance(1);
        Ok(ran)
    }

    /// Runs a program that must refuse.
    fn refused(&self, tool: Tool, status: i32) -> Result<(), Failure> {
        self.say(format!("  $ {}", tool.line()))?;
        let ran = tool.run()?.expect(status)?;
        self.progress.advance(1);
        self.say(format!("    exit status {status}: {}", ran.said()))
    }

    fn quote(&self, ran: &Ran) -> Result<(), Failure> {
        for line in ran.stdout.lines() {
            self.say(format!("    {line}"))?;
        }
        Ok(())
    }
}

fn epilogue(folder: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let folder = folder.display();
    terminal.say(format!(
        r#"
Nothing is left running, and everything is in {folder}/:
  ceremony/              plan, environment, requests and transcript
  control/               the control domain: callers' certificates, log.vkey, log/
  prod.example/          root, intermediate, chain, leaf and its key, proof and entry, log.vkey, log/
  edge.example/          the same, with its key in the TPM
  node/                  its TPM, its event log, and its certificate in svid/current/
  daemon/                configuration, policy, database

What to try next:
  . {folder}/env
  hsm-sim up {folder}/devices --softhsm roots --softhsm logs --softhsm control --softhsm prod --tpm edge
  undercroft doctor
  undercroft serve &
  undercroft status
  undercroft-audit show {folder}/prod.example/log --key {folder}/prod.example/log.vkey --kind refusal
  undercroft-audit certificate {folder}/prod.example/leaf.pem --entry {folder}/prod.example/leaf.entry \
    --proof {folder}/prod.example/leaf.tlog-proof --key {folder}/prod.example/log.vkey
Before you remove it: hsm-sim down {folder}/devices; then rm -r {folder}"#
    ))
}

/// Changes one byte in the middle of the newest bundle of entries.
fn tamper(log: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(error.to_string());
    let folder = log.join("tile/entries/000.p");
    let mut bundles: Vec<_> =
        fs::read_dir(&folder).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
    bundles.sort_by_key(|path| fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default());
    let newest = bundles.pop().ok_or_else(|| Failure::failed("the log has no entries"))?;
    let mut bytes = fs::read(&newest).map_err(failed)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).map_err(failed)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to).map(drop).map_err(|error| Failure::failed(format!("{}: {error}", to.display())))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", to.display()));
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)?.flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => copy(&entry.path(), &target)?,
        }
    }
    Ok(())
}

//! A foreign witness: torchwood's litewitness takes what we push, and remembers it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::{Domain, Issue, Listen, Site, Tool, request};
use undercroft_log::proof::TlogProof;
use undercroft_log::witnesses::WitnessPolicy;

/// The newest version whose modules can all be had. Its `witnessctl` needs one that cannot, so that the two rows which that
/// would write are written by Python.
const LITEWITNESS: &str = "filippo.io/torchwood/cmd/litewitness@v0.9.0";

const NAME: &str = "witness.example/foreign";

/// A program that is stopped when it is dropped.
struct Running(Child);

impl Running {
    fn start(tool: Tool, log: &Path) -> Self {
        let stderr = fs::File::create(log).unwrap();
        let mut command = tool.into_command();
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so, and says what was waited for if it never is.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain for {what}");
}

fn built() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/go-tools");
    fs::create_dir_all(&folder).unwrap();
    let folder = folder.canonicalize().unwrap();
    let install = Tool::foreign("go").args(["install", LITEWITNESS]);
    install.with(&[("GOBIN".to_owned(), folder.display().to_string())]).done().unwrap();
    folder.join("litewitness")
}

#[test]
fn a_foreign_witness_accepts_our_pushes_and_notices_a_log_that_went_back() {
    let program = built();
    let folder = tempfile::tempdir().unwrap();
    let site =
        Site::new(folder.path(), vec![Domain::softhsm("prod.example", "ecdsa-p256")], Listen::Anywhere);
    let site = site.unwrap();
    site.hsm_sim_up().unwrap().done().unwrap();
    site.write_plan().unwrap();
    site.create_keys().unwrap().into_iter().for_each(|tool| drop(tool.done().unwrap()));
    site.ceremony().unwrap().done().unwrap();
    site.write_configuration().unwrap();

    // Its key is in an ssh-agent.
    let (agent_socket, key) = (site.path("agent"), site.path("foreign"));
    let agent = Tool::foreign("ssh-agent").args(["-D", "-a"]).arg(&agent_socket);
    let _agent = Running::start(agent, &site.path("agent.log"));
    until("the agent", || agent_socket.exists());
    Tool::foreign("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).done().unwrap();
    let socket = [("SSH_AUTH_SOCK".to_owned(), agent_socket.display().to_string())];
    Tool::foreign("ssh-add").arg(&key).with(&socket).done().unwrap();
    let shown = Tool::foreign("ssh-keygen").args(["-lf"]).arg(key.with_extension("pub")).done().unwrap();
    let fingerprint = shown.stdout.split(' ').nth(1).unwrap().to_owned();

    let logs = log_keys(&site);
    let database = site.path("litewitness.db");
    let script = "import base64, hashlib, sqlite3, sys\n\
                  c = sqlite3.connect(sys.argv[1])\n\
                  c.execute('CREATE TABLE IF NOT EXISTS log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL)')\n\
                  c.execute('CREATE TABLE IF NOT EXISTS key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin))')\n\
                  empty = base64.b64encode(hashlib.sha256(b'').digest()).decode()\n\
                  for key in sys.argv[2:]:\n\
                  \x20   origin = key.split('+')[0]\n\
                  \x20   c.execute('INSERT INTO log VALUES (?, 0, ?)', (origin, empty))\n\
                  \x20   c.execute('INSERT INTO key VALUES (?, ?)', (origin, key))\n\
                  c.commit()";
    Tool::foreign("python3").args(["-c", script]).arg(&database).args(&logs).done().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let said = site.path("litewitness.log");
    let tool = Tool::foreign(program.to_str().unwrap()).args(["-name", NAME, "-key", &fingerprint]);
    let tool = tool.args(["-listen", &listen, "-ssh-agent"]).arg(&agent_socket).arg("-db").arg(&database);
    let _witness = Running::start(tool, &said);
    until("the witness", || TcpStream::connect(&listen).is_ok());
    let said = fs::read_to_string(&said).unwrap();
    let vkey = said.split("vkey=").nth(1).unwrap().split_whitespace().next().unwrap().trim_matches('"');

    let lines: String = logs.iter().map(|key| format!("log {key}\n")).collect();
    let policy = format!("{lines}witness foreign {vkey} http://{listen}/\nquorum foreign\n");
    fs::write(site.path("daemon/witnesses.policy"), &policy).unwrap();
    let policy: WitnessPolicy = policy.parse().unwrap();
    let config = site.path("daemon/undercroft.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("database =", "witness-policy = \"witnesses.policy\"\ndatabase =");
    fs::write(&config, text).unwrap();

    let daemon = site.start().unwrap();
    let server = site.enrolled(&daemon, "/server/prod").unwrap();
    assert_eq!(daemon.stop().unwrap(), 0);
    let (live, old) = (site.path("daemon/undercroft.db"), site.path("old.db"));
    fs::copy(&live, &old).unwrap();
    let daemon = site.start().unwrap();
    for out in ["one", "two"] {
        let out = site.path(out);
        let (_, csr) = request(&out, "leaf", "P-256", Some("spiffe://prod.example")).unwrap();
        let issue = Issue { domain: "prod.example", profile: "spire-ca", csr: &csr, out: &out, more: &[] };
        site.issue(&daemon, &server, &issue).unwrap().done().unwrap();
        let proof: TlogProof = fs::read_to_string(out.join("leaf.tlog-proof")).unwrap().parse().unwrap();
        let (_, cosigned) = policy.open(&proof.checkpoint).unwrap();
        assert!(cosigned.contains("foreign"));
    }
    assert_eq!(daemon.stop().unwrap(), 0);
    fs::copy(&old, &live).unwrap();
    let refused = site.serve().unwrap().run().unwrap().expect(5).unwrap();
    refused.says("witness `foreign`").unwrap().says("the log went back").unwrap();
}

/// The logs' keys, as `doctor` tells them before the first start.
fn log_keys(site: &Site) -> Vec<String> {
    let doctor = Tool::ours("undercroft").unwrap().args(["doctor", "--config"]);
    let doctor = doctor.arg(site.path("daemon/undercroft.toml")).with(&site.variables());
    let said = doctor.done().unwrap().stdout;
    said.lines().filter_map(|line| line.split("; vkey ").nth(1)).map(str::to_owned).collect()
}

//! A machine with a TPM, beside an installation that takes nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Daemon, Domain, Site, Tool};
use hsm_sim::measured_boot::{MeasuredBoot, SimBank};
use hsm_sim::swtpm::{Manufacture, RunningSwtpm, Swtpm};
use hsm_sim::tpm2_pkcs11::ResourceManager;
use serde_json::Value;

/// The machine, the daemon, and where they are.
pub(super) struct Machine {
    pub(super) daemon: Option<Daemon>,
    /// In front of the TPM, where several programs use it at once.
    manager: Option<ResourceManager>,
    tpm: Option<RunningSwtpm>,
    swtpm: Swtpm,
    site: Site,
    folder: tempfile::TempDir,
}

impl Machine {
    /// With certificates that live for `lifetime`.
    pub(super) fn new(lifetime: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::built(&folder.path().join("s"), vec![Domain::softhsm("prod.example", "ecdsa-p256")]);
        let site = site.unwrap();
        let swtpm = Swtpm::manufacture(&folder.path().join("t"), Manufacture::WithEndorsement).unwrap();
        let makers: String = swtpm.manufacturer().map(|path| fs::read_to_string(path).unwrap()).concat();
        fs::write(site.path("daemon/makers.pem"), makers).unwrap();
        fs::write(site.path("daemon/nodes.toml"), policy(lifetime)).unwrap();
        let configuration = site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&configuration).unwrap();
        fs::write(&configuration, format!("node-policy = \"nodes.toml\"\n{text}")).unwrap();
        let daemon = Some(site.start().unwrap());
        let mut machine = Self { daemon, manager: None, tpm: None, swtpm, site, folder };
        machine.reboot(&MeasuredBoot::honest(), &MeasuredBoot::honest());
        machine.configure();
        machine
    }

    /// Puts a resource manager in front of the TPM, as the kernel's is on a machine.
    pub(super) fn manage(&mut self) {
        self.manager = Some(ResourceManager::start(&self.path("m"), &self.swtpm).unwrap());
        self.configure();
    }

    /// What somebody would write on the node.
    fn configure(&self) {
        let root = |folder: &str| self.site.path(folder).join("root.pem").display().to_string();
        let text = format!(
            "server = \"{}\"\ndomain = \"prod.example\"\nroots = \"{}\"\nserver-id = \"spiffe://control.example/undercroft/server\"\nserver-roots = \"{}\"\nstate = \"state\"\noutput = \"svid\"\ntcti = \"{}\"\nevent-log = \"events\"\n\n[renewal]\nretry-least = \"1s\"\nretry-most = \"1s\"\n",
            self.daemon.as_ref().unwrap().address(),
            root("prod.example"),
            root("control"),
            self.tcti(),
        );
        fs::write(self.path("node.toml"), text).unwrap();
    }

    /// Switches the machine off and on: it measures `boot`, and writes the log of `log`.
    pub(super) fn reboot(&mut self, boot: &MeasuredBoot, log: &MeasuredBoot) {
        // In order (TPM2_Shutdown): after a power cut the clock is not safe for a while, and no policy of ours takes it then.
        if let Some(running) = self.tpm.take() {
            let tcti = self.swtpm.tcti();
            Tool::foreign("tpm2_shutdown").args(["--tcti", &tcti, "--clear"]).done().unwrap();
            drop(running);
        }
        self.tpm = Some(self.swtpm.start().unwrap());
        let sha256 = |boot: &MeasuredBoot| MeasuredBoot { banks: vec![SimBank::Sha256], ..boot.clone() };
        for some in sha256(boot).extends().chunks(40) {
            let tool = Tool::foreign("tpm2_pcrextend").args(["--tcti", &self.swtpm.tcti()]).args(some);
            tool.done().unwrap();
        }
        fs::write(self.path("events"), sha256(log).log()).unwrap();
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file's text, or nothing.
    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// `undercroft-node …`.
    pub(super) fn node(&self, arguments: &[&str]) -> Tool {
        let config = ("UNDERCROFT_NODE_CONFIG".to_owned(), self.path("node.toml").display().to_string());
        Tool::ours("undercroft-node").unwrap().args(arguments).with(&[config]).with(&self.variables())
    }

    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        let done = self.node(&[&["--output", "json"], arguments].concat()).done().unwrap();
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// The TPM, for programs that use it.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let own = [("TPM2OPENSSL_TCTI".to_owned(), self.tcti())];
        own.into_iter().chain(self.manager.iter().flat_map(ResourceManager::variables)).collect()
    }

    fn tcti(&self) -> String {
        self.manager.as_ref().map_or_else(|| self.swtpm.tcti(), |manager| manager.tcti().to_owned())
    }

    pub(super) fn openssl_verifies(&self) {
        self.openssl_verifies_in(&self.path("svid/current"));
    }

    /// OpenSSL finds chain and key of a generation good, and the key to be the certificate's.
    pub(super) fn openssl_verifies_in(&self, folder: &Path) {
        let file = |name: &str| folder.join(name).display().to_string();
        let (svid, bundle, key) = (file("svid.pem"), file("bundle.pem"), file("svid.key"));
        let verify =
            Tool::foreign("openssl").args(["verify", "-CAfile", &bundle, "-untrusted", &svid, &svid]);
        verify.done().unwrap();
        let certified =
            Tool::foreign("openssl").args(["x509", "-in", &svid, "-noout", "-pubkey"]).done().unwrap();
        let provider = ["-provider", "tpm2", "-provider", "default"];
        let held = Tool::foreign("openssl").args(["pkey"]).args(provider).args(["-in", &key, "-pubout"]);
        let held = held.with(&self.variables()).done().unwrap();
        assert_eq!(certified.stdout, held.stdout);
    }

    /// Stops the daemon, and gives where it listened.
    pub(super) fn stop_daemon(&mut self) -> String {
        let daemon = self.daemon.take().unwrap();
        let address = daemon.address().to_owned();
        assert_eq!(daemon.stop().unwrap(), 0);
        address
    }

    /// Starts it again where it was.
    pub(super) fn start_daemon_at(&mut self, address: &str) {
        let configuration = self.site.path("daemon/undercroft.toml");
        let text = fs::read_to_string(&configuration).unwrap();
        let (host, _) = address.rsplit_once(':').unwrap();
        assert!(text.contains(&format!("{host}:0")), "{text}");
        fs::write(&configuration, text.replace(&format!("{host}:0"), address)).unwrap();
        self.daemon = Some(self.site.start().unwrap());
    }

    /// Waits, for a minute at the most.
    pub(super) fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..1200 {
            if is_so(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it does not come about: {}", self.read("node.log"));
    }
}

/// Every TPM of this maker, booted as we know it.
fn policy(lifetime: &str) -> String {
    let images = &MeasuredBoot::honest().values(SimBank::Sha256, 0)[4];
    format!(
        r#"
[tpm]
pcrs = {{ sha256 = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] }}
event-log = true
maker = [{{ file = "makers.pem", class = "simulated" }}]

[[rule]]
name = "nodes"
domain = "prod.example"
profile = "svid"
spiffe-id = "spiffe://prod.example/node/{{ek}}"
assurance = "software"
select = ["tpm:pcr:sha256:4:{}"]
lifetime = {{ software = "{lifetime}" }}
"#,
        hex::encode(images)
    )
}

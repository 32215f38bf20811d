//! An installation in a folder: devices, ceremony, configuration, daemon, callers.

mod texts;

use std::fs;
use std::path::{Path, PathBuf};

use hsm_sim::installation::Installation;
use undercroft_ca::certificate::{certificates_from_pem, to_pem};
use undercroft_cli::{Failure, read_text, write_file};

use crate::daemon::Daemon;
use crate::programs::Tool;

/// A trust domain of the installation, and where its intermediate's key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The trust domain.
    pub name: String,
    /// Its folder below the site.
    pub folder: String,
    /// The key of its intermediate.
    pub key: String,
    /// What that key is and how it signs.
    pub algorithm: String,
    /// The root that it shares with other domains; none for a root of its own.
    pub shared_root: Option<String>,
}

impl Domain {
    /// A domain whose key is in a SoftHSM token that is called as the domain's first label.
    pub fn softhsm(name: &str, algorithm: &str) -> Self {
        let token = first_label(name);
        Self {
            name: name.to_owned(),
            folder: if token == "control" { token.to_owned() } else { name.to_owned() },
            key: format!("pkcs11:token={token};object=intermediate-i1"),
            algorithm: algorithm.to_owned(),
            shared_root: None,
        }
    }

    /// A domain whose key is in a TPM that is called as the domain's first label.
    pub fn tpm(name: &str, algorithm: &str) -> Self {
        Self { key: "tpm:handle=0x81000010".to_owned(), ..Self::softhsm(name, algorithm) }
    }

    /// The domain under a root that others are under too, kept apart by name constraints.
    #[must_use]
    pub fn under(self, root: &str) -> Self {
        Self { shared_root: Some(root.to_owned()), ..self }
    }

    fn is_in_tpm(&self) -> bool {
        self.key.starts_with("tpm:")
    }
}

fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Where the daemon listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At a port that the system chooses at each start.
    Anywhere,
    /// At this port of the loopback interface.
    Port(u16),
}

/// An installation in a folder.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    domains: Vec<Domain>,
    devices: Installation,
    listen: Listen,
    policy: String,
}

/// Somebody who has a certificate of the control domain.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What `undercroft issue` is asked for.
#[derive(Clone, Debug)]
pub struct Issue<'a> {
    /// The trust domain.
    pub domain: &'a str,
    /// The profile.
    pub profile: &'a str,
    /// The request.
    pub csr: &'a Path,
    /// Where the answer is written.
    pub out: &'a Path,
    /// More arguments.
    pub more: &'a [&'a str],
}

impl Site {
    /// An installation in `folder`, which must not hold one yet. The control domain `control.example` comes first, in
    /// a SoftHSM token, and then `domains`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: &Path, domains: Vec<Domain>, listen: Listen) -> Result<Self, Failure> {
        let devices = Installation::in_folder(&folder.join("devices"))
            .map_err(|error| Failure::failed(error.to_string()))?;
        let control = Domain::softhsm("control.example", "ecdsa-p256");
        let domains: Vec<_> = [control].into_iter().chain(domains).collect();
        let policy = texts::policy(&domains);
        Ok(Self { folder: folder.to_owned(), domains, devices, listen, policy })
    }

    /// Everything up to the daemon's start.
    ///
    /// # Errors
    /// A step fails.
    pub fn built(folder: &Path, domains: Vec<Domain>) -> Result<Self, Failure> {
        let site = Self::new(folder, domains, Listen::Anywhere)?;
        site.hsm_sim_up()?.done()?;
        site.write_plan()?;
        for tool in site.create_keys()? {
            tool.done()?;
        }
        site.ceremony()?.done()?;
        site.write_configuration()?;
        Ok(site)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path below the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The domains, the control domain first.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The environment of programs that use the devices.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.devices.variables()
    }

    /// The environment file with every device.
    pub fn devices(&self) -> PathBuf {
        self.path("devices/devices.toml")
    }

    /// Gives the policy another text, from the next start on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_policy(&mut self, text: &str) -> Result<(), Failure> {
        text.clone_into(&mut self.policy);
        write_file(&self.path("daemon/policy.toml"), text.as_bytes())
    }

    /// The policy's text.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// `hsm-sim up`: a token for the roots, one for the log keys, and one for each domain.
    ///
    /// # Errors
    /// It has not been built.
    pub fn hsm_sim_up(&self) -> Result<Tool, Failure> {
        let tokens = ["roots", "logs"].into_iter().map(str::to_owned).chain(
            self.domains
                .iter()
                .filter(|domain| !domain.is_in_tpm())
                .map(|domain| first_label(&domain.name).to_owned()),
        );
        let tpms = self.domains.iter().filter(|domain| domain.is_in_tpm());
        Ok(Tool::ours("hsm-sim")?
            .arg("up")
            .arg(self.folder.join("devices"))
            .args(tokens.flat_map(|token| ["--softhsm".to_owned(), token]))
            .args(tpms.flat_map(|domain| ["--tpm".to_owned(), first_label(&domain.name).to_owned()])))
    }

    /// `hsm-sim down`.
    ///
    /// # Errors
    /// It has not been built.
    pub fn hsm_sim_down(&self) -> Result<Tool, Failure> {
        Ok(Tool::ours("hsm-sim")?.arg("down").arg(self.folder.join("devices")))
    }

    /// Writes the ceremony's plan, and its environment, which knows the token of the roots and no other.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_plan(&self) -> Result<(), Failure> {
        let environment = texts::only_device(&read_text(&self.devices())?, "roots");
        write_file(&self.path("ceremony/environment.toml"), environment.as_bytes())?;
        write_file(&self.path("ceremony/plan.toml"), texts::plan(&self.domains)?.as_bytes())
    }

    /// `undercroft keys create` for each intermediate and each log.
    ///
    /// # Errors
    /// It has not been built.
    pub fn create_keys(&self) -> Result<Vec<Tool>, Failure> {
        let mut tools = Vec::new();
        for domain in &self.domains {
            let log_key = texts::log_key(domain);
            for (uri, algorithm, name) in
                [(&domain.key, domain.algorithm.as_str(), "intermediate"), (&log_key, "ed25519", "log")]
            {
                let create = Tool::ours("undercroft")?.args(["keys", "create", uri.as_str()]);
                let out = self.path("ceremony/requests").join(&domain.folder);
                let create = create.args(["--algorithm", algorithm, "--name", name, "--out"]).arg(out);
                let environment = variable("UNDERCROFT_ENVIRONMENT", &self.devices());
                tools.push(create.with(&self.variables()).with(&[environment]));
            }
        }
        Ok(tools)
    }

    /// `undercroft-ceremony run`.
    ///
    /// # Errors
    /// It has not been built.
    pub fn ceremony(&self) -> Result<Tool, Failure> {
        Ok(Tool::ours("undercroft-ceremony")?
            .arg("run")
            .arg(self.path("ceremony/plan.toml"))
            .arg("--environment")
            .arg(self.path("ceremony/environment.toml"))
            .arg("--requests")
            .arg(self.path("ceremony/requests"))
            .arg("--out")
            .arg(&self.folder)
            .arg("--transcript")
            .arg(self.path("ceremony/transcript"))
            .with(&self.variables()))
    }

    /// Writes the daemon's configuration and its policy.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_configuration(&self) -> Result<(), Failure> {
        let devices = read_text(&self.devices())?;
        let user = owner(&self.folder)?;
        let configuration = texts::configuration(&self.domains, &devices, self.listen, user);
        write_file(&self.path("daemon/undercroft.toml"), configuration.as_bytes())?;
        write_file(&self.path("daemon/policy.toml"), self.policy.as_bytes())
    }

    /// `undercroft serve`.
    ///
    /// # Errors
    /// It has not been built.
    pub fn serve(&self) -> Result<Tool, Failure> {
        Ok(Tool::ours("undercroft")?
            .args(["serve", "--config"])
            .arg(self.path("daemon/undercroft.toml"))
            .with(&self.variables()))
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> Result<Daemon, Failure> {
        self.start_with(&[])
    }

    /// Starts the daemon with more in its environment.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_with(&self, variables: &[(String, String)]) -> Result<Daemon, Failure> {
        // Socket paths are short: 107 bytes at most (unix(7)).
        let notify = std::env::temp_dir().join(format!("undercroft-{}.notify", short_name(&self.folder)));
        let started = Daemon::start(self.serve()?.with(variables), &notify, self.path("daemon/daemon.log"));
        let _ = fs::remove_file(&notify);
        started
    }

    /// The administration socket.
    pub fn admin(&self) -> PathBuf {
        self.path("daemon/admin.sock")
    }

    /// An `undercroft` command over the administration socket.
    ///
    /// # Errors
    /// It has not been built.
    pub fn administer(&self, arguments: &[&str]) -> Result<Tool, Failure> {
        Ok(Tool::ours("undercroft")?.args(arguments).with(&[variable("UNDERCROFT_ADMIN", &self.admin())]))
    }

    /// The static export of a domain's log.
    ///
    /// # Errors
    /// It has not been built.
    pub fn export(&self, domain: &Domain) -> Result<Tool, Failure> {
        let to = self.path(&domain.folder).join("log");
        Ok(self.administer(&["log", "export", &domain.name])?.arg("--to").arg(to))
    }

    /// `undercroft-audit verify` of a domain's exported log.
    ///
    /// # Errors
    /// It has not been built.
    pub fn audit(&self, domain: &Domain) -> Result<Tool, Failure> {
        let folder = self.path(&domain.folder);
        Ok(Tool::ours("undercroft-audit")?
            .arg("verify")
            .arg(folder.join("log"))
            .arg("--key")
            .arg(folder.join("log.vkey")))
    }

    /// `undercroft enrolment create` for an ID of the control domain; the token goes to the file `token`.
    ///
    /// # Errors
    /// It has not been built.
    pub fn create_enrolment(&self, id: &str, token: &Path) -> Result<Tool, Failure> {
        Ok(self.administer(&["enrolment", "create", id])?.arg("--token-file").arg(token))
    }

    /// `undercroft enrol`.
    ///
    /// # Errors
    /// It has not been built.
    pub fn enrol(&self, daemon: &Daemon, token: &Path, csr: &Path, out: &Path) -> Result<Tool, Failure> {
        Ok(self
            .client("enrol", daemon)?
            .arg("--token-file")
            .arg(token)
            .arg("--csr")
            .arg(csr)
            .arg("--out")
            .arg(out))
    }

    /// Enrols somebody under a path of the control domain, in one step.
    ///
    /// # Errors
    /// A step fails.
    pub fn enrolled(&self, daemon: &Daemon, path: &str) -> Result<Caller, Failure> {
        let folder = self.path("control").join(path.trim_start_matches('/').replace('/', "-"));
        fs::create_dir_all(&folder).map_err(|error| Failure::failed(error.to_string()))?;
        let token = folder.join("token");
        self.create_enrolment(&format!("spiffe://control.example{path}"), &token)?.done()?;
        let (key, csr) = request(&folder, "leaf", "P-256", None)?;
        self.enrol(daemon, &token, &csr, &folder)?.done()?;
        Ok(Caller { cert: folder.join("leaf.pem"), key })
    }

    /// `undercroft issue`.
    ///
    /// # Errors
    /// It has not been built.
    pub fn issue(&self, daemon: &Daemon, caller: &Caller, issue: &Issue<'_>) -> Result<Tool, Failure> {
        Ok(self
            .client("issue", daemon)?
            .arg("--cert")
            .arg(&caller.cert)
            .arg("--key")
            .arg(&caller.key)
            .args(["--domain", issue.domain, "--profile", issue.profile])
            .args(issue.more)
            .arg("--csr")
            .arg(issue.csr)
            .arg("--out")
            .arg(issue.out))
    }

    fn client(&self, command: &str, daemon: &Daemon) -> Result<Tool, Failure> {
        let variables = self.client_variables(daemon.address());
        Ok(Tool::ours("undercroft")?.arg(command).with(&variables))
    }

    /// The environment of clients of a daemon at `address`.
    fn client_variables(&self, address: &str) -> Vec<(String, String)> {
        let roots = self.path(&self.domains[0].folder).join("root.pem");
        vec![("UNDERCROFT_SERVER".to_owned(), address.to_owned()), variable("UNDERCROFT_ROOTS", &roots)]
    }

    /// Writes a file of exports for a shell, with which the commands work as they are shown.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_exports(&self, file: &Path, address: &str) -> Result<(), Failure> {
        let programs = crate::programs::built("undercroft")?;
        let programs = programs.parent().unwrap_or(Path::new(".")).display().to_string();
        let mut text = format!("export PATH={programs}:$PATH\n");
        let ours = [
            variable("UNDERCROFT_ADMIN", &self.admin()),
            variable("UNDERCROFT_CONFIG", &self.path("daemon/undercroft.toml")),
            variable("UNDERCROFT_ENVIRONMENT", &self.devices()),
        ];
        for (name, value) in self.variables().into_iter().chain(self.client_variables(address)).chain(ours) {
            text += &format!("export {name}='{value}'\n");
        }
        write_file(file, text.as_bytes())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Nothing is left running, whatever went wrong.
        let _ = self.devices.down();
    }
}

/// Makes a key and a request for it with OpenSSL, as a workload would: `<name>.key` and `<name>.csr.pem`. `curve` is
/// `P-256` or `P-384`.
///
/// # Errors
/// OpenSSL is missing or fails.
pub fn request(
    folder: &Path,
    name: &str,
    curve: &str,
    id: Option<&str>,
) -> Result<(PathBuf, PathBuf), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::failed(error.to_string()))?;
    let (key, csr) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.csr.pem")));
    let extension = id.map(|id| format!("subjectAltName=URI:{id}"));
    Tool::foreign("openssl")
        .args(["req", "-new", "-newkey", "ec", "-pkeyopt", &format!("ec_paramgen_curve:{curve}"), "-nodes"])
        .args(["-subj", "/", "-batch"])
        .args(extension.iter().flat_map(|extension| ["-addext", extension.as_str()]))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&csr)
        .done()?;
    Ok((key, csr))
}

/// Breaks the signature of a request: the last byte of its DER is another.
///
/// # Errors
/// It cannot be read or written.
pub fn break_signature(csr: &Path, broken: &Path) -> Result<(), Failure> {
    let mut der = undercroft_ca::csr::der_from_pem(&read_text(csr)?)?;
    if let Some(last) = der.last_mut() {
        *last ^= 1;
    }
    write_file(broken, to_pem("CERTIFICATE REQUEST", &der)?.as_bytes())
}

/// How many certificates a PEM file holds.
///
/// # Errors
/// It cannot be read.
pub fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    Ok(certificates_from_pem(&read_text(path)?)?)
}

fn variable(name: &str, path: &Path) -> (String, String) {
    (name.to_owned(), path.display().to_string())
}

/// The user who owns a folder that we have made: ourselves.
fn owner(folder: &Path) -> Result<u32, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(folder).map_err(|error| Failure::failed(error.to_string()))?.uid())
}

/// A name for a folder that no other folder has at the same time.
fn short_name(folder: &Path) -> String {
    let digest = undercroft_log::leaf::Digest::of(folder.as_os_str().as_encoded_bytes()).to_string();
    digest[..16].to_owned()
}

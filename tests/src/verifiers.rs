//! Foreign path validators, those that this machine has: they judge what we issue, and what thieves forge.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls_pki_types::{CertificateDer, UnixTime};
use undercroft_ca::certificate::to_pem;
use undercroft_cli::Failure;
use undercroft_cli::system::SystemClock;
use undercroft_log::Clock as _;
use webpki::{EndEntityCert, KeyUsage};

use crate::programs::Tool;
use crate::site::certificates;

/// Somebody else's path validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// `openssl verify -x509_strict`.
    OpenSsl,
    /// `certtool --verify`.
    GnuTls,
    /// rustls-webpki, which rustls uses. In this process.
    Rustls,
    /// NSS, which Firefox uses: `vfychain`.
    Nss,
    /// Go's crypto/x509.
    Go,
    /// Java's PKIX validator.
    Java,
    /// Python's `cryptography.x509.verification`.
    Python,
}

/// What a validator says of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The chain is good.
    Accepted,
    /// It is not; and why, in the validator's words.
    Refused(String),
}

impl Verifier {
    /// Every validator that is known here.
    pub const ALL: [Self; 7] =
        [Self::OpenSsl, Self::GnuTls, Self::Rustls, Self::Nss, Self::Go, Self::Java, Self::Python];

    /// Those that `make test` installs, so that they are on every machine.
    pub const CERTAIN: [Self; 4] = [Self::OpenSsl, Self::GnuTls, Self::Rustls, Self::Nss];

    /// Whether this machine has it.
    pub fn is_present(self) -> bool {
        let runs = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        match self {
            Self::OpenSsl | Self::GnuTls | Self::Rustls | Self::Nss => true,
            Self::Go => runs("go", &["version"]),
            Self::Java => runs("java", &["-version"]),
            Self::Python => runs(
                "python3",
                &[
                    "-c",
                    "from cryptography.x509.verification import PolicyBuilder as P; P().extension_policies",
                ],
            ),
        }
    }

    /// Verifies `chain` (PEM, leaf first) under the one root in `root`, for a client's certificate. Folders for what
    /// it needs are made in `scratch`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn verify(self, root: &Path, chain: &Path, scratch: &Path) -> Result<Verdict, Failure> {
        let tool = match self {
            Self::Rustls => return rustls(root, chain),
            Self::OpenSsl => openssl(root, chain),
            Self::GnuTls => gnutls(root, chain),
            Self::Nss => return nss(root, chain, scratch),
            Self::Go => go(scratch)?.arg(root).arg(chain),
            Self::Java => Tool::foreign("java").arg(script("Verify.java")).arg(root).arg(chain),
            Self::Python => Tool::foreign("python3").arg(script("verify.py")).arg(root).arg(chain),
        };
        let ran = tool.run()?;
        Ok(match ran.status {
            0 => Verdict::Accepted,
            _ => Verdict::Refused(format!("{}{}", ran.stderr, ran.stdout)),
        })
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenSsl => "OpenSSL `verify -x509_strict`",
            Self::GnuTls => "GnuTLS `certtool --verify`",
            Self::Rustls => "rustls-webpki",
            Self::Nss => "NSS `vfychain`",
            Self::Go => "Go `crypto/x509`",
            Self::Java => "Java PKIX",
            Self::Python => "pyca/cryptography",
        })
    }
}

/// `openssl verify` of a chain: the first certificate of the file is the one that is verified.
pub fn openssl(root: &Path, chain: &Path) -> Tool {
    Tool::foreign("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(root)
        .arg("-untrusted")
        .arg(chain)
        .arg(chain)
}

/// `certtool --verify` of a chain.
pub fn gnutls(root: &Path, chain: &Path) -> Tool {
    Tool::foreign("certtool").args(["--verify", "--load-ca-certificate"]).arg(root).arg("--infile").arg(chain)
}

/// rustls-webpki, as rustls calls it for a client's certificate.
///
/// # Errors
/// A file cannot be read.
pub fn rustls(root: &Path, chain: &Path) -> Result<Verdict, Failure> {
    let read = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Failure> {
        Ok(certificates(path)?.into_iter().map(CertificateDer::from).collect())
    };
    let (roots, chain) = (read(root)?, read(chain)?);
    let now = u64::try_from(SystemClock.now().as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let verified = || -> Result<(), webpki::Error> {
        let anchors = roots.iter().map(webpki::anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>()?;
        let (leaf, issuers) = chain.split_first().ok_or(webpki::Error::BadDer)?;
        EndEntityCert::try_from(leaf)?.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            issuers,
            now,
            KeyUsage::client_auth(),
            None,
            None,
        )?;
        Ok(())
    };
    Ok(match verified() {
        Ok(()) => Verdict::Accepted,
        Err(error) => Verdict::Refused(error.to_string()),
    })
}

/// `vfychain` takes one certificate a file, and a root that is trusted from a database.
fn nss(root: &Path, chain: &Path, scratch: &Path) -> Result<Verdict, Failure> {
    let folder = scratch.join("nss");
    // An earlier run's database trusts another root.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| Failure::failed(error.to_string()))?;
    let database = format!("sql:{}", folder.display());
    Tool::foreign("certutil").args(["-N", "--empty-password", "-d", &database]).done()?;
    Tool::foreign("certutil")
        .args(["-A", "-n", "root", "-t", "CT,CT,CT", "-d", &database, "-i"])
        .arg(root)
        .done()?;
    let mut files: Vec<PathBuf> = Vec::new();
    for (number, der) in certificates(chain)?.iter().enumerate() {
        let path = folder.join(format!("{number}.pem"));
        fs::write(&path, to_pem("CERTIFICATE", der)?).map_err(|error| Failure::failed(error.to_string()))?;
        files.push(path);
    }
    // -u 0: an SSL client's certificate. -a: the files are PEM.
    let tool = Tool::foreign("vfychain").args(["-d", &database, "-pp", "-u", "0", "-a"]).args(files);
    let ran = tool.run()?;
    // It says so on one stream or the other, and its exit status is 0 either way.
    let said = ran.stdout + &ran.stderr;
    Ok(match said.contains("Chain is good!") {
        true => Verdict::Accepted,
        false => Verdict::Refused(said),
    })
}

/// The Go program, built once.
fn go(scratch: &Path) -> Result<Tool, Failure> {
    let program = scratch.join("verify-go");
    if !program.exists() {
        fs::create_dir_all(scratch).map_err(|error| Failure::failed(error.to_string()))?;
        Tool::foreign("go").args(["build", "-o"]).arg(&program).arg(script("verify.go")).done()?;
    }
    Ok(Tool::foreign(&program.display().to_string()))
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("verifiers").join(name)
}

//! Foreign judges of single files: pkilint, and programs that check the signatures of CRLs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use e2e::{Ran, Tool};

/// What pkilint finds and we do not mend, and why.
const ANSWERED: &[(&str, &str)] = &[
    // It wants every URI to have an authority that DNS could resolve; a SPIFFE ID is a URI by RFC 3986 and must stand
    // in the SAN as it is (SPIFFE X.509-SVID section 2).
    ("pkix.invalid_uri_syntax", "ERROR"),
];

/// Has pkilint judge certificates.
pub(crate) fn judge_certificates(files: &[PathBuf]) {
    lint(files);
}

/// Has pkilint judge CRLs, and OpenSSL and GnuTLS verify their signatures. Each comes with its issuer.
pub(crate) fn judge_crls(crls: &[(PathBuf, PathBuf)]) {
    let files: Vec<_> = crls.iter().map(|(crl, _)| crl.clone()).collect();
    lint(&files);
    for (crl, issuer) in crls {
        let openssl = Tool::foreign("openssl").args(["crl", "-verify", "-CAfile"]).arg(issuer);
        let ran = openssl.args(["-inform", "DER", "-in"]).arg(crl).done().unwrap().says("verify OK").unwrap();
        // certtool reads CRL and issuer in one format alone.
        let pem = crl.with_extension("crl.pem");
        std::fs::write(&pem, ran.stdout).unwrap();
        let certtool = Tool::foreign("certtool").args(["--verify-crl", "--load-ca-certificate"]).arg(issuer);
        certtool.arg("--infile").arg(pem).done().unwrap().says("Verified").unwrap();
    }
}

/// Has pkilint judge an OCSP response (DER).
pub(crate) fn judge_ocsp(response: &Path) {
    let lint = package().join("../target/pkilint/bin/lint_ocsp_response");
    assert!(lint.is_file(), "pkilint is not installed; `make test` installs it");
    let ran =
        Tool::foreign(lint.to_str().unwrap()).args(["lint", "-s", "WARNING"]).arg(response).run().unwrap();
    assert_eq!((ran.status, ran.stdout.trim()), (0, ""), "{ran:?}");
}

/// `docs/verify.py`, which shares no code with us.
pub(crate) fn verify_py(arguments: &[&Path]) -> Ran {
    python().arg(package().join("../docs/verify.py")).args(arguments).run().unwrap()
}

/// The schemas that `docs/log.md` publishes, on every entry of exported logs.
pub(crate) fn judge_entries(logs: &[PathBuf]) {
    let page = package().join("../docs/log.md");
    python().arg(package().join("verifiers/schemas.py")).arg(page).args(logs).done().unwrap();
}

/// Copies a log from a web server to a folder.
pub(crate) fn mirror(url: &str, folder: &Path) {
    python().arg(package().join("verifiers/mirror.py")).arg(url).arg(folder).done().unwrap();
}

/// The Python that pkilint was installed for, with the packages that it needs.
fn python() -> Tool {
    let python = package().join("../target/pkilint/bin/python");
    assert!(python.is_file(), "pkilint is not installed; `make test` installs it");
    Tool::foreign(python.to_str().unwrap())
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lint(files: &[PathBuf]) {
    assert!(!files.is_empty());
    let lint = python().arg(package().join("verifiers/lint.py"));
    let ran = lint.args(files).done().unwrap();
    let findings: BTreeSet<(&str, &str)> = ran
        .stdout
        .lines()
        .map(|line| {
            let mut words = line.rsplitn(3, ' ');
            let severity = words.next().unwrap();
            (words.next().unwrap(), severity)
        })
        .collect();
    let new: Vec<_> = findings.iter().filter(|finding| !ANSWERED.contains(finding)).collect();
    assert!(new.is_empty(), "pkilint finds {new:?} in:\n{}", ran.stdout);
}

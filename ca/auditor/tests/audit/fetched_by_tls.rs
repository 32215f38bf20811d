//! Logs behind `https://`, served by OpenSSL.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::installation::INSTALLATION;

/// OpenSSL's server, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn certificate(folder: &Path, name: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/CN=log", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]);
    openssl.arg(folder.join(format!("{name}.key"))).arg("-out").arg(folder.join(format!("{name}.pem")));
    assert!(openssl.output().unwrap().status.success());
}

#[test]
fn a_log_behind_tls_is_read_from_the_server_that_is_trusted_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let log = &INSTALLATION.ceremony;
    log.write(&path.join("log"));
    std::fs::write(path.join("log.vkey"), log.verifier().to_string()).unwrap();
    certificate(path, "server");
    certificate(path, "other");
    let mut server = Command::new("openssl");
    server.args(["s_server", "-WWW", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key"]);
    let mut server =
        Server(server.current_dir(path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut said = BufReader::new(server.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("ACCEPT") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "OpenSSL serves nothing");
    }
    let address = line.trim().split(' ').nth(1).unwrap().to_owned();
    let audit = |roots: &str| -> Output {
        let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
        audit.arg("verify").arg(format!("https://{address}/log")).arg("--key").arg(path.join("log.vkey"));
        audit.args(["--time-limit", "20"]).env("SSL_CERT_FILE", path.join(roots)).env_remove("SSL_CERT_DIR");
        audit.output().unwrap()
    };
    let ran = audit("server.pem");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let ran = audit("other.pem");
    assert_eq!(ran.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("certificate"), "{ran:?}");
}

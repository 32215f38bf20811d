//! mTLS with the key in the TPM: OpenSSL with its tpm2 provider against a server of rustls.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;

use e2e::Tool;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use super::machine::Machine;

/// Says back each line that it is told, to whoever has a certificate of the node's trust domain.
struct Echo {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Echo {
    fn start(machine: &Machine) -> Self {
        let (key, certificate) = (machine.path("server/server.key"), machine.path("server/server.pem"));
        std::fs::create_dir(machine.path("server")).unwrap();
        let make = ["req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let make = Tool::foreign("openssl").args(make).args(["-subj", "/CN=echo", "-days", "1", "-keyout"]);
        make.arg(&key).arg("-out").arg(&certificate).done().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(machine.path("svid/current/bundle.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&key).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let (reader, mut writer) = tokio::io::split(stream);
                    let mut lines = tokio::io::BufReader::new(reader).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        if writer.write_all(format!("echo {line}\n").as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, _runtime: runtime }
    }
}

/// `openssl s_client` with a certificate and a key.
struct Client {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Client {
    fn connect(machine: &Machine, echo: &Echo, certificate: &str, key: &str) -> Self {
        let tool = Tool::foreign("openssl")
            .args(["s_client", "-quiet", "-tls1_3", "-provider", "tpm2", "-provider", "default"])
            .args(["-propquery", "?provider=tpm2", "-connect", &echo.address.to_string()])
            .arg("-cert")
            .arg(machine.path(certificate))
            .arg("-cert_chain")
            .arg(machine.path(certificate))
            .arg("-key")
            .arg(machine.path(key))
            .with(&machine.variables());
        let mut command = tool.into_command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    /// Whether a line comes back.
    fn says(&mut self, line: &str) -> bool {
        let mut answer = String::new();
        // A connection that was not accepted is closed.
        let told = writeln!(self.to, "{line}").and_then(|()| self.from.read_line(&mut answer));
        told.is_ok() && answer == format!("echo {line}\n")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn openssl_speaks_mtls_with_the_key_in_the_tpm_and_a_renewal_drops_no_connection() {
    let mut machine = Machine::new("1h");
    machine.manage();
    machine.json(&["attest"]);
    let echo = Echo::start(&machine);
    let certificate = "svid/current/svid.pem";
    let mut open: Vec<_> =
        (0..3).map(|_| Client::connect(&machine, &echo, certificate, "svid/current/svid.key")).collect();
    for client in &mut open {
        assert!(client.says("before"));
    }
    // Another key of the same TPM, and a key in software: the handshake ends.
    let first = std::fs::canonicalize(machine.path("svid/current")).unwrap();
    machine.json(&["attest"]);
    let second = std::fs::canonicalize(machine.path("svid/current")).unwrap();
    assert_ne!(first, second);
    let foreign = first.join("svid.key");
    let mut client = Client::connect(&machine, &echo, certificate, foreign.to_str().unwrap());
    assert!(!client.says("with another key"));
    let mut client = Client::connect(&machine, &echo, certificate, "server/server.key");
    assert!(!client.says("with a key in software"));
    let mut client = Client::connect(&machine, &echo, "server/server.pem", "server/server.key");
    assert!(!client.says("with a certificate of nobody"));
    // Renewed twice since they were opened, so that their files are gone: they go on, and lose not a byte.
    machine.json(&["attest"]);
    assert!(!first.exists());
    for round in 0..20 {
        for client in &mut open {
            assert!(client.says(&format!("after {round} {}", "x".repeat(1000))));
        }
    }
    let mut fresh = Client::connect(&machine, &echo, certificate, "svid/current/svid.key");
    assert!(fresh.says("with the new key"));
}

/// The commands of `pkcs11.txt`, as they stand there.
#[test]
fn software_that_speaks_pkcs11_takes_the_key_as_the_hint_says() {
    let mut machine = Machine::new("1h");
    machine.manage();
    machine.json(&["attest"]);
    let store = machine.path("p11");
    std::fs::create_dir(&store).unwrap();
    let tcti = machine.variables().into_iter().find(|(name, _)| name == "TPM2TOOLS_TCTI").unwrap().1;
    let more = [
        ("TPM2_PKCS11_STORE".to_owned(), store.display().to_string()),
        ("TPM2_PKCS11_TCTI".to_owned(), tcti),
        ("TSS2_LOG".to_owned(), "all+NONE".to_owned()),
    ];
    let with = |tool: Tool| tool.with(&machine.variables()).with(&more);
    let hint = machine.read("svid/current/pkcs11.txt");
    let commands: Vec<_> = hint.lines().filter(|line| line.starts_with("tpm2_ptool ")).collect();
    assert_eq!(commands.len(), 3, "{hint}");
    for command in commands {
        with(Tool::foreign("sh").args(["-c", &command.replace("PIN", "123456")])).done().unwrap();
    }
    let (message, signature) = (machine.path("message"), machine.path("signature"));
    std::fs::write(&message, "a message").unwrap();
    let module = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";
    let sign = ["--token-label", "undercroft", "--pin", "123456", "--login", "--sign", "--label", "svid"];
    let sign = Tool::foreign("pkcs11-tool").args(["--module", module]).args(sign);
    let sign = sign.args(["--mechanism", "ECDSA-SHA256", "--signature-format", "openssl", "-i"]);
    with(sign.arg(&message).arg("-o").arg(&signature)).done().unwrap();
    let (svid, spki) = (machine.path("svid/current/svid.pem"), machine.path("spki"));
    let public =
        Tool::foreign("openssl").args(["x509", "-noout", "-pubkey", "-in"]).arg(svid).done().unwrap();
    std::fs::write(&spki, public.stdout).unwrap();
    let verify = Tool::foreign("openssl").args(["dgst", "-sha256", "-verify"]).arg(spki).arg("-signature");
    verify.arg(signature).arg(message).done().unwrap();
}

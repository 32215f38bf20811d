//! AWS KMS on this machine: [moto](https://docs.getmoto.org), made to keep to what AWS documents where it does not, and
//! a proxy before it that fails on demand.

mod proxy;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use undercroft_keymgr::{AwsKmsUri, Device, KeyUri};

use crate::programs::SimError;
pub use proxy::{Answer, Proxy, Request};

/// What runs moto, and in which way it differs.
const SERVER: &str = include_str!("aws/moto_kms.py");

/// The account that moto's keys belong to.
pub const ACCOUNT: &str = "123456789012";

/// The region that its keys are in.
pub const REGION: &str = "eu-central-1";

/// A server that runs until this value is dropped, or the program that holds it ends. Its keys end with it.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    /// Closing it stops the server.
    _lifeline: Option<ChildStdin>,
    port: u16,
}

impl Moto {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// moto is not installed (`make target/moto`), or does not come up.
    pub fn start() -> Result<Self, SimError> {
        Self::with(&[])
    }

    /// The same, with two RSA keys of each length made ahead, since Python may take longer for one than a call may.
    ///
    /// # Errors
    /// As [`Moto::start`].
    pub fn with_rsa_keys_ahead() -> Result<Self, SimError> {
        Self::with(&["rsa-ahead"])
    }

    fn with(arguments: &[&str]) -> Result<Self, SimError> {
        let mut child = Command::new(python())
            .args(["-I", "-c", SERVER])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| SimError::Missing {
                program: python().display().to_string(),
                package: "python3-venv",
                error,
            })?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            // A server that fails closes it without a line, which the next step tells.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let Ok(port) = line.trim().parse() else {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = stderr.read_to_string(&mut said);
            }
            let last = said.lines().last().unwrap_or("it said nothing");
            return Err(SimError::NotReady(format!(
                "moto did not start: {last}; install it with: make target/moto"
            )));
        };
        // Nobody reads what it has to say, so that it must not wait for being read.
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || std::io::copy(&mut BufReader::new(stderr), &mut std::io::sink()));
        }
        let _lifeline = child.stdin.take();
        Ok(Self { child, _lifeline, port })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How it is found.
    pub fn device(&self, name: &str) -> Device {
        device(name, self.port)
    }

    /// Does what somebody else does to the keys: calls an operation of KMS with its parameters as JSON, and gives the
    /// answer's.
    ///
    /// # Errors
    /// The server does not answer, or refuses: then the answer is in the error.
    pub fn call(&self, operation: &str, parameters: &str) -> Result<String, SimError> {
        let failed = |what: String| SimError::Failed { program: format!("moto {operation}"), output: what };
        let request = format!(
            "POST / HTTP/1.1\r\nHost: kms.{REGION}.amazonaws.com\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=somebody/20200101/{REGION}/kms/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.{operation}\r\n\
             Content-Length: {}\r\n\r\n{parameters}",
            parameters.len()
        );
        let exchange = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = exchange().map_err(|error| failed(error.to_string()))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(failed(answer)),
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have stopped by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// AWS KMS on a port of this machine.
pub fn device(name: &str, port: u16) -> Device {
    Device {
        name: name.to_owned(),
        uri: KeyUri::AwsKms(AwsKmsUri {
            region: Some(REGION.to_owned()),
            account: Some(ACCOUNT.to_owned()),
            endpoint: Some(format!("http://127.0.0.1:{port}")),
            ..AwsKmsUri::default()
        }),
        pin: None,
        sessions: None,
        attestation: None,
    }
}

/// The Python that make has installed moto for, below the folder of this workspace.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/moto/bin/python")
}

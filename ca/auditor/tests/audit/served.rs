//! A web server for logs, which lies if it is told to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::log::Log;

/// What is answered instead of the file.
#[derive(Clone, Debug)]
pub(crate) enum Lie {
    Bytes(Vec<u8>),
    /// A status, once for each number left.
    Status(u16, usize),
    /// Elsewhere.
    Redirect,
    /// Bytes without end.
    Endless,
    /// Less than was announced, and then nothing.
    Cut,
    /// Nothing, and the line is held.
    Silence,
}

/// Always.
pub(crate) const ALWAYS: usize = usize::MAX;

/// A folder that is served.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    lies: Arc<Mutex<BTreeMap<String, Lie>>>,
    pub(crate) folder: PathBuf,
    pub(crate) key: PathBuf,
    directory: tempfile::TempDir,
}

impl Served {
    pub(crate) fn new(log: &Log) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (folder, key) = (directory.path().join("served"), directory.path().join("log.vkey"));
        fs::write(&key, log.verifier().to_string()).unwrap();
        log.write(&folder);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a/log", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let lies: Arc<Mutex<BTreeMap<String, Lie>>> = Arc::default();
        let served =
            Self { url, asked: asked.clone(), lies: lies.clone(), folder: folder.clone(), key, directory };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (folder, asked, lies) = (folder.clone(), asked.clone(), lies.clone());
                // Whoever asked may be gone: that is his business.
                thread::spawn(move || drop(answer(stream.unwrap(), &folder, &asked, &lies)));
            }
        });
        served
    }

    /// Has the server lie about a file.
    pub(crate) fn lie(&self, path: &str, lie: Lie) {
        self.lies.lock().unwrap().insert(path.to_owned(), lie);
    }

    /// A file as it is.
    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        fs::read(self.folder.join(path)).unwrap()
    }

    /// Has it serve another log from now on.
    pub(crate) fn serve(&self, log: &Log) {
        fs::remove_dir_all(&self.folder).unwrap();
        log.write(&self.folder);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the auditor's program on the log.
    pub(crate) fn audit(&self, command: &str, more: &[&str]) -> Output {
        let mut audit = Command::new(env!("CARGO_BIN_EXE_undercroft-audit"));
        audit.arg(command).arg(&self.url).args(more).arg("--key").arg(&self.key);
        audit.args(["--time-limit", "2"]).env("TMPDIR", self.temporary()).output().unwrap()
    }

    /// Where the program puts what is not to stay.
    pub(crate) fn temporary(&self) -> PathBuf {
        let path = self.path("tmp");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// What was asked for since this was asked last.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }
}

fn answer(
    mut stream: TcpStream,
    folder: &Path,
    asked: &Mutex<Vec<String>>,
    lies: &Mutex<BTreeMap<String, Lie>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path =
            line.split(' ').nth(1).unwrap_or_default().strip_prefix("/a/log/").unwrap_or("?").to_owned();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        asked.lock().unwrap().push(path.clone());
        let lie = {
            let mut lies = lies.lock().unwrap();
            match lies.get_mut(&path) {
                Some(Lie::Status(_, 0)) => None,
                Some(Lie::Status(_, left)) if *left != ALWAYS => {
                    *left -= 1;
                    lies.get(&path).cloned()
                }
                other => other.cloned(),
            }
        };
        let file = fs::read(folder.join(&path));
        match (lie, file) {
            (None, Ok(bytes)) | (Some(Lie::Bytes(bytes)), _) => send(&mut stream, "200 OK", &bytes)?,
            (None, Err(_)) => send(&mut stream, "404 Not Found", b"")?,
            (Some(Lie::Status(status, _)), _) => send(&mut stream, &format!("{status} So"), b"")?,
            (Some(Lie::Redirect), _) => {
                stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")?;
            }
            (Some(Lie::Endless), _) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    stream.write_all(b"1000\r\n")?;
                    stream.write_all(&[0; 0x1000])?;
                    stream.write_all(b"\r\n")?;
                }
            }
            (Some(Lie::Cut), _) => {
                return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx");
            }
            // Until whoever asked hangs up.
            (Some(Lie::Silence), _) => return reader.read(&mut [0]).map(drop),
        }
    }
}

fn send(stream: &mut TcpStream, status: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}

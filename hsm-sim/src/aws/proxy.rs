//! A proxy before a simulated KMS, which answers in its place, keeps silent, or is not there.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A request to KMS.
#[derive(Clone, Debug)]
pub struct Request {
    /// The operation, `Sign`.
    pub operation: String,
    /// Its parameters, JSON.
    pub parameters: String,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is handed on, and so is its answer.
    Forward,
    /// It is answered with this status and body, and not handed on.
    Instead(u16, String),
    /// It is handed on, and its answer never arrives.
    Lost,
    /// Nobody ever answers.
    Silence,
}

impl Answer {
    /// An error as KMS tells it.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Instead(status, format!(r#"{{"__type":"{code}","message":"on demand"}}"#))
    }
}

type Rule = Box<dyn FnMut(&Request) -> Answer + Send>;

/// A proxy that listens until it is dropped or told not to.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    listening: Mutex<Option<Listening>>,
}

struct Shared {
    behind: u16,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<Request>>,
    /// Connections whose other end waits for an answer.
    silent: Mutex<Vec<TcpStream>>,
}

struct Listening {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server on the port `behind`, which hands everything on.
    ///
    /// # Errors
    /// There is no free port.
    pub fn before(behind: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            behind,
            rule: Mutex::new(Box::new(|_| Answer::Forward)),
            seen: Mutex::default(),
            silent: Mutex::default(),
        });
        let listening = Mutex::new(Some(listen(listener, shared.clone())));
        Ok(Self { shared, port, listening })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, `rule` says what is done with each request.
    pub fn answers(&self, rule: impl FnMut(&Request) -> Answer + Send + 'static) {
        *held(&self.shared.rule) = Box::new(rule);
    }

    /// The requests for `operation` so far.
    pub fn seen(&self, operation: &str) -> Vec<Request> {
        held(&self.shared.seen).iter().filter(|request| request.operation == operation).cloned().collect()
    }

    /// From now on, connections are refused.
    pub fn goes_away(&self) {
        if let Some(Listening { stop, thread }) = held(&self.listening).take() {
            stop.store(true, Ordering::SeqCst);
            // Wakes it, so that it looks at the flag.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
            // A thread that has panicked has stopped, too.
            let _ = thread.join();
        }
    }

    /// Listens again, where it did before.
    ///
    /// # Errors
    /// Somebody else has taken the port.
    pub fn comes_back(&self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        *held(&self.listening) = Some(listen(listener, self.shared.clone()));
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.goes_away();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({} before {})", self.port, self.shared.behind)
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(listener: TcpListener, shared: Arc<Shared>) -> Listening {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let shared = shared.clone();
            // A connection that breaks is its client's to tell.
            std::thread::spawn(move || shared.serve(stream));
        }
    });
    Listening { stop, thread }
}

impl Shared {
    /// Serves the one request of a connection.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let (head, request) = read(&stream)?;
        held(&self.seen).push(request.clone());
        let answer = (held(&self.rule))(&request);
        match answer {
            Answer::Silence => held(&self.silent).push(stream),
            Answer::Lost => {
                self.hand_on(&head, &request)?;
                held(&self.silent).push(stream);
            }
            Answer::Forward => {
                let answer = self.hand_on(&head, &request)?;
                (&stream).write_all(&answer)?;
                stream.shutdown(Shutdown::Write)?;
            }
            Answer::Instead(status, body) => {
                let answer = format!(
                    "HTTP/1.1 {status} On-Demand\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                (&stream).write_all(answer.as_bytes())?;
                stream.shutdown(Shutdown::Write)?;
            }
        }
        Ok(())
    }

    fn hand_on(&self, head: &str, request: &Request) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.behind))?;
        server.write_all(head.as_bytes())?;
        server.write_all(b"Connection: close\r\n\r\n")?;
        server.write_all(request.parameters.as_bytes())?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Reads a request: its head without what it says of the connection and the empty line, and what it asks for.
fn read(stream: &TcpStream) -> io::Result<(String, Request)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length, mut operation) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let (name, value) = line.split_once(':').unwrap_or((line.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "" => break,
            "connection" => continue,
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "x-amz-target" => operation = value.trim().trim_start_matches("TrentService.").to_owned(),
            _ => {}
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let parameters = String::from_utf8_lossy(&body).into_owned();
    Ok((head, Request { operation, parameters }))
}

//! A TPM between a program and a real one: it hands every command on, and goes wrong with those that sign as it is told.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use undercroft_keymgr::{Device, KeyUri, TpmUri};

use crate::programs::SimError;
use crate::swtpm::Swtpm;

/// TPM_CC_Sign (Part 2, table 12).
const SIGN: [u8; 4] = [0, 0, 1, 0x5d];

/// Tag, length and code, of commands and of answers (Part 1, section 18).
const HEADER: usize = 10;

/// What the next command that signs meets. The others go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TpmFault {
    /// It is answered with this code, and the TPM does not hear of it.
    Answers(u32),
    /// The TPM does it, and the connection breaks before the answer.
    BreaksOff,
    /// It waits until [`FaultyTpm::go_on`].
    Hangs,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct FaultyTpm {
    socket: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<VecDeque<TpmFault>>,
    held: Mutex<bool>,
    released: Condvar,
    stopped: AtomicBool,
}

impl FaultyTpm {
    /// In front of `tpm`, in `folder`. Nothing goes wrong yet.
    ///
    /// # Errors
    /// The folder's path is too long for a Unix socket, or cannot be written.
    pub fn before(tpm: &Swtpm, folder: &Path) -> Result<Self, SimError> {
        let socket = folder.join("between");
        let own = Self { socket: socket.clone(), shared: Arc::default() };
        let real = tpm.socket();
        own.listen(&socket, real.clone(), serve_commands)?;
        own.listen(&control(&socket), control(&real), |client, server, _| {
            let (mut to_server, mut from_server) = (server.try_clone()?, server);
            let (mut from_client, mut to_client) = (client.try_clone()?, client);
            let up = std::thread::spawn(move || {
                io::copy(&mut from_client, &mut to_server)?;
                to_server.shutdown(std::net::Shutdown::Both)
            });
            io::copy(&mut from_server, &mut to_client)?;
            to_client.shutdown(std::net::Shutdown::Both)?;
            up.join().unwrap_or(Ok(()))
        })?;
        Ok(own)
    }

    /// How the TPM is found through this one.
    pub fn device(&self, name: &str, tpm: &Swtpm) -> Device {
        let tcti = Some(format!("swtpm:path={}", self.socket.display()));
        Device { uri: KeyUri::Tpm(TpmUri { handle: None, tcti }), ..tpm.device(name) }
    }

    /// The next command that signs meets this; several are met in turn.
    pub fn next(&self, fault: TpmFault) {
        lock(&self.shared.faults).push_back(fault);
    }

    /// How many faults nobody has met yet.
    pub fn left(&self) -> usize {
        lock(&self.shared.faults).len()
    }

    /// What hangs goes on.
    pub fn go_on(&self) {
        *lock(&self.shared.held) = false;
        self.shared.released.notify_all();
    }

    fn listen(
        &self,
        at: &Path,
        real: PathBuf,
        serve: fn(UnixStream, UnixStream, &Shared) -> io::Result<()>,
    ) -> Result<(), SimError> {
        let listener = UnixListener::bind(at).map_err(SimError::file(at))?;
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (real, shared) = (real.clone(), shared.clone());
                std::thread::spawn(move || {
                    // A TPM that is not there looks like one that hangs up.
                    let server = UnixStream::connect(real);
                    let _ = client.and_then(|client| serve(client, server?, &shared));
                });
            }
        });
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn control(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".ctrl");
    path.into()
}

fn serve_commands(mut client: UnixStream, mut server: UnixStream, shared: &Shared) -> io::Result<()> {
    loop {
        let command = read_message(&mut client)?;
        let fault = match command[6..HEADER] == SIGN {
            true => lock(&shared.faults).pop_front(),
            false => None,
        };
        if let Some(TpmFault::Answers(code)) = fault {
            let answer = [&[0x80, 0x01, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
            client.write_all(&answer)?;
            continue;
        }
        if fault == Some(TpmFault::Hangs) {
            let mut held = lock(&shared.held);
            *held = true;
            while *held && !shared.stopped.load(Ordering::SeqCst) {
                held = shared.released.wait(held).unwrap_or_else(PoisonError::into_inner);
            }
        }
        server.write_all(&command)?;
        let answer = read_message(&mut server)?;
        if fault == Some(TpmFault::BreaksOff) {
            return Ok(());
        }
        client.write_all(&answer)?;
    }
}

/// A command or an answer, whole.
fn read_message(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER];
    stream.read_exact(&mut message)?;
    let length = u32::from_be_bytes([message[2], message[3], message[4], message[5]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX).clamp(HEADER, 1 << 16);
    message.resize(length, 0);
    stream.read_exact(&mut message[HEADER..])?;
    Ok(message)
}

impl Drop for FaultyTpm {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.go_on();
        for socket in [self.socket.clone(), control(&self.socket)] {
            // Wakes the thread that listens.
            let _ = UnixStream::connect(socket);
        }
    }
}

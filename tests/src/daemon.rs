//! The daemon as a child process.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use undercroft_cli::Failure;

use crate::programs::Tool;

/// How long a daemon may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon. It is stopped when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts `tool` and waits until it says that it is ready, as a service manager does (sd_notify(3)). What it logs
    /// goes to the file `log`.
    ///
    /// # Errors
    /// It ends before it is ready; the failure says what it said.
    pub fn start(tool: Tool, notify: &Path, log: PathBuf) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("the daemon: {error}"));
        // A socket that was left behind.
        let _ = std::fs::remove_file(notify);
        let socket = UnixDatagram::bind(notify).map_err(failed)?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(failed)?;
        let mut command = tool.into_command();
        let stderr = File::create(&log).map_err(failed)?;
        let mut child = command.env("NOTIFY_SOCKET", notify).stderr(stderr).spawn().map_err(failed)?;
        let mut message = [0; 512];
        for _ in 0..PATIENCE.as_millis() / 50 {
            if let Ok(length) = socket.recv(&mut message) {
                let told = String::from_utf8_lossy(&message[..length]).into_owned();
                let address = told.lines().find_map(|line| line.strip_prefix("STATUS=listening on "));
                let address = address.unwrap_or_default().to_owned();
                return Ok(Self { child, address, log });
            }
            if let Some(status) = child.try_wait().map_err(failed)? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::failed(format!(
                    "the daemon ended before it was ready ({status}): {said}"
                )));
            }
        }
        // It is of no use any more.
        let _ = child.kill();
        Err(Failure::failed("the daemon does not get ready"))
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to stop, and gives its exit status.
    ///
    /// # Errors
    /// It does not stop, or a signal ended it.
    pub fn stop(mut self) -> Result<i32, Failure> {
        self.ask_to_stop()?;
        self.ended()
    }

    /// Waits until it ends by itself, and gives its exit status.
    ///
    /// # Errors
    /// It goes on, or a signal ended it.
    pub fn ended(&mut self) -> Result<i32, Failure> {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code().ok_or_else(|| Failure::failed("a signal ended the daemon"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::failed("the daemon does not stop"))
    }

    /// Asks it to stop, and does not wait until it has.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn ask_to_stop(&self) -> Result<(), Failure> {
        Tool::foreign("kill").arg("-TERM").arg(self.child.id().to_string()).run().map(drop)
    }

    /// Ends it at once, as a power cut does.
    ///
    /// # Errors
    /// It cannot be ended.
    pub fn kill(mut self) -> Result<(), Failure> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|error| Failure::failed(format!("the daemon cannot be killed: {error}")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Whatever went wrong, nothing is left running.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

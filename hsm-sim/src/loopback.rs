//! Servers of simulated clouds: HTTP on this machine alone, on a thread of their own.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::programs::SimError;

/// A server that runs until this value is dropped. What it serves outlives it, so that a cloud may go and come back.
pub struct LoopbackServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LoopbackServer {
    /// Serves on 127.0.0.1, on `port` or on one that is free for port 0.
    ///
    /// # Errors
    /// The port is taken, or there are no more threads.
    pub fn start(port: u16, router: Router) -> Result<Self, SimError> {
        let failed =
            |error: std::io::Error| SimError::NotReady(format!("cannot serve on port {port}: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port))).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("simulated cloud".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = async { axum::serve(listener, router).await } => {}
                        _ = stopped => {}
                    }
                });
                // Dropping the runtime cuts the connections that are open, as a machine that dies does.
            })
            .map_err(failed)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have stopped by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for LoopbackServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoopbackServer({})", self.address)
    }
}

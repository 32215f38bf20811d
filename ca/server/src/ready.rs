//! Telling the service manager that we are ready (sd_notify(3)).

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;

/// Says `READY=1`, and where we listen, to whoever started us, if it wants to know.
pub(crate) fn tell(address: SocketAddr) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let message = format!("READY=1\nSTATUS=listening on {address}\n");
    let told = UnixDatagram::unbound().and_then(|datagram| datagram.send_to(message.as_bytes(), &socket));
    if let Err(error) = told {
        tracing::warn!(%error, "cannot tell the service manager that we are ready");
    }
}

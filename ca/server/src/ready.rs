//! Telling the service manager that we are ready (sd_notify(3)).

use std::os::unix::net::UnixDatagram;

/// Says `READY=1` to whoever started us, if it wants to know.
pub(crate) fn tell() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|datagram| datagram.send_to(b"READY=1\n", &socket));
    if let Err(error) = told {
        tracing::warn!(%error, "cannot tell the service manager that we are ready");
    }
}

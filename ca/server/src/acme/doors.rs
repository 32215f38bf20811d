//! TLS connections as axum takes them, each for a while: a client that is slow, or idle, does not stay.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use undercroft_upstream::acceptor::Connection;

/// How long a connection may be open: some requests, one after the other.
const STAY: Duration = Duration::from_secs(60);

/// Where connections come from.
pub(super) struct Doors {
    connections: ReceiverStream<io::Result<Connection>>,
    address: SocketAddr,
}

impl Doors {
    pub(super) fn new(connections: ReceiverStream<io::Result<Connection>>, address: SocketAddr) -> Self {
        Self { connections, address }
    }
}

impl Listener for Doors {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.connections.next().await {
                Some(Ok(connection)) => {
                    let address = connection.peer().address;
                    return (Guest { connection, stay: Box::pin(sleep(STAY)) }, address);
                }
                Some(Err(error)) => tracing::info!(%error, "a device's connection failed"),
                // Nobody comes any more.
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// A connection that ends.
pub(super) struct Guest {
    connection: Connection,
    stay: Pin<Box<Sleep>>,
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stay.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

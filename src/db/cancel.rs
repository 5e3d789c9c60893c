//! Asking the server to stop a statement that nobody waits for any more.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use native_tls::TlsConnector;
use postgres_native_tls::MakeTlsConnector;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_postgres::{CancelToken, NoTls, tls::MakeTlsConnect};

/// Sends the request over a connection of its own (manual, "Canceling Requests in Progress") and waits until it is closed by the
/// other side: a pooler drops a request whose sender has gone before it was passed on.
pub(super) async fn cancel(
    token: CancelToken,
    address: SocketAddr,
    tls: Option<(TlsConnector, String)>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = Lingering(TcpStream::connect(address).await?);
    match tls {
        Some((connector, host)) => {
            let mut tls = MakeTlsConnector::new(connector);
            let tls = MakeTlsConnect::<Lingering>::make_tls_connect(&mut tls, &host)?;
            token.cancel_query_raw(stream, tls).await?;
        }
        None => token.cancel_query_raw(stream, NoTls).await?,
    }
    Ok(())
}

/// A connection that ends when the other side has ended it.
struct Lingering(TcpStream);

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; 64];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

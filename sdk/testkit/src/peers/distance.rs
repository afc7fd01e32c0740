//! A server on loopback that is far away: a relay that holds what passes.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::net::{OwnedTask, accept_loop, loopback, origin};

#[cfg(test)]
mod tests;

/// Bytes read at a time, at most.
const PIECE: usize = 16 * 1024;
/// Pieces on their way in one direction, at most. With 10 ms of delay that is 1.6 GB/s, so that the
/// delay limits nothing, and yet a peer that does not read stops the one that writes.
const PIECES: usize = 1024;

/// A TCP relay on a loopback port of its own. What passes arrives after a fixed delay, in order:
/// bytes, the end of one direction (the other stays open), and a reset. Dropping it cuts its
/// connections.
///
/// The delay is that of tokio's timer, which is up to 1 ms late. It holds 16 MiB each way at most,
/// and then reads no more.
///
/// A connection costs a round trip before the first byte, as a TCP handshake does. But `connect`
/// itself succeeds at once, as always on loopback: the first bytes wait instead. So does a refusal,
/// which is a reset here.
#[derive(Debug)]
pub struct Distance {
    addr: SocketAddr,
    _accepting: OwnedTask,
}

impl Distance {
    /// A way to `server` that takes `each_way` there, and as much back.
    ///
    /// # Panics
    /// If no loopback port can be bound, or outside a tokio runtime.
    #[must_use]
    pub fn start(server: SocketAddr, each_way: Duration) -> Self {
        let listener = loopback();
        let addr = listener.local_addr().expect("a bound socket's address");
        let accepting = accept_loop(listener, move |client| async move {
            if let Err(error) = relay(client, server, each_way).await {
                tracing::debug!(%error, "a connection over a distance ended in an error");
            }
        });
        Self {
            addr,
            _accepting: accepting,
        }
    }

    address_methods!("https://localhost:<port>", origin);
}

async fn relay(mut client: TcpStream, server: SocketAddr, each_way: Duration) -> io::Result<()> {
    sleep(each_way * 2).await;
    let mut server = match TcpStream::connect(server).await {
        Ok(server) => server,
        Err(refused) => {
            client.set_zero_linger()?;
            return Err(refused);
        }
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let carried = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            carry(from_client, to_server, each_way),
            carry(from_server, to_client, each_way),
        )
    };
    if carried.is_err() {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    carried.map(drop)
}

/// Carries one direction to its end.
async fn carry<R, W>(mut from: R, mut to: W, delay: Duration) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (held, mut due) = mpsc::channel(PIECES);
    // Room comes first: what has been read is on its way.
    let reading = async move {
        while let Ok(room) = held.reserve().await {
            let mut piece = Vec::with_capacity(PIECE);
            let read = from.read_buf(&mut piece).await;
            let is_last = !matches!(read, Ok(1..));
            room.send((Instant::now() + delay, read.map(|_| piece)));
            if is_last {
                break;
            }
        }
        // What is on its way has yet to arrive.
        std::future::pending::<Infallible>().await
    };
    let writing = async {
        while let Some((arrives, piece)) = due.recv().await {
            sleep_until(arrives).await;
            let piece = piece?;
            let written = match piece.is_empty() {
                true => return to.shutdown().await,
                false => to.write_all(&piece).await,
            };
            if written.is_err() {
                // The other end learns that this one is gone after as long, and gets what is on its
                // way to it before.
                sleep(delay).await;
                return written;
            }
        }
        Ok(())
    };
    tokio::select! {
        written = writing => written,
        never = reading => match never {},
    }
}

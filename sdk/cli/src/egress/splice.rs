//! A tunnel's two sockets.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

const BUFFER: usize = 16 * 1024;

/// Copies both ways until both ends have closed, one breaks, or nothing moves on one way for
/// `idle` and that way is the last.
pub(crate) async fn both_ways<A, B>(agent: A, other: B, idle: Duration)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (agent_read, agent_write) = split(agent);
    let (other_read, other_write) = split(other);
    tokio::join!(
        one_way(agent_read, other_write, idle),
        one_way(other_read, agent_write, idle),
    );
}

async fn one_way<R, W>(mut from: ReadHalf<R>, mut to: WriteHalf<W>, idle: Duration)
where
    R: AsyncRead,
    W: AsyncWrite,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(Ok(read @ 1..)) = timeout(idle, from.read(&mut buffer)).await else {
            break;
        };
        let Ok(Ok(())) = timeout(idle, to.write_all(&buffer[..read])).await else {
            break;
        };
    }
    // The other end learns that nothing more comes.
    let _ = timeout(idle, to.shutdown()).await;
}

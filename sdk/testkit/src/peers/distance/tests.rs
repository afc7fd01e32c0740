use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::{io, pin::Pin};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, duplex};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::{Distance, PIECE, PIECES, carry};
use crate::net::{ClosedPort, loopback};

const EACH_WAY: Duration = Duration::from_millis(100);

/// An endless source that counts what was taken from it.
struct Endless(Arc<AtomicUsize>);

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.fetch_add(buffer.remaining(), Ordering::Relaxed);
        buffer.initialize_unfilled().fill(7);
        let all = buffer.remaining();
        buffer.advance(all);
        Poll::Ready(Ok(()))
    }
}

/// The clock stands still unless everything waits for it, so the times are exact.
#[tokio::test(start_paused = true)]
async fn what_was_written_arrives_after_the_delay_each_piece_on_its_own() {
    let (mut client, from) = duplex(64);
    let (to, mut server) = duplex(64);
    tokio::spawn(carry(from, to, EACH_WAY));
    let started = Instant::now();
    let mut arrived = Vec::new();
    let writing = async {
        client.write_all(b"a").await.unwrap();
        sleep(EACH_WAY / 2).await;
        client.write_all(b"b").await.unwrap();
        sleep(EACH_WAY / 4).await;
        client.shutdown().await.unwrap();
    };
    let reading = async {
        let mut byte = [0];
        while server.read(&mut byte).await.unwrap() == 1 {
            arrived.push((byte[0], started.elapsed()));
        }
        started.elapsed()
    };
    let ((), ended) = tokio::join!(writing, reading);
    assert_eq!(arrived, [(b'a', EACH_WAY), (b'b', EACH_WAY * 3 / 2)]);
    assert_eq!(ended, EACH_WAY * 7 / 4);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_stops_the_one_that_writes_and_loses_nothing() {
    let taken = Arc::new(AtomicUsize::new(0));
    let (to, mut server) = duplex(64);
    tokio::spawn(carry(Endless(taken.clone()), to, EACH_WAY));
    sleep(Duration::from_secs(3600)).await;
    let held = taken.load(Ordering::Relaxed);
    // One piece more is being written.
    assert_eq!(held, (PIECES + 1) * PIECE);
    let mut all = vec![0; held];
    server.read_exact(&mut all).await.unwrap();
    assert!(all.iter().all(|byte| *byte == 7));
    sleep(Duration::from_secs(3600)).await;
    assert!(taken.load(Ordering::Relaxed) > held);
}

/// Real sockets: the lower bounds hold however busy the machine is.
#[tokio::test]
async fn a_connection_costs_a_round_trip_and_each_answer_another() {
    let listener = loopback();
    let distance = Distance::start(listener.local_addr().unwrap(), EACH_WAY);
    let echo = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = tcp.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    };
    let asking = async {
        let started = Instant::now();
        let mut tcp = TcpStream::connect(distance.addr()).await.unwrap();
        tcp.write_all(b"a").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'a');
        let first = started.elapsed();
        assert!(first >= EACH_WAY * 4, "{first:?}");
        tcp.write_all(b"b").await.unwrap();
        assert_eq!(tcp.read_u8().await.unwrap(), b'b');
        let second = started.elapsed() - first;
        assert!(second >= EACH_WAY * 2, "{second:?}");
        tcp.shutdown().await.unwrap();
        assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
    };
    tokio::join!(echo, asking);
}

#[tokio::test]
async fn an_end_leaves_the_other_direction_open() {
    let listener = loopback();
    let distance = Distance::start(listener.local_addr().unwrap(), Duration::from_millis(1));
    let serving = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut asked = String::new();
        tcp.read_to_string(&mut asked).await.unwrap();
        tcp.write_all(format!("{asked}!").as_bytes()).await.unwrap();
    };
    let asking = async {
        let mut tcp = TcpStream::connect(distance.addr()).await.unwrap();
        tcp.write_all(b"all").await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "all!");
    };
    // Without the end both would wait forever.
    let both = async { tokio::join!(serving, asking) };
    timeout(Duration::from_secs(30), both).await.unwrap();
}

#[tokio::test]
async fn a_reset_and_a_refusal_arrive_as_resets() {
    let listener = loopback();
    let distance = Distance::start(listener.local_addr().unwrap(), Duration::from_millis(1));
    let client = TcpStream::connect(distance.addr()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    let error = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    let nobody = ClosedPort::new();
    let distance = Distance::start(nobody.addr(), Duration::from_millis(1));
    let mut client = TcpStream::connect(distance.addr()).await.unwrap();
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

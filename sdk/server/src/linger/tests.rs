use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn it_reads_until_the_peer_closes_too() {
    let (near, mut far) = duplex(64);
    let mut near = Lingering::new(near);
    let closing = tokio::spawn(async move { near.shutdown().await });
    far.write_all(&[7; 1000])
        .await
        .expect("the other end reads");
    assert!(!closing.is_finished());
    drop(far);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_silent_peer_for_two_seconds() {
    let (near, _far) = duplex(64);
    let begun = Instant::now();
    Lingering::new(near).shutdown().await.unwrap();
    assert_eq!(begun.elapsed(), MAX_LINGER);
}

#[tokio::test(start_paused = true)]
async fn it_reads_at_most_a_mebibyte_from_a_peer_that_keeps_sending() {
    let (near, mut far) = duplex(4096);
    let talking = tokio::spawn(async move {
        let mut sent = 0;
        while far.write_all(&[7; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    });
    let begun = Instant::now();
    Lingering::new(near).shutdown().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!((MAX_BYTES..2 * MAX_BYTES).contains(&talking.await.unwrap()));
}

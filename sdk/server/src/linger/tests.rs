use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn it_reads_until_the_peer_closes_too() {
    let (ours, mut theirs) = duplex(64);
    let mut ours = Lingering::new(ours);
    let closing = tokio::spawn(async move { ours.shutdown().await });
    theirs.write_all(&[7; 1000]).await.expect("somebody reads");
    assert!(!closing.is_finished());
    drop(theirs);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_silent_peer_no_longer_than_it_says() {
    let (ours, _theirs) = duplex(64);
    let begun = Instant::now();
    Lingering::new(ours).shutdown().await.unwrap();
    assert_eq!(begun.elapsed(), MAX_LINGER);
}

#[tokio::test(start_paused = true)]
async fn it_reads_no_more_than_it_says_from_a_peer_that_goes_on() {
    let (ours, mut theirs) = duplex(4096);
    let talking = tokio::spawn(async move {
        let mut sent = 0;
        while theirs.write_all(&[7; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    });
    let begun = Instant::now();
    Lingering::new(ours).shutdown().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!((MAX_BYTES..2 * MAX_BYTES).contains(&talking.await.unwrap()));
}

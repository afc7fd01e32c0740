use std::sync::{Mutex, mpsc};

use super::*;

#[tokio::test]
async fn jobs_beyond_the_limit_wait() {
    let (open, gate) = mpsc::channel();
    let (blocking_pool, gate) = (BlockingPool::new(2), Arc::new(Mutex::new(gate)));
    let jobs: Vec<_> = (0..5)
        .map(|n| {
            let (blocking_pool, gate) = (blocking_pool.clone(), gate.clone());
            let wait = move || gate.lock().unwrap().recv().map(|()| n).unwrap();
            tokio::spawn(async move { blocking_pool.run(wait).await })
        })
        .collect();
    // All have started to wait before the first may end.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    for _ in &jobs {
        open.send(()).unwrap();
    }
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.await.unwrap(), Some(n));
    }
}

#[tokio::test]
async fn a_job_that_panics_makes_room_for_the_next() {
    let blocking_pool = BlockingPool::new(1);
    assert_eq!(
        blocking_pool.run(|| panic!("as the test wants")).await,
        None::<()>
    );
    assert_eq!(blocking_pool.run(|| 1).await, Some(1));
}

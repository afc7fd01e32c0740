use std::sync::{Mutex, mpsc};

use super::*;

#[tokio::test]
async fn more_jobs_than_may_run_wait_for_their_turn() {
    let (open, gate) = mpsc::channel();
    let (blocking_pool, gate) = (BlockingPool::new(2), Arc::new(Mutex::new(gate)));
    let jobs: Vec<_> = (0..5)
        .map(|n| {
            let (blocking_pool, gate) = (blocking_pool.clone(), gate.clone());
            let pass = move || gate.lock().unwrap().recv().map(|()| n).unwrap();
            tokio::spawn(async move { blocking_pool.run(pass).await })
        })
        .collect();
    // All are asked while the door is shut.
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
async fn a_job_that_panics_gives_its_place_back() {
    let blocking_pool = BlockingPool::new(1);
    assert_eq!(
        blocking_pool.run(|| panic!("as the test wants")).await,
        None::<()>
    );
    assert_eq!(blocking_pool.run(|| 1).await, Some(1));
}

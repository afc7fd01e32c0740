use super::*;
use crate::owner::Owner;

fn requester(name: &str) -> Requester {
    Requester::new(Owner::Spiffe(name.into()))
}

/// How many inactive answers it takes until the requester is refused.
fn spent(quota: &InactiveQuota, requester: &Requester) -> u32 {
    let mut asked = 0;
    while quota.admit(requester).is_ok() {
        quota.charge(requester);
        asked += 1;
    }
    asked
}

#[tokio::test(start_paused = true)]
async fn fifty_inactive_answers_at_once_then_twenty_a_second() {
    let (quota, thief) = (InactiveQuota::new(), requester("thief"));
    assert_eq!(spent(&quota, &thief), 50);
    let wait = quota.admit(&thief).unwrap_err();
    assert_eq!(wait, Duration::from_millis(50));
    assert_eq!(quota.admit(&requester("honest")), Ok(()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(spent(&quota, &thief), 20);
    tokio::time::advance(Duration::from_secs(10)).await;
    // One is still owed.
    assert_eq!(spent(&quota, &thief), 49);
}

#[tokio::test(start_paused = true)]
async fn questions_that_were_under_way_together_are_paid_for_later() {
    let (quota, thief) = (InactiveQuota::new(), requester("thief"));
    assert_eq!(quota.admit(&thief), Ok(()));
    for _ in 0..50 + 64 {
        quota.charge(&thief);
    }
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(quota.admit(&thief).is_err(), "64 are owed, 60 are paid");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(quota.admit(&thief), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn requesters_who_never_return_are_forgotten() {
    let quota = InactiveQuota::new();
    let mut expected = 0;
    for name in 0..5 * CHARGES_PER_CLEANUP {
        for _ in 0..2 {
            quota.charge(&requester(&name.to_string()));
        }
        tokio::time::advance(Duration::from_millis(10)).await;
        expected = expected.max(quota.buckets.len());
    }
    assert!(expected <= 2 * CHARGES_PER_CLEANUP as usize, "{expected}");
    assert!(quota.debts().owed.is_empty());
}

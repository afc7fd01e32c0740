//! `bowline ingress` as a service: reload, drain, admin, access log.

mod access;
pub(crate) mod admin;
mod drain;
mod idle;
mod load;
mod reload;

use std::time::Duration;

use crate::ingress::fixture::{HANG, Ingress};

/// Waits until the log has this text so many times.
pub(crate) async fn logs(ingress: &Ingress, text: &str, times: usize) {
    let there = async {
        while ingress.log().matches(text).count() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let there = tokio::time::timeout(HANG, there).await;
    assert!(
        there.is_ok(),
        "not {times} times {text:?} in:\n{}",
        tail(ingress)
    );
}

/// The log without the access lines of a load.
fn tail(ingress: &Ingress) -> String {
    let log = ingress.log();
    let lines = log.lines().filter(|line| !line.contains(" request "));
    lines.collect::<Vec<_>>().join("\n")
}

//! One connection: how it is opened, what is known of it, and how it ends.
//!
//! - [`identity`], [`identities`]: the certificates that a client holds, and which one a request
//!   needs.
//! - [`dial`]: name, socket (through a [`proxy`] or not; [`socket`]: its options), TLS handshake,
//!   HTTP.
//! - [`tls`]: the TLS configuration, and what the server requested in it; [`offload`]: slow keys;
//!   [`signing_queue`]: whose turn it is to sign.
//! - [`facts`]: what is known once the handshake has ended.
//! - [`live`]: what belongs to the connection while it is open, and why it ends.
//! - [`parked_sender`], [`close_report`]: two details of that, each with a race in it.
//! - [`signals`]: what the task that drives the connection is told from outside.
//! - [`frames`], [`h2_task`], [`unprocessed`]: what has to be seen beside hyper.
//! - [`stream_tasks`]: what hyper spawns for each HTTP/2 request.
//! - [`uploads`]: how far each request has been written; [`stall`]: the driver's timer for those
//!   that are not.

mod close_report;
pub(crate) mod dial;
pub(crate) mod facts;
pub(crate) mod frames;
pub(crate) mod h2_task;
pub(crate) mod identities;
pub(crate) mod identity;
pub(crate) mod live;
mod offload;
mod parked_sender;
pub(crate) mod proxy;
pub(crate) mod signals;
pub(crate) mod signing_queue;
mod socket;
mod stall;
mod stream_tasks;
pub(crate) mod tls;
pub(crate) mod unprocessed;
pub(crate) mod uploads;

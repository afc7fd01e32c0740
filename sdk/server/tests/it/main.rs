//! The server over real TLS, and JWT validation against real files and sockets.

mod authority;
mod dpop;
mod fixture;
mod forged_ticket;
mod handshakes;
mod introspection;
mod jwt;
mod jwt_sources;
mod limits;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod observe;
mod over_tls;
mod pki;
mod policies;
mod proxies;
mod public_types;
mod reload;
mod renegotiation;
mod resumption;
mod reverification;
mod serving;
mod stolen_ticket;
mod tls_reload;

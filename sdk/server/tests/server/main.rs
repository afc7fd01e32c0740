//! The server over real TLS, and JWT validation against real files and sockets.

mod authority;
mod dpop;
mod handshakes;
mod introspection;
mod jwt;
mod jwt_sources;
mod log;
mod over_tls;
mod pki;
mod serving;
mod site;

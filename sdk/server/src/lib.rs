//! The resource server's end of TLS-session-bound access tokens.

mod acceptor;
mod binding;
mod clock;
mod event;
mod facts;
mod jwt;
mod layer;
mod listener;
mod memory;
mod serve;
mod tls;
mod token;

pub use self::acceptor::{AcceptError, AcceptErrorKind, Acceptor};
pub use self::binding::{Binding, BindingClass};
pub use self::clock::Clock;
pub use self::event::{ServerEvent, VerifierObserver};
pub use self::facts::{ClientCertificate, ConnectionFacts, ConnectionId};
pub use self::jwt::{Jwks, JwksError, JwksUrl, JwtValidator, JwtValidatorBuilder};
pub use self::layer::{BindingLayer, BindingService, Policy, RequestClaims};
#[cfg(feature = "axum")]
pub use self::listener::PeerFacts;
pub use self::listener::{Connection, Listener};
pub use self::serve::{ServeOptions, serve, serve_connection};
pub use self::tls::{
    ClientAuth, MAX_TICKET_LIFETIME, ServerIdentity, ServerTls, ServerTlsBuilder, TlsError, TlsErrorKind,
    roots_from_pem, roots_from_pem_file,
};
pub use self::token::{TokenError, TokenErrorKind, TokenValidator, ValidToken};

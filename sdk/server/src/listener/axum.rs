//! The listener as `axum::serve` wants it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;

use super::{Connection, Listener};
use crate::ConnectionFacts;

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let connection = Listener::accept(self).await;
        let peer = connection.facts().peer();
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Some(self.local_addr))
    }
}

/// The facts of a connection as axum's connect info. [`BindingLayer`](crate::BindingLayer) finds them there:
///
/// ```no_run
/// # async fn run(listener: bowline_server::Listener, router: axum::Router) -> std::io::Result<()> {
/// use bowline_server::PeerFacts;
///
/// axum::serve(listener, router.into_make_service_with_connect_info::<PeerFacts>()).await
/// # }
/// ```
///
/// `axum::serve` gives no way to drain one connection: past its certificate's `notAfter` each request is refused (RS-1),
/// but the connection stays open until the client closes it. [`serve`](crate::serve) drains it.
#[derive(Clone, Debug)]
pub struct PeerFacts(pub Arc<ConnectionFacts>);

impl Connected<IncomingStream<'_, Listener>> for PeerFacts {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(stream.io().facts().clone())
    }
}

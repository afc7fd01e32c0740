use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn the_kernel_notices_peers_that_vanish_or_take_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (accepted, _client) = tokio::join!(listener.accept(), client);
    let (accepted, _) = accepted.unwrap();
    let limit = Duration::from_secs(60);
    set_up(&accepted, limit);
    assert!(accepted.nodelay().unwrap());
    let socket = SockRef::from(&accepted);
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limit));
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
}

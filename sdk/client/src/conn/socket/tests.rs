use super::*;

#[tokio::test]
async fn a_socket_is_probed_within_the_limit_and_sends_no_longer_than_it() {
    for (limit, time, interval) in [(60, 30, 7), (2, 1, 1), (1, 1, 1)] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        set_up(&stream, Duration::from_secs(limit));
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), time);
        assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        let user_timeout = socket.tcp_user_timeout().unwrap();
        assert_eq!(user_timeout, Some(Duration::from_secs(limit)));
    }
}

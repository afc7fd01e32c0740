use super::*;
use crate::RedisErrorKind;

#[test]
fn an_address_is_read_and_shown_without_who_logs_in() {
    for (url, shown) in [
        ("unix:/run/redis.sock", "unix:/run/redis.sock"),
        ("unix:///run/redis.sock", "unix:/run/redis.sock"),
        ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
        ("redis://localhost:7000/2", "redis://localhost:7000"),
        ("redis://[::1]:7000", "redis://[::1]:7000"),
        (
            "rediss://r.example.com:7000/1",
            "rediss://r.example.com:7000",
        ),
        ("rediss://node:sesame@10.0.0.1", "rediss://10.0.0.1:6379"),
    ] {
        let server = RedisServer::new(url).unwrap();
        assert_eq!(server.to_string(), shown);
        assert_eq!(format!("{server:?}"), format!("RedisServer({shown})"));
        assert_eq!(server.has_password(), url.contains("sesame"));
    }
}

#[test]
fn a_user_a_password_and_a_database_are_what_redis_gets() {
    let server = RedisServer::new("rediss://node:se%40same@r.example.com/3").unwrap();
    let login = &server.login;
    assert_eq!(
        (login.username(), login.password(), login.db()),
        (Some("node"), Some("se@same"), 3)
    );
    let server = RedisServer::new("rediss://node@r.example.com").unwrap();
    assert!(!server.has_password());
    let server = server.password("other");
    let login = &server.login;
    assert_eq!(
        (login.username(), login.password()),
        (Some("node"), Some("other"))
    );
}

#[test]
fn what_is_no_address_is_refused_and_not_quoted() {
    for url in [
        "",
        "sesame",
        "unix:",
        "http://sesame",
        "redis://",
        "redis://:sesame@",
        "rediss://sesame:port",
        "rediss://r.example.com/sesame",
        "rediss://a b",
        "valkey://sesame",
        "rediss://r.example.com/#insecure",
        "redis://127.0.0.1/?protocol=sesame",
    ] {
        let error = RedisServer::new(url).unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Configuration, "{url}");
        let text = error.to_string();
        assert!(!text.contains("sesame") && !text.contains('\n'), "{text}");
    }
}

#[test]
fn another_machine_needs_tls() {
    for url in [
        "redis://10.0.0.1",
        "redis://[2001:db8::1]:1",
        "redis://u:sesame@192.0.2.1/1",
    ] {
        let error = RedisServer::new(url).unwrap_err().to_string();
        assert!(error.contains("rediss://"), "{error}");
        assert!(!error.contains("sesame"), "{error}");
    }
    RedisServer::new("redis://127.8.8.8").unwrap();
    RedisServer::new("redis://[::ffff:127.0.0.1]").unwrap();
}

/// A name can lead anywhere, which is seen before anything is sent.
#[tokio::test]
async fn a_name_that_leads_to_another_machine_gets_nothing_without_tls() {
    // An address of this machine that is not loopback; without one there is nothing to show.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("192.0.2.1:9").is_err() {
        return;
    }
    let ip = probe.local_addr().unwrap().ip();
    let Ok(listener) = std::net::TcpListener::bind((ip, 0)) else {
        return;
    };
    let target = Target {
        place: Place::Plain(ip.to_string(), listener.local_addr().unwrap().port()),
        login: RedisConnectionInfo::default().set_password("sesame"),
        tls: None,
    };
    // Nobody answers: whatever it would wait for was sent.
    let opened = tokio::time::timeout(std::time::Duration::from_secs(10), target.open());
    let Ok(Err(error)) = opened.await else {
        panic!("it was opened, or waits for an answer");
    };
    assert_eq!(error.kind(), RedisErrorKind::Refused);
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut received).unwrap();
    assert!(received.is_empty());
}

#[test]
fn options_of_tls_without_tls_are_mistakes() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let identity = || Identity::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
    let trust = || Trust::from_pem(cert.as_bytes()).unwrap();
    for url in ["redis://127.0.0.1", "unix:/run/redis.sock"] {
        let server = || RedisServer::new(url).unwrap();
        server().trust_only(trust()).unwrap_err();
        server().identity(identity()).unwrap_err();
    }
    let server = RedisServer::new("rediss://127.0.0.1").unwrap();
    let server = server.trust_only(trust()).unwrap();
    let server = server.identity(identity()).unwrap();
    assert!(
        server
            .target()
            .unwrap()
            .tls
            .unwrap()
            .client_auth_cert_resolver
            .has_certs()
    );
}

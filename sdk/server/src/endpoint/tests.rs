use super::*;

async fn resolved(found: Lookup) -> Result<Vec<IpAddr>, String> {
    let name: Name = "localhost".parse().unwrap();
    match LoopbackOnly(found).resolve(name).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// A name alone proves nothing: a hostile resolver would get keys replaced and tokens shown.
#[tokio::test]
async fn a_name_that_resolves_elsewhere_gets_no_plaintext() {
    let elsewhere = resolved(|_| {
        let found = [
            "192.0.2.1:0",
            "[2001:db8::1]:0",
            "[::ffff:127.0.0.1]:0",
            "0.0.0.0:0",
        ];
        async move { Ok(found.map(|text| text.parse().unwrap()).into()) }.boxed()
    });
    assert!(elsewhere.await.unwrap_err().contains("no loopback address"));
    let both = resolved(|_| {
        let found = ["192.0.2.1:0", "127.0.0.1:0", "[::1]:0", "127.9.9.9:0"];
        async move { Ok(found.map(|text| text.parse().unwrap()).into()) }.boxed()
    });
    let expected = ["127.0.0.1", "::1", "127.9.9.9"];
    assert_eq!(
        both.await.unwrap(),
        expected.map(|text| text.parse::<IpAddr>().unwrap())
    );
    let none = resolved(|_| async { Err(std::io::Error::other("no resolver")) }.boxed());
    assert_eq!(none.await.unwrap_err(), "no resolver");
}

#[tokio::test]
async fn a_connection_is_made_only_to_an_address_on_loopback() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    let endpoint = Endpoint::new("the URL", &url).unwrap();
    let elsewhere = endpoint
        .clone()
        .with_lookup(|_| async { Ok(vec!["192.0.2.1:0".parse().unwrap()]) }.boxed());
    let error = elsewhere
        .send(elsewhere.get(), 1)
        .await
        .map(drop)
        .unwrap_err();
    let text = format!("{:?}", error.source());
    assert!(text.contains("no loopback address"), "{text}");

    let sending = tokio::spawn(async move { endpoint.send(endpoint.get(), 1).await.map(drop) });
    drop(listener.accept().await.unwrap());
    assert!(sending.await.unwrap().is_err(), "closed without an answer");
}

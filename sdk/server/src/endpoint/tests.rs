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

/// Everything that an error shows: itself and its causes, for people and for developers.
fn shown(error: &EndpointError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(" {error} {error:?}");
        cause = error.source();
    }
    text
}

/// K1: a key from an environment variable, in the forms in which it gets mangled.
#[test]
fn no_error_about_an_identity_quotes_the_key() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new())
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let pem = certificate.pem() + &key.serialize_pem();
    let secret = key.serialize_pem().lines().nth(1).unwrap().to_owned();
    let endpoint = || Endpoint::new("the URL", "https://localhost/").unwrap();
    endpoint().identity_pem(pem.as_bytes()).unwrap();
    for mangled in [
        pem.replace("\r\n", "\n").replace('\n', "\\n"),
        pem.replace("\r\n", "\n").replace('\n', " "),
        pem.replace("\r\n", "\n").replace('\n', ""),
        pem.replace("-----END PRIVATE KEY-----", ""),
        pem.replace("-----END", "-----ENDE"),
        pem.replace("BEGIN PRIVATE", "BEGIN EC PRIVATE"),
        pem.replace(&secret, &format!("{secret}!")),
        key.serialize_pem(),
        certificate.pem(),
        format!("{secret}\n"),
    ] {
        let error = endpoint()
            .identity_pem(mangled.as_bytes())
            .map(drop)
            .unwrap_err();
        let text = shown(&error);
        assert!(!text.contains(&secret[..12]), "{text}");
        let as_bytes = format!("{:?}", &secret.as_bytes()[..6]);
        assert!(!text.contains(as_bytes.trim_matches(['[', ']'])), "{text}");
    }
}

/// K6: with a certificate fewer than were given, servers would be refused with no hint why.
#[test]
fn every_certificate_of_a_bundle_is_read_or_the_error_names_it() {
    let certificate = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(&key).unwrap().pem()
    };
    let (one, two) = (certificate(), certificate());
    let endpoint = || Endpoint::new("the URL", "https://localhost/").unwrap();
    let read = |text: &str| {
        let endpoint = endpoint().trust_only_pem(text.as_bytes())?;
        Ok::<_, EndpointError>(endpoint.roots.unwrap().len())
    };
    for (text, number) in [
        (one.clone(), 1),
        (format!("{one}{two}"), 2),
        (format!("\u{feff}{one}{two}"), 2),
        (format!("some text\n{one}# and more\n{two}"), 2),
    ] {
        assert_eq!(read(&text).unwrap(), number);
    }
    for text in [
        String::new(),
        "no PEM".to_owned(),
        format!("{one} {}", two.replace('\n', " ")),
        format!("x{one}{two}"),
        format!("{one}{}", two.replace("-----END", "----END")),
        format!("{one}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        format!("{one}-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        one.replace("CERTIFICATE", "PUBLIC KEY"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(!shown(&error).contains("45, 45, 45"), "{}", shown(&error));
        assert!(!shown(&error).contains(", 6"), "{}", shown(&error));
    }
}

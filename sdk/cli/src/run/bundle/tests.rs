use rustls::pki_types::pem::PemObject;

use super::*;

fn certificates(text: &[u8]) -> Vec<Vec<u8>> {
    let read = CertificateDer::pem_slice_iter(text);
    read.map(|certificate| certificate.expect("PEM").to_vec())
        .collect()
}

#[test]
fn each_file_holds_what_was_trusted_before_and_the_local_authority() {
    let local = CertificateDer::from(vec![1; 100]);
    let machine = [
        CertificateDer::from(vec![2; 47]),
        CertificateDer::from(vec![3; 48]),
    ];
    let dir = std::env::temp_dir();
    let former = dir.join(format!("bowline-former-{}.pem", std::process::id()));
    // Without a newline at its end, as some are.
    let text = pem(&CertificateDer::from(vec![4; 49]));
    std::fs::write(&former, text.trim_end()).expect("a file");
    let inherited = [
        ("REQUESTS_CA_BUNDLE".into(), former.clone().into()),
        ("NODE_EXTRA_CA_CERTS".into(), former.clone().into()),
        ("SSL_CERT_FILE".into(), OsString::new()),
    ];
    let bundles = Bundles::new(&inherited, &machine, &local).expect("bundles");
    std::fs::remove_file(&former).expect("the file");
    for (name, text) in &bundles.0 {
        let expected = match *name {
            "REQUESTS_CA_BUNDLE" | "NODE_EXTRA_CA_CERTS" => vec![vec![4; 49], vec![1; 100]],
            "DENO_CERT" => vec![vec![1; 100]],
            _ => vec![vec![2; 47], vec![3; 48], vec![1; 100]],
        };
        assert_eq!(certificates(text), expected, "{name}");
    }
    assert_eq!(bundles.0.len(), 8);
    let error = Bundles::new(&inherited, &machine, &local).expect_err("the file is gone");
    assert!(
        format!("{error:?}").contains("REQUESTS_CA_BUNDLE names"),
        "{error:?}"
    );
}

#[test]
fn a_directory_of_authorities_is_read_whole() {
    let local = CertificateDer::from(vec![1; 100]);
    let folder = std::env::temp_dir().join(format!("bowline-hashed-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a directory");
    for (name, byte) in [("11111111.0", 5), ("22222222.0", 6)] {
        let text = pem(&CertificateDer::from(vec![byte; 50]));
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let inherited = [("REQUESTS_CA_BUNDLE".into(), folder.clone().into())];
    let bundles = Bundles::new(&inherited, &[], &local).expect("bundles");
    std::fs::remove_dir_all(&folder).expect("the directory");
    let (_, text) = bundles
        .0
        .iter()
        .find(|(name, _)| *name == "REQUESTS_CA_BUNDLE")
        .expect("it");
    let mut found = certificates(text);
    found.sort();
    assert_eq!(found, [vec![1; 100], vec![5; 50], vec![6; 50]]);
}

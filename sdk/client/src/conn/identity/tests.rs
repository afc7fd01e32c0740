use std::error::Error as _;

use bowline_testkit::pki::{KeyKind, Pki};

use super::*;
use crate::Trust;

/// K1: an error over a key, its `Debug` and its sources show nothing of the key.
#[test]
fn an_error_about_a_mangled_key_shows_nothing_of_it() {
    let leaf = Pki::new().client("agent", KeyKind::P256);
    let (chain, key) = (leaf.chain_pem(), leaf.key_pem());
    let content: String = key
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let bytes = format!("{:?}", &content.as_bytes()[..6]);
    for mangled in [
        key.replace('\n', "\\n"),
        key.replace('\n', " "),
        key.replace('\n', ""),
        key.replace("-----END", "----END"),
        key.replacen('M', "!", 1),
        key.replacen("MI", "MJ", 1),
        content.clone(),
    ] {
        let error = Identity::from_pem(chain.as_bytes(), mangled.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let mut shown = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(e) = source {
            shown.push_str(&format!("{e} {e:?}"));
            source = e.source();
        }
        assert!(shown.contains("the key given"), "{shown}");
        assert!(!shown.contains(&content[4..16]), "{shown}");
        assert!(!shown.contains(&bytes[1..bytes.len() - 1]), "{shown}");
    }
}

/// K6: a byte order mark does not take the first authority of a bundle away, and one that cannot be
/// read is an error.
#[test]
fn a_trust_bundle_is_read_whole_or_not_at_all() {
    let (a, b) = (Pki::new(), Pki::new());
    let file = std::env::temp_dir().join(format!("bowline-trust-{}.pem", std::process::id()));
    let bundle = |text: String| {
        std::fs::write(&file, text).unwrap();
        Trust::from_pem_file(&file)
    };
    assert!(bundle(format!("\u{feff}{}{}", a.ca_pem(), b.ca_pem())).is_ok());
    let broken = b.ca_pem().replacen("MI", "!!", 1);
    let error = bundle(format!("{}{broken}", a.ca_pem())).unwrap_err();
    assert!(error.to_string().contains("item 2"), "{error}");
    std::fs::remove_file(&file).unwrap();
}

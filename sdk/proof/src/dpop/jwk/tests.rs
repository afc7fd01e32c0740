use super::*;

fn thumbprint(jwk: &str) -> Result<String, DpopCheck> {
    let members: Members = serde_json::from_str(jwk).unwrap();
    members.jwk().map(|jwk| jwk.thumbprint().to_string())
}

const RFC_7638_N: &str = "\
    0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE\
    CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q\
    vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6\
    WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

#[test]
fn the_examples_of_rfc_7638_rfc_8037_and_rfc_9449_have_their_thumbprints() {
    let rsa = format!(
        r#"{{"kty":"RSA","n":"{RFC_7638_N}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}"#
    );
    assert_eq!(
        thumbprint(&rsa).unwrap(),
        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    );
    let ed25519 =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(
        thumbprint(ed25519).unwrap(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    let p256 = r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#;
    assert_eq!(
        thumbprint(p256).unwrap(),
        "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    );
}

/// Otherwise one key would have several thumbprints.
#[test]
fn a_number_has_one_spelling() {
    let x = from_base64url("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs").unwrap();
    let y = from_base64url("9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA").unwrap();
    let ec = |x: &[u8], y: &[u8]| {
        let members = format!(
            r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#,
            base64url(x),
            base64url(y)
        );
        thumbprint(&members)
    };
    assert!(ec(&x, &y).is_ok());
    assert_eq!(ec(&[&[0], &*x].concat(), &y), Err(DpopCheck::Jwk));
    assert_eq!(ec(&x, &[&[0], &*y].concat()), Err(DpopCheck::Jwk));
    assert_eq!(ec(&x[1..], &y), Err(DpopCheck::Jwk));
    // The same point, split elsewhere.
    assert_eq!(ec(&x[..31], &[&x[31..], &*y].concat()), Err(DpopCheck::Jwk));

    let n = from_base64url(RFC_7638_N).unwrap();
    let rsa = |n: &[u8], e: &[u8]| {
        thumbprint(&format!(
            r#"{{"kty":"RSA","n":"{}","e":"{}"}}"#,
            base64url(n),
            base64url(e)
        ))
    };
    assert!(rsa(&n, &[1, 0, 1]).is_ok());
    assert_eq!(rsa(&[&[0], &*n].concat(), &[1, 0, 1]), Err(DpopCheck::Jwk));
    assert_eq!(rsa(&n, &[0, 1, 0, 1]), Err(DpopCheck::Jwk));
    // 2047 bits.
    let weak = [&[0x7F], &n[1..]].concat();
    assert_eq!(rsa(&weak, &[1, 0, 1]), Err(DpopCheck::Jwk));
}

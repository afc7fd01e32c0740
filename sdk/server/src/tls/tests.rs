use rcgen::generate_simple_self_signed;

use super::*;

#[test]
fn ex_2_and_ex_3_hold_in_every_configuration() {
    let certified = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(
        certified.cert.pem().as_bytes(),
        certified.signing_key.serialize_pem().as_bytes(),
    )
    .unwrap();
    let roots = Trust::from_pem(certified.cert.pem().as_bytes()).unwrap();
    for auth in [
        ClientAuth::None,
        ClientAuth::Optional(roots.clone()),
        ClientAuth::Required(roots),
    ] {
        let tls = ServerTls::builder(identity.clone(), auth)
            .alpn(["http/1.1"])
            .build()
            .unwrap();
        assert!(tls.config.require_ems);
        assert_eq!(tls.config.max_early_data_size, 0);
        assert!(!tls.config.session_storage.can_cache());
        assert_eq!(tls.config.ticketer.lifetime(), 3600);
        assert_eq!(tls.config.alpn_protocols, [b"http/1.1".to_vec()]);
    }
}

//! `source = "exchange"`: which tokens are exchanged (AS-3, GW-7).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bowline_proof::AccessToken;
use bowline_testkit::authority::{Client, TokenRequest};
use std::time::{SystemTime, UNIX_EPOCH};

use super::net::{Net, ask, claims, table};

pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";

/// As an ingress with this key writes it; not with its code, so that both would have to be wrong.
pub(super) fn receipt(key: &str, token: &str, expires_in: i64) -> String {
    let token = AccessToken::new(token).expect("a token");
    let ath = URL_SAFE_NO_PAD.encode(token.hash().as_bytes());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let exp = now.saturating_add_signed(expires_in);
    let signed = format!("v=1, class=session, ath=\"{ath}\", exp={exp}");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
    let mac = aws_lc_rs::hmac::sign(&key, format!("bowline receipt\n{signed}").as_bytes());
    format!("{signed}, mac=:{}:", STANDARD.encode(mac))
}

pub(super) fn addressed_to_the_agent(net: &Net) -> String {
    net.authority.register(Client {
        resources: vec!["https://service.example".to_owned()],
        ..Client::new("agent")
    });
    let thumbprint = net
        .pki
        .client("caller", bowline_testkit::pki::KeyKind::P256)
        .thumbprint();
    let request = TokenRequest::session_bound("caller", thumbprint);
    net.authority
        .issue(&request.subject("alice").audience("https://service.example"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exchanged_with_its_receipt_and_without_one_the_authority_hears_nothing() {
    let net = Net::new("exchange-receipt");
    let site = net.site();
    let subject = addressed_to_the_agent(&net);
    let other = addressed_to_the_agent(&net);
    let key = net.write("receipt.key", &format!("{KEY}\n"));
    let source = format!(
        "source = \"exchange\", receipt-key = \"@{key}\", {}",
        net.at_authority()
    );
    let egress = net.egress(&table(&site, &source)).await;
    let url = format!("{}/x", site.origin());
    let bearer = format!("Authorization: Bearer {subject}");
    let with = |receipt: String| format!("Session-Binding-Receipt: {receipt}");
    let good = with(receipt(KEY, &subject, 60));
    let changed = good.replace("class=session", "class=dpop");
    for (fields, status) in [
        (vec![], 401),
        (vec!["Authorization: Basic x"], 401),
        (vec![&*good], 401),
        (vec![&*bearer, &*bearer, &*good], 401),
        (vec![&*bearer], 403),
        (vec![&*bearer, "Session-Binding-Receipt: x"], 403),
        (vec![&*bearer, &*good, &*good], 403),
        (vec![&*bearer, &with(receipt(KEY, &other, 60))], 403),
        (vec![&*bearer, &with(receipt(KEY, &subject, -1))], 403),
        (
            vec![
                &*bearer,
                &with(receipt("f123456789abcdef0123456789abcdef", &subject, 60)),
            ],
            403,
        ),
        (vec![&*bearer, &*changed], 403),
        (vec![&*bearer, &*good, "session_binding_receipt: x"], 400),
        (vec![&*bearer, &*good, "Session-Binding-Proof: x"], 400),
    ] {
        let answer = ask(&egress, "GET", &url, &fields).await;
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.text);
    }
    assert_eq!(net.authority.token_requests(), 0);
    assert_eq!(site.arrived().len(), 0);

    for _ in 0..3 {
        assert_eq!(
            ask(&egress, "GET", &url, &[&bearer, &good]).await.status,
            200
        );
    }
    assert_eq!(net.authority.exchanges(), 1, "the result is kept");
    for arrived in site.arrived() {
        assert!(!arrived.headers.contains_key("session-binding-receipt"));
        let [token] = &arrived.tokens()[..] else {
            panic!("one token")
        };
        let claims = claims(token);
        assert_eq!(
            (&claims["sub"], &claims["aud"]),
            (&"alice".into(), &site.origin().into())
        );
        assert_eq!(claims["act"]["sub"], "agent");
        assert_eq!(
            claims["cnf"]["x5t#S256"],
            net.agent.thumbprint().to_string()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_authority_does_not_exchange_is_403_with_its_reason() {
    let net = Net::new("exchange-refused");
    let site = net.site();
    let key = net.write("receipt.key", KEY);
    let source = format!(
        "source = \"exchange\", receipt-key = \"@{key}\", {}",
        net.at_authority()
    );
    let egress = net.egress(&table(&site, &source)).await;
    // Neither bound nor addressed to this client (AS-2).
    let thumbprint = net
        .pki
        .client("caller", bowline_testkit::pki::KeyKind::P256)
        .thumbprint();
    let subject = net
        .authority
        .issue(&TokenRequest::session_bound("caller", thumbprint));
    let fields = [
        format!("Authorization: Bearer {subject}"),
        format!("Session-Binding-Receipt: {}", receipt(KEY, &subject, 60)),
    ];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let answer = ask(&egress, "GET", &format!("{}/x", site.origin()), &fields).await;
    assert_eq!(answer.status, 403, "{}", answer.text);
    assert!(answer.text.contains("AS-2"), "{}", answer.text);
    assert!(!answer.text.contains(&subject), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_actor_is_named_by_a_token_of_its_own() {
    let net = Net::new("exchange-actor");
    let site = net.site();
    let subject = addressed_to_the_agent(&net);
    let key = net.write("receipt.key", KEY);
    let source = format!(
        "source = \"exchange\", actor = true, receipt-key = \"@{key}\", {}",
        net.at_authority()
    );
    let egress = net.egress(&table(&site, &source)).await;
    let fields = [
        format!("Authorization: Bearer {subject}"),
        format!("Session-Binding-Receipt: {}", receipt(KEY, &subject, 60)),
    ];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let answer = ask(&egress, "GET", &format!("{}/x", site.origin()), &fields).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        (net.authority.exchanges(), net.authority.token_requests()),
        (1, 2)
    );
    assert_eq!(claims(&site.tokens()[0])["act"]["sub"], "agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_without_receipts_is_named_r3_at_the_start() {
    let net = Net::new("exchange-unverified");
    let site = net.site();
    let subject = addressed_to_the_agent(&net);
    let source = format!(
        "source = \"exchange\", exchange-unverified = true, {}",
        net.at_authority()
    );
    let egress = net.egress(&table(&site, &source)).await;
    assert!(egress.log().contains("(R3)"), "{}", egress.log());
    let bearer = format!("Authorization: Bearer {subject}");
    let url = format!("{}/x", site.origin());
    assert_eq!(ask(&egress, "GET", &url, &[&bearer]).await.status, 200);
    assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 401);
}

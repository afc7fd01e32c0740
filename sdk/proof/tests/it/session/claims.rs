//! RS-6..RS-9: the claims, in a proof whose signature is good.

use std::time::Duration;

use bowline_proof::{Check, Targets, Windows};
use serde_json::json;

use super::{
    EXPORTER, Fixture, NOW, TOKEN, assert_ok, assert_refused, claims, header, per_request, proof,
    targets, verify_claims, verify_text, with,
};
use crate::fixture::{P256, base64url, sha256, time};

#[test]
fn another_connections_exporter_value_is_refused() {
    let mut last_byte = EXPORTER;
    last_byte[31] ^= 1;
    let text = base64url(EXPORTER);
    for ekm in [
        base64url([8; 32]),
        base64url(last_byte),
        base64url(&EXPORTER[..31]),
        base64url([7; 33]),
        format!("{text}="),
        format!("{}d", &text[..42]),
        String::new(),
    ] {
        assert_refused(verify_claims(&with("ekm", json!(ekm))), Check::Exporter);
    }
}

#[test]
fn another_tokens_hash_is_refused() {
    for ath in [
        base64url(sha256(b"another-token")),
        base64url(sha256(format!("Bearer {TOKEN}").as_bytes())),
        base64url(&sha256(TOKEN.as_bytes())[..31]),
        TOKEN.to_owned(),
        String::new(),
    ] {
        assert_refused(verify_claims(&with("ath", json!(ath))), Check::TokenHash);
    }
}

#[test]
fn a_proof_for_one_request_is_accepted_from_300_s_ago_to_60_s_ahead() {
    for claims in [
        per_request(),
        with("jti", json!("j")),
        with("htm", json!("POST")),
        with("htu", json!("/mcp")),
    ] {
        for (iat, verdict) in [
            (NOW - 301, Err(Check::IssuedAt)),
            (NOW - 300, Ok(())),
            (NOW + 60, Ok(())),
            (NOW + 61, Err(Check::IssuedAt)),
        ] {
            let mut claims = claims.clone();
            claims["iat"] = json!(iat);
            let fixture = Fixture {
                // Long ago: it must not widen the window of these.
                handshake_at: time(NOW - 86_400),
                ..Fixture::default()
            };
            let found = fixture.verify(&proof(&header(&P256), &claims));
            assert_eq!(found.map(drop).map_err(|refusal| refusal.check()), verdict);
        }
    }
}

#[test]
fn a_reusable_proof_may_be_as_old_as_its_connection() {
    let handshake_at = NOW - 86_400;
    for (iat, verdict) in [
        (handshake_at - 301, Err(Check::IssuedAt)),
        (handshake_at - 300, Ok(())),
        (NOW - 301, Ok(())),
        (NOW + 60, Ok(())),
        (NOW + 61, Err(Check::IssuedAt)),
    ] {
        let fixture = Fixture {
            handshake_at: time(handshake_at),
            ..Fixture::default()
        };
        let found = fixture.verify(&proof(&header(&P256), &with("iat", json!(iat))));
        assert_eq!(found.map(drop).map_err(|refusal| refusal.check()), verdict);
    }
}

#[test]
fn the_windows_are_configurable() {
    let mut windows = Windows::default();
    windows.past = Duration::from_secs(10);
    windows.future = Duration::ZERO;
    let fixture = Fixture {
        handshake_at: time(NOW),
        windows,
        ..Fixture::default()
    };
    for (iat, is_accepted) in [
        (NOW - 11, false),
        (NOW - 10, true),
        (NOW, true),
        (NOW + 1, false),
    ] {
        let found = fixture.verify(&proof(&header(&P256), &with("iat", json!(iat))));
        assert_eq!(found.is_ok(), is_accepted);
    }
}

#[test]
fn a_clock_set_back_after_the_handshake_does_not_refuse_fresh_proofs() {
    let fixture = Fixture {
        handshake_at: time(NOW + 3600),
        ..Fixture::default()
    };
    assert_ok(fixture.verify(&proof(&header(&P256), &claims())));
}

#[test]
fn extreme_times_are_refused_without_overflow() {
    for iat in [json!(0), json!(u64::MAX), json!(u64::MAX - 59)] {
        assert_refused(verify_claims(&with("iat", iat)), Check::IssuedAt);
    }
    let mut windows = Windows::default();
    windows.past = Duration::MAX;
    windows.future = Duration::MAX;
    for (now, handshake_at) in [(0, 0), (u64::MAX, 0), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        let fixture = Fixture {
            now: time(now),
            handshake_at: time(handshake_at),
            windows,
            ..Fixture::default()
        };
        assert_ok(fixture.verify(&proof(&header(&P256), &claims())));
    }
}

#[test]
fn iat_counts_whole_seconds() {
    for iat in [json!(1_700_000_000.5), json!(1_700_000_000.0), json!(-1)] {
        assert_refused(verify_claims(&with("iat", iat)), Check::IssuedAt);
    }
    let exponent = claims().to_string().replace("1700000000", "17e8");
    let text = P256.jws("ES256", &header(&P256).to_string(), &exponent);
    assert_refused(verify_text(&text), Check::IssuedAt);
}

#[test]
fn another_method_is_refused() {
    for htm in ["GET", "post", "POST ", ""] {
        assert_refused(verify_claims(&with("htm", json!(htm))), Check::Method);
    }
    assert_ok(verify_claims(&with("htm", json!("POST"))));
}

#[test]
fn every_form_of_this_target_is_accepted() {
    for htu in [
        "https://api.example.com/mcp",
        "HTTPS://API.example.com:443/x/../mcp",
        "https://api.example.com/%6Dcp",
        "http://internal:8080/mcp",
        "/mcp",
        "/./%6dcp",
    ] {
        assert_ok(verify_claims(&with("htu", json!(htu))));
    }
}

#[test]
fn another_target_is_refused() {
    for htu in [
        "https://api.example.com/other",
        "https://api.example.com/mcp/",
        "https://api.example.com/MCP",
        "https://api.example.com",
        "http://api.example.com/mcp",
        "https://api.example.com:8443/mcp",
        "https://evil.example.com/mcp",
        "https://api.example.com.evil.com/mcp",
        "https://user@api.example.com/mcp",
        "https://api.example.com/mcp?x=1",
        "https://api.example.com/mcp?",
        "https://api.example.com/mcp#f",
        "https://api.example.com?/mcp",
        "https://api.example.com/mcp%",
        "//api.example.com/mcp",
        "/mcp?x=1",
        "/mcp#",
        "/other",
        "mcp",
        "api.example.com/mcp",
        "https:/mcp",
        "https://",
        "*",
        "",
    ] {
        assert_refused(verify_claims(&with("htu", json!(htu))), Check::TargetUri);
    }
}

#[test]
fn a_bare_path_can_be_refused_by_configuration() {
    let fixture = Fixture {
        targets: targets().bare_path(false),
        ..Fixture::default()
    };
    let verify = |htu: &str| fixture.verify(&proof(&header(&P256), &with("htu", json!(htu))));
    assert_refused(verify("/mcp"), Check::TargetUri);
    assert_ok(verify("https://api.example.com/mcp"));
}

#[test]
fn without_configured_origins_only_a_bare_path_can_match() {
    let fixture = Fixture {
        targets: Targets::default(),
        ..Fixture::default()
    };
    let verify = |htu: &str| fixture.verify(&proof(&header(&P256), &with("htu", json!(htu))));
    assert_ok(verify("/mcp"));
    assert_refused(verify("https://api.example.com/mcp"), Check::TargetUri);
}

#[test]
fn the_requests_own_path_is_normalised_before_it_is_compared() {
    for (path, is_accepted) in [
        ("/x/../%6Dcp", true),
        ("/mcp%zz", false),
        ("*", false),
        ("/mcp/..", false),
    ] {
        let fixture = Fixture {
            path,
            ..Fixture::default()
        };
        for htu in ["/mcp", "https://api.example.com/mcp"] {
            let found = fixture.verify(&proof(&header(&P256), &with("htu", json!(htu))));
            assert_eq!(found.is_ok(), is_accepted, "{path}");
        }
    }
}

/// Escaped, a question mark belongs to the path; bare, it ends it.
#[test]
fn a_query_does_not_pass_for_an_escaped_one() {
    let fixture = Fixture {
        path: "/mcp%3Fx%231",
        ..Fixture::default()
    };
    let verify = |htu: &str| fixture.verify(&proof(&header(&P256), &with("htu", json!(htu))));
    assert_ok(verify("/mcp%3fx%231"));
    for htu in [
        "/mcp?x%231",
        "/mcp%3Fx#1",
        "https://api.example.com/mcp?x%231",
    ] {
        assert_refused(verify(htu), Check::TargetUri);
    }
}

#[test]
fn jti_is_bounded() {
    for jti in [String::new(), "j".repeat(257), "é".repeat(129)] {
        assert_refused(verify_claims(&with("jti", json!(jti))), Check::ProofSyntax);
    }
    assert_ok(verify_claims(&with("jti", json!("j".repeat(256)))));
}

#[test]
fn whichever_request_claims_are_there_are_reported() {
    for (claim, value) in [("jti", "j"), ("htm", "POST"), ("htu", "/mcp")] {
        let verified = verify_claims(&with(claim, json!(value))).unwrap();
        assert!(!verified.is_reusable() && !verified.has_all_request_claims());
        assert_eq!(verified.request.jti.is_some(), claim == "jti");
        assert_eq!(verified.request.htm, claim == "htm");
        assert_eq!(verified.request.htu, claim == "htu");
    }
}

//! `bowline inspect` with real proofs, tokens and certificates: each check holds, and fails.

use std::path::Path;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline::AccessToken;
use bowline::client::{DpopKey, ExporterValue};
use bowline_proof::{ProofClaims, ProofKey, RequestClaims, dpop};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::pki::{KeyKind, LeafSpec};
use http::Method;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use crate::support::{Fixture, Ran, bowline, jwt, ran, session_cnf};

const EXPORTER: [u8; 32] = [7; 32];

/// `bowline inspect --json`, and what came of it.
struct Inspected {
    ran: Ran,
    report: Value,
}

fn inspect(args: &[&str]) -> Inspected {
    let output = bowline().args(["inspect", "--json"]).args(args).output();
    let ran = ran(output.expect("the command runs"));
    let report = serde_json::from_str(&ran.stdout).unwrap_or(Value::Null);
    Inspected { ran, report }
}

impl Inspected {
    /// The outcomes of the checks with this id, by what is checked.
    fn outcomes(&self, id: &str) -> Vec<String> {
        let checks = self.report["checks"].as_array().expect("checks").iter();
        let checks = checks.filter(|check| {
            let ids = check["id"].as_str().unwrap_or_default();
            ids.split(", ").any(|found| found == id)
        });
        checks
            .map(|c| c["outcome"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn failed(&self) -> Vec<&str> {
        let checks = self.report["checks"].as_array().expect("checks").iter();
        checks
            .filter(|check| check["outcome"] == "failed")
            .filter_map(|check| check["id"].as_str())
            .collect()
    }

    #[track_caller]
    fn fails_at(&self, ids: &[&str]) {
        assert_eq!(self.failed(), ids, "{}", self.report);
        assert_eq!(
            self.ran.code,
            Some(i32::from(!ids.is_empty())),
            "{}",
            self.ran.stderr
        );
    }

    fn member(&self, name: &str) -> &str {
        let members = self.report["members"].as_array().expect("members").iter();
        let mut found = members.filter(|member| member["name"] == name);
        found
            .next()
            .and_then(|m| m["value"].as_str())
            .unwrap_or_default()
    }
}

fn at(path: &Path) -> String {
    format!("@{}", path.display())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A proof of the agent for that token, in a file.
fn proof(fixture: &Fixture, token: &str, age: u64, request: Option<RequestClaims>) -> String {
    let key = ProofKey::new(fixture.agent.certificate(), fixture.agent.signing_key());
    let token = AccessToken::new(token).unwrap();
    let now = UnixTime::now().as_secs() - age;
    let proof = key.unwrap().mint(&ProofClaims {
        token: token.hash(),
        exporter: &ExporterValue::from_bytes(EXPORTER),
        issued_at: UnixTime::since_unix_epoch(std::time::Duration::from_secs(now)),
        request,
    });
    proof.unwrap().as_str().to_owned()
}

#[test]
fn a_proof_holds_with_its_certificate_token_and_exporter_and_fails_with_others() {
    let fixture = Fixture::new();
    let token = jwt(&json!({ "cnf": session_cnf(fixture.agent.thumbprint()) }));
    let given = at(&fixture.dir.write("proof", proof(&fixture, &token, 0, None)));
    let cert = fixture.files.certificate.to_str().unwrap();
    let token_file = at(&fixture.dir.write("token", &token));
    let exporter = at(&fixture.dir.write("exporter", hex(&EXPORTER)));
    let all = [
        "--cert",
        cert,
        "--token",
        &token_file,
        "--exporter",
        &exporter,
    ];

    let report = inspect(&[&[&given[..]], &all[..]].concat());
    report.fails_at(&[]);
    assert_eq!(report.report["kind"], "session_binding_proof");
    for id in [
        "PR-1", "PR-2", "PR-3", "PR-4", "PR-5", "RS-6", "RS-7", "RS-8", "RS-3",
    ] {
        assert_eq!(report.outcomes(id), ["ok"], "{id}: {}", report.report);
    }
    // The exporter value is secret-like, in either spelling.
    let spellings = [hex(&EXPORTER), URL_SAFE_NO_PAD.encode(EXPORTER)];
    for spelling in &spellings {
        let file = at(&fixture.dir.write("spelling", spelling));
        let report = inspect(&[&given, "--exporter", &file]);
        assert_eq!(report.outcomes("RS-6"), ["ok"]);
        assert!(!report.ran.stdout.contains(spelling) && !report.ran.stderr.contains(spelling));
        assert!(!report.ran.stdout.contains(&spellings[1]));
    }

    // Nothing but the proof: what cannot be checked says what would be needed.
    let report = inspect(&[&given]);
    report.fails_at(&[]);
    for (id, needed) in [
        ("PR-4", "--cert"),
        ("RS-6", "--exporter"),
        ("RS-7", "--token"),
    ] {
        assert_eq!(report.outcomes(id), ["unknown"], "{id}");
        assert!(report.report.to_string().contains(needed), "{needed}");
    }

    let other = fixture.pki.client("other", KeyKind::P256);
    let other = other.write_to(fixture.dir.path()).unwrap();
    let report = inspect(&[&given, "--cert", other.certificate.to_str().unwrap()]);
    report.fails_at(&["RS-5, PR-3"]);
    assert_eq!(report.outcomes("PR-4"), ["unknown"]);
    let p384 = fixture.pki.client("p384", KeyKind::P384);
    let p384 = p384.write_to(fixture.dir.path()).unwrap();
    inspect(&[&given, "--cert", p384.certificate.to_str().unwrap()])
        .fails_at(&["RS-5, PR-2", "RS-5, PR-3"]);
    inspect(&[&given, "--cert", cert, "--token", "another"]).fails_at(&["RS-7"]);
    let zeros = "0".repeat(64);
    inspect(&[&given, "--cert", cert, "--exporter", &zeros]).fails_at(&["RS-6"]);

    // One character of the signature.
    let text = std::fs::read_to_string(&given[1..]).unwrap();
    let (head, signature) = text.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{flipped}{}", &signature[1..]);
    let forged = at(&fixture.dir.write("forged", forged));
    inspect(&[&forged, "--cert", cert]).fails_at(&["RS-5, PR-4"]);
}

#[test]
fn the_time_and_the_request_of_a_proof_are_checked() {
    let fixture = Fixture::new();
    let uri = "https://localhost/mcp".parse().unwrap();
    let request = RequestClaims::new(&Method::POST, &uri).unwrap();
    let write = |age, request| {
        at(&fixture
            .dir
            .write("proof", proof(&fixture, "t", age, request)))
    };
    let given = write(0, Some(request.clone()));
    let url = |url| ["--request", "POST", "--url", url];
    let check = |args: &[&str]| inspect(&[&[&given[..]], args].concat());
    check(&url("https://LOCALHOST:443/a/../mcp?q=1")).fails_at(&[]);
    check(&url("https://localhost/other")).fails_at(&["RS-9"]);
    check(&url("https://example.com/mcp")).fails_at(&["RS-9"]);
    check(&["--request", "GET", "--url", "https://localhost/mcp"]).fails_at(&["RS-9"]);
    assert_eq!(check(&[]).outcomes("RS-9"), ["unknown"; 3]);
    inspect(&[&write(400, Some(request))]).fails_at(&["RS-8"]);
    // A reusable one may be as old as its connection.
    assert_eq!(inspect(&[&write(400, None)]).outcomes("RS-8"), ["unknown"]);
    assert_eq!(inspect(&[&write(100, None)]).outcomes("RS-8"), ["ok"]);
}

#[test]
fn a_dpop_proof_is_checked_with_its_token_and_its_request() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    let token = jwt(&json!({ "cnf": { "jkt": key.thumbprint().to_string() } }));
    let hash = AccessToken::new(&*token).unwrap();
    let uri = "https://localhost/things".parse().unwrap();
    let claims = dpop::Claims {
        request: &RequestClaims::new(&Method::GET, &uri).unwrap(),
        issued_at: UnixTime::now(),
        token: Some(hash.hash()),
        nonce: None,
    };
    let proof = key.mint(&claims).unwrap();
    let given = at(&fixture.dir.write("dpop", proof.as_str()));
    let token = at(&fixture.dir.write("token", &token));
    let url = ["--request", "GET", "--url", "https://localhost/things"];
    let report = inspect(&[&[&*given, "--token", &token], &url[..]].concat());
    report.fails_at(&[]);
    assert_eq!(report.report["kind"], "dpop_proof");
    assert_eq!(report.member("jkt"), key.thumbprint().to_string());
    for id in ["DP-2", "DP-3", "DP-4", "DP-5", "DP-6", "DP-7", "DP-11"] {
        assert_eq!(report.outcomes(id), ["ok"], "{id}");
    }
    let other = jwt(&json!({ "cnf": { "jkt": fixture.agent.thumbprint().to_string() } }));
    let other = at(&fixture.dir.write("other", other));
    inspect(&[&given, "--token", &other]).fails_at(&["DP-12", "DP-12"]);
    let text = proof.as_str().replacen('.', ".e", 1);
    let broken = at(&fixture.dir.write("broken", text));
    assert_eq!(inspect(&[&broken]).ran.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_checked_with_its_keys_its_certificate_and_the_clock() {
    let fixture = Fixture::new();
    let authority = Authority::start(&fixture.pki, AuthorityOptions::default());
    let jwks = fixture.dir.write("jwks.json", authority.jwks().to_string());
    let request = TokenRequest::session_bound("agent", fixture.agent.thumbprint());
    let write = |token: &str| at(&fixture.dir.write("token", token));
    let cert = fixture.files.certificate.to_str().unwrap();
    let with = ["--cert", cert, "--jwks", jwks.to_str().unwrap()];
    let check = |token: &str| inspect(&[&[&write(token)[..]], &with[..]].concat());

    let report = check(&authority.issue(&request));
    report.fails_at(&[]);
    assert_eq!(report.report["kind"], "access_token");
    assert_eq!(report.member("class"), "session");
    let bound = fixture.agent.thumbprint().to_string();
    assert_eq!(report.member("cnf.x5t#S256"), bound);
    assert_eq!(report.member("iss"), authority.issuer());
    assert_eq!(report.outcomes("RS-3"), ["ok"]);
    assert_eq!(report.outcomes("RS-2"), ["ok"; 2]);

    check(&authority.issue(&request.clone().forged())).fails_at(&["RS-2"]);
    let report = check(&authority.issue(&request.clone().expired()));
    report.fails_at(&["RS-2"]);
    // Its signature is as good as before.
    assert_eq!(report.outcomes("RS-2"), ["failed", "ok"]);
    let other = fixture.pki.client("other", KeyKind::P256);
    check(&authority.issue(&TokenRequest::session_bound("agent", other.thumbprint())))
        .fails_at(&["RS-3"]);
    let bearer = inspect(&[&write(&authority.issue(&TokenRequest::bearer("agent")))]);
    bearer.fails_at(&[]);
    assert_eq!(bearer.member("class"), "bearer");
    let opaque = inspect(&[&write("mF_9.B5f-4.1JqM")]);
    opaque.fails_at(&[]);
    assert_eq!(opaque.outcomes("RS-2"), ["unknown"]);
    // With its field, as it stands in a request.
    let field = format!("Authorization: Bearer {}", authority.issue(&request));
    assert_eq!(inspect(&[&write(&field)]).report["kind"], "access_token");
}

#[test]
fn a_certificate_is_explained_and_checked_in_pem_and_in_der() {
    let fixture = Fixture::new();
    let der = at(&fixture.dir.write("agent.der", fixture.agent.certificate()));
    let pem = at(&fixture.files.certificate);
    let token = jwt(&json!({ "cnf": session_cnf(fixture.agent.thumbprint()) }));
    let token = at(&fixture.dir.write("token", token));
    for given in [&der, &pem] {
        let report = inspect(&[given, "--token", &token, "--cert", &der[1..]]);
        report.fails_at(&[]);
        assert_eq!(
            report.member("x5t#S256"),
            fixture.agent.thumbprint().to_string()
        );
        assert!(report.member("subject").contains("agent"));
        for id in ["RS-1", "PR-2", "RS-3", "PR-3"] {
            assert_eq!(report.outcomes(id), ["ok"], "{id}");
        }
    }
    for spec in [
        LeafSpec::client("old").expired(),
        LeafSpec::client("early").not_yet_valid(),
    ] {
        let leaf = fixture.pki.issue(&spec);
        let given = at(&fixture.dir.write("leaf.pem", leaf.chain_pem()));
        inspect(&[&given, "--token", &token]).fails_at(&["RS-1", "RS-3"]);
    }
    let server = at(&fixture
        .dir
        .write("server.pem", fixture.pki.localhost().chain_pem()));
    let report = inspect(&[&server]);
    assert!(
        report.ran.stdout.contains("DNS localhost"),
        "{}",
        report.ran.stdout
    );
    assert!(
        report.ran.stdout.contains("IP 127.0.0.1"),
        "{}",
        report.ran.stdout
    );
    let ca = inspect(&[&at(&fixture.ca)]);
    ca.fails_at(&[]);
    assert_eq!(ca.member("ca"), "true");
}

#[test]
fn challenges_are_explained_from_an_argument_and_from_standard_input() {
    use std::io::Write;
    let text = "WWW-Authenticate: Bearer error=\"use_session_binding\", \
                resource_metadata=\"https://localhost/.well-known/oauth-protected-resource\"\n\
                www-authenticate: DPoP algs=\"ES256\"\n";
    let report = inspect(&[text]);
    report.fails_at(&[]);
    assert_eq!(report.report["kind"], "challenge");
    assert_eq!(report.member("algs"), "ES256");
    assert_eq!(report.outcomes("CL-10"), ["ok"]);
    assert_eq!(inspect(&["Bearer"]).report["kind"], "challenge");
    // No secret: no warning.
    assert_eq!(report.ran.stderr, "");
    let mut command = bowline();
    command.arg("inspect").stdin(Stdio::piped());
    command.stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let ran = ran(child.wait_with_output().unwrap());
    assert!(
        ran.succeeded()
            .stdout
            .contains("session-binding proof is needed"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("challenge 2"), "{}", ran.stdout);
}

#[test]
fn secrets_on_the_command_line_are_warned_of() {
    let token = jwt(&json!({ "exp": 4_000_000_000_u64 }));
    for args in [
        vec!["inspect", &token],
        vec![
            "inspect",
            "Bearer error=\"invalid_token\"",
            "--token",
            &token,
        ],
        vec![
            "inspect",
            "Bearer x=\"y\"",
            "--exporter",
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
        ],
    ] {
        let ran = ran(bowline().args(&args).output().expect("the command runs"));
        assert!(
            ran.succeeded()
                .stderr
                .contains("a secret on the command line"),
            "{args:?}"
        );
    }
}

#[test]
fn wrong_usage_is_told_in_one_line() {
    let fixture = Fixture::new();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["@/nowhere"], 2, "/nowhere cannot be read"),
        (&["x", "--cert", "/nowhere"], 2, "/nowhere cannot be read"),
        (
            &["x", "--cert", fixture.files.key.to_str().unwrap()],
            2,
            "no certificate",
        ),
        (&["x", "--token", "a b"], 2, "b64token"),
        (&["x", "--exporter", "hush"], 2, "43 characters"),
        (&["x", "--exporter", &"z".repeat(64)], 2, "43 characters"),
        (&["x", "--jwks", fixture.ca.to_str().unwrap()], 0, ""),
        (
            &[
                "eyJhbGciOiJFUzI1NiJ9.e30.c2ln",
                "--jwks",
                fixture.ca.to_str().unwrap(),
            ],
            2,
            "no JWK set",
        ),
        (
            &["-", "--token", "-"],
            2,
            "--token: standard input is read for the input already",
        ),
        (&[], 1, "the input is empty"),
        (&["a b c"], 1, "the input is not"),
        (&["@/dev/zero"], 2, "more than 1 MiB"),
    ];
    for (args, code, expected) in cases {
        let ran = ran(bowline()
            .arg("inspect")
            .args(*args)
            .output()
            .expect("the command runs"));
        match code {
            0 => {
                ran.succeeded();
            }
            code => ran.failed(*code, &[expected]),
        }
        assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    }
}

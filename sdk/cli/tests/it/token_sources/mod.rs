//! Where the tokens of an egress come from, and where they go (GW-7, CL-10, AS-3): the command, real
//! origins, a real authorization server.

mod callers;
mod chain;
mod exchange;
mod figures;
mod hostile;
mod net;
mod reach;

use std::collections::BTreeSet;

use bowline_testkit::authority::{InjectedFault, TokenRequest};

use self::net::{Net, ask, claims, table};
use crate::agents::stderr;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_is_followed_and_the_agent_needs_no_token() {
    let net = Net::new("sources-file");
    let site = net.site();
    let path = net.write("token", "first\n");
    let egress = net
        .egress(&table(
            &site,
            &format!("source = \"file\", path = {path:?}"),
        ))
        .await;
    let url = format!("{}/x", site.origin());
    assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 200);
    net.replace("token", "second\n");
    // It is read once a second.
    let replaced = async {
        while site.tokens().last().map(String::as_str) != Some("second") {
            assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 200);
        }
    };
    let replaced = tokio::time::timeout(std::time::Duration::from_secs(30), replaced).await;
    assert!(replaced.is_ok());
    assert_eq!(site.tokens()[0], "first");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(
        ask(&egress, "GET", &url, &[]).await.status,
        200,
        "the last one stays in use"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorization_server_s_tokens_are_for_their_origin_and_bound_to_the_certificate() {
    let net = Net::new("sources-oauth");
    let [own, by_key] = [net.site(), net.site()];
    let at = net.at_authority();
    let tables = [
        table(
            &own,
            &format!("source = \"oauth\", {at}, scope = \"read\", bound = \"session\""),
        ),
        table(
            &by_key,
            &format!("source = \"oauth\", {at}, resource = \"https://named.example\""),
        ),
    ];
    let egress = net.egress(&tables.concat()).await;
    for site in [&own, &by_key] {
        for _ in 0..3 {
            let url = format!("{}/x", site.origin());
            assert_eq!(ask(&egress, "POST", &url, &[]).await.status, 200);
        }
        let tokens: BTreeSet<String> = site.tokens().into_iter().collect();
        assert_eq!(tokens.len(), 1, "one for all requests");
        let claims = claims(tokens.first().expect("one"));
        let thumbprint = net.agent.thumbprint().to_string();
        assert_eq!(claims["cnf"]["x5t#S256"], thumbprint);
    }
    assert_eq!(claims(&own.tokens()[0])["aud"], own.origin());
    assert_eq!(claims(&own.tokens()[0])["scope"], "read");
    assert_eq!(claims(&by_key.tokens()[0])["aud"], "https://named.example");
    // With a proof, which is made once.
    let proofs = own
        .arrived()
        .into_iter()
        .map(|arrived| arrived.headers["session-binding-proof"].clone());
    assert_eq!(
        proofs
            .collect::<Vec<_>>()
            .windows(2)
            .filter(|pair| pair[0] != pair[1])
            .count(),
        0
    );
    assert_eq!(net.authority.token_requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dpop_source_has_a_key_of_its_own() {
    let net = Net::new("sources-dpop");
    let [a, b] = [net.site(), net.site()];
    let token = format!("source = \"dpop\", {}", net.at_authority());
    let egress = net
        .egress(&[table(&a, &token), table(&b, &token)].concat())
        .await;
    let mut keys = BTreeSet::new();
    for site in [&a, &b] {
        let url = format!("{}/x", site.origin());
        assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 200);
        let arrived = &site.arrived()[0];
        let authorization = arrived.headers["authorization"].to_str().expect("ASCII");
        assert!(authorization.starts_with("DPoP "), "{authorization}");
        assert!(arrived.headers.contains_key("dpop"));
        keys.insert(claims(&site.tokens()[0])["cnf"]["jkt"].to_string());
    }
    assert_eq!(keys.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_is_rewritten_and_two_egresses_share_it() {
    let net = Net::new("sources-refresh");
    let site = net.site();
    let first = net.authority.issue_refresh_token("agent", "alice");
    let seed = net.write(
        "seed",
        &serde_json::json!({
            "client_id": "agent",
            "issuer": net.authority.issuer(),
            "refresh_token": first,
        })
        .to_string(),
    );
    let token = format!(
        "source = \"refresh\", seed = {seed:?}, {}",
        net.at_authority()
    );
    let table = table(&site, &token);
    let [one, other] = [net.egress(&table).await, net.egress(&table).await];
    let url = format!("{}/x", site.origin());
    for egress in [&one, &other, &one, &other] {
        assert_eq!(ask(egress, "GET", &url, &[]).await.status, 200);
    }
    assert_eq!(net.authority.refreshes(), 1);
    assert_eq!(claims(&site.tokens()[0])["sub"], "alice");
    let stored: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&seed).expect("the seed")).expect("JSON");
    let stored = stored["refresh_token"].as_str().expect("a text");
    assert!(net.authority.is_live_refresh_token(stored));
}

/// Agents that ask all the time, through two egresses with one seed, until so many tokens have come
/// to their end. `BOWLINE_REFRESHES` sets how many; `just nightly` waits for more.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the counts")]
async fn ten_agents_and_two_egresses_cost_one_refresh_for_each_token() {
    let refreshes: u64 = std::env::var("BOWLINE_REFRESHES").map_or(4, |text| text.parse().unwrap());
    let net = Net::new("sources-agents");
    net.authority
        .set_lifetime(std::time::Duration::from_secs(if refreshes > 4 {
            5
        } else {
            2
        }));
    let site = net.site();
    let seed = serde_json::json!({
        "client_id": "agent",
        "issuer": net.authority.issuer(),
        "refresh_token": net.authority.issue_refresh_token("agent", "alice"),
    });
    let seed = net.write("seed", &seed.to_string());
    let token = format!(
        "source = \"refresh\", seed = {seed:?}, {}",
        net.at_authority()
    );
    let tables = table(&site, &token);
    let egresses = [net.egress(&tables).await, net.egress(&tables).await];
    let url = format!("{}/x", site.origin());
    let agent = async |egress| {
        let mut requests = 0;
        while net.authority.refreshes() < refreshes {
            let answer = ask(egress, "GET", &url, &[]).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            requests += 1;
        }
        requests
    };
    let agents = (0..10).map(|number| agent(&egresses[number % 2]));
    let limit = std::time::Duration::from_secs(40 + 10 * refreshes);
    let requests = tokio::time::timeout(limit, futures_util::future::join_all(agents));
    let requests: u64 = requests.await.expect("hangs").into_iter().sum();
    let given: BTreeSet<String> = site.tokens().into_iter().collect();
    println!(
        "{requests} requests, {} tokens, {refreshes} refreshes",
        given.len()
    );
    // The last one may not have been used yet, and one more may be under way.
    let given = given.len() as u64;
    let granted = net.authority.refreshes();
    assert!(granted - given <= 1, "{given} of {granted} were used");
    assert_eq!(net.authority.token_requests(), granted, "none was refused");
    // Both live through one more.
    for egress in &egresses {
        assert_eq!(ask(egress, "GET", &url, &[]).await.status, 200);
    }
}

/// The two sources that need nothing else, for a command.
#[tokio::test(flavor = "multi_thread")]
async fn run_takes_a_token_source_as_an_option() {
    let net = Net::new("sources-run");
    let [a, b] = [net.site(), net.site()];
    let path = net.write("token", "from-a-file");
    let seed = serde_json::json!({
        "client_id": "agent",
        "issuer": net.authority.issuer(),
        "refresh_token": net.authority.issue_refresh_token("agent", "alice"),
    });
    let seed = net.write("seed", &seed.to_string());
    let mut run = net.bowline("run", "");
    run.args(["--allow", &a.origin(), "--allow", &b.origin()])
        .args(["--token-source", &format!("{}=file:{path}", a.origin())])
        .args(["--token-source", &format!("{}=refresh:{seed}", b.origin())]);
    let urls = [&a, &b].map(|site| format!("{}/x", site.origin()));
    let (agent, urls) = net::agent(&urls.each_ref().map(String::as_str));
    run.arg("--").arg(agent).args(net::AGENT).envs(urls);
    let output = run.output().await.expect("it runs");
    let told = stderr(&output);
    assert_eq!(net::answers(&output), ["200 served"; 2], "{told}");
    assert!(
        told.contains("with the tokens that it gives them"),
        "{told}"
    );
    for file in [&path, &seed] {
        assert!(told.contains(file), "{told}"); // the command can read it (R4)
    }
    assert_eq!(a.tokens(), ["from-a-file"]);
    assert_eq!(claims(&b.tokens()[0])["sub"], "alice");

    // With one allowed origin its name may be left out.
    let mut run = net.bowline("run", "");
    let source = format!("file:{path}");
    run.args(["--allow", &a.origin(), "--token-source", &source]);
    let (agent, urls) = net::agent(&[&format!("{}/y", a.origin())]);
    run.arg("--").arg(agent).args(net::AGENT).envs(urls);
    let output = run.output().await.expect("it runs");
    assert_eq!(net::answers(&output), ["200 served"], "{}", stderr(&output));
    assert_eq!(a.tokens(), ["from-a-file", "from-a-file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_origin_refuses_is_replaced_and_the_request_sent_once_more() {
    let net = Net::new("sources-refused");
    let site = net.site();
    let token = format!("source = \"oauth\", {}", net.at_authority());
    let egress = net.egress(&table(&site, &token)).await;
    let url = format!("{}/x", site.origin());
    assert_eq!(ask(&egress, "GET", &url, &[]).await.status, 200);
    let first = site.tokens()[0].clone();
    site.refuse(&first);
    let body = ["Content-Length: 5\r\n\r\nhello"];
    assert_eq!(ask(&egress, "POST", &url, &body).await.status, 200);
    let arrived = site.arrived();
    assert_eq!(arrived.len(), 3);
    assert_eq!((&*arrived[1].body, &*arrived[2].body), ("hello", "hello"));
    assert_ne!(arrived[2].tokens(), [first]);
    // Every token refused: one more attempt, and then the origin's own answer.
    let second = site.tokens()[2].clone();
    site.refuse(&second);
    let refused = ask(&egress, "POST", &url, &body).await;
    assert_eq!(refused.status, 401);
    assert_eq!(site.arrived().len(), 4, "one token a minute is replaced");
    assert_eq!(net.authority.token_requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_sent_and_the_answer_says_why() {
    let net = Net::new("sources-down");
    let [oauth, file] = [net.site(), net.site()];
    let tables = [
        table(
            &oauth,
            &format!("source = \"oauth\", {}", net.at_authority()),
        ),
        table(&file, "source = \"file\", path = \"/none\""),
    ];
    let egress = net.egress(&tables.concat()).await;
    net.authority
        .set_fault(InjectedFault::Unavailable { retry_after: 1 });
    for (site, status, said) in [
        (&oauth, 503, "is not available: the answer is 503"),
        (&file, 502, "/none cannot be read"),
    ] {
        let answer = ask(&egress, "GET", &format!("{}/x", site.origin()), &[]).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(answer.text.contains(said), "{}", answer.text);
        assert!(
            answer.text.contains("server: bowline-egress"),
            "{}",
            answer.text
        );
        assert_eq!(site.arrived().len(), 0);
    }
}

/// What a change does not concern keeps its tokens.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_replaces_the_sources_that_have_changed_and_no_other() {
    let net = Net::new("sources-reload");
    let [kept, changed] = [net.site(), net.site()];
    let [one, other] = ["one", "other"].map(|name| net.write(name, name));
    let tables = |path: &str| {
        [
            table(
                &kept,
                &format!("source = \"oauth\", {}", net.at_authority()),
            ),
            table(&changed, &format!("source = \"file\", path = {path:?}")),
        ]
        .concat()
    };
    let mut command = net.bowline("egress", &tables(&one));
    let config = net.config(&command);
    let egress = crate::agents::Service::on_port(command.env("BOWLINE_LOG_LEVEL", "info")).await;
    let ask_both = async || {
        for site in [&kept, &changed] {
            let answer = ask(&egress, "GET", &format!("{}/x", site.origin()), &[]).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    };
    ask_both().await;
    let text = std::fs::read_to_string(net.file(&config)).expect("the file");
    net.replace(&config, &text.replace(&one, &other));
    egress.logs(" INFO reloaded (a file has changed)", 1).await;
    ask_both().await;
    assert_eq!(changed.tokens(), ["one", "other"]);
    assert_eq!(net.authority.token_requests(), 1);
    assert_eq!(kept.tokens()[0], kept.tokens()[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_named_do_not_leave() {
    let net = Net::new("sources-only");
    let site = net.site();
    let path = net.write("token", "secret");
    let only = "requests = [\"POST /mcp\", \"POST /mcp/*\"]\n";
    let tables = table(&site, &format!("source = \"file\", path = {path:?}"));
    let egress = net.egress(&format!("{tables}{only}")).await;
    for (method, path, status) in [
        ("POST", "/mcp", 200),
        ("POST", "/mcp/x", 200),
        ("GET", "/mcp", 403),
        ("POST", "/admin", 403),
        ("POST", "/mcp/../admin", 403),
        ("POST", "/mcp/%2e%2e/admin", 403),
    ] {
        let answer = ask(&egress, method, &format!("{}{path}", site.origin()), &[]).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    let uri = format!("{}/mcp", site.origin());
    let answer = ask(&egress, "POST", &uri, &["X-HTTP-Method-Override: DELETE"]).await;
    assert_eq!(answer.status, 403, "{}", answer.text);
    assert_eq!(site.arrived().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_configured_is_said_at_the_start() {
    let net = Net::new("sources-wrong");
    let site = net.site();
    for (token, said) in [
        (
            "source = \"vault\"",
            "`source` is one of caller, file, oauth, refresh, dpop, exchange",
        ),
        ("path = \"x\"", "`source` is missing"),
        ("source = \"file\"", "`path` is missing"),
        (
            "source = \"file\", path = \"x\", scope = \"y\"",
            "unknown key `scope`",
        ),
        (
            "source = \"caller\", placeholder = \"x\"",
            "unknown key `placeholder`",
        ),
        (
            "source = \"oauth\", client-id = \"a\"",
            "which authorization server?",
        ),
        (
            "source = \"oauth\", issuer = \"https://a.example\"",
            "`client-id` is missing",
        ),
        (
            "source = \"oauth\", issuer = \"https://a.example\", issuers = [\"https://b.example\"], client-id = \"a\"",
            "which authorization server?",
        ),
        (
            "source = \"oauth\", issuer = \"https://a.example\", client-id = \"a\", auth = \"client_secret_basic\"",
            "there is none with a client secret",
        ),
        (
            "source = \"oauth\", issuer = \"https://a.example\", client-id = \"a\", auth = \"private-key-jwt\", auth-key = \"/none\"",
            "/none cannot be read",
        ),
        (
            "source = \"refresh\", issuer = \"https://a.example\", client-id = \"a\"",
            "`seed` is missing",
        ),
        (
            "source = \"exchange\", issuer = \"https://a.example\", client-id = \"a\"",
            "`receipt-key` is missing",
        ),
        (
            "source = \"exchange\", issuer = \"https://a.example\", client-id = \"a\", receipt-key = \"short\"",
            "needs 32",
        ),
        (
            "source = \"exchange\", issuer = \"https://a.example\", client-id = \"a\", receipt-key = \"@/none\", exchange-unverified = true",
            "contradict",
        ),
        (
            "source = \"file\", path = \"x\", redirects-from = [\"b.example\"]",
            "`redirects-from`",
        ),
    ] {
        let mut command = net.bowline("egress", &table(&site, token));
        let output = command
            .args(["--listen", "127.0.0.1:0"])
            .output()
            .await
            .expect("it runs");
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{token}: {told}");
        assert!(told.contains(said), "{token}: {told}");
        assert!(told.contains(&site.origin()), "{token}: {told}");
    }
}

/// Of a token that only its holder may have, nothing is logged, at any level.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_logged() {
    let net = Net::new("sources-log");
    let [file, oauth] = [net.site(), net.site()];
    let token = net.authority.issue(&TokenRequest::bearer("agent"));
    let path = net.write("token", &token);
    let tables = [
        table(&file, &format!("source = \"file\", path = {path:?}")),
        table(
            &oauth,
            &format!("source = \"oauth\", {}", net.at_authority()),
        ),
    ];
    let mut command = net.bowline("egress", &tables.concat());
    let egress = crate::agents::Service::on_port(command.args(["--log-level", "trace"])).await;
    for site in [&file, &oauth] {
        ask(&egress, "GET", &format!("{}/x", site.origin()), &[]).await;
        ask(
            &egress,
            "GET",
            &format!("{}/x", site.origin()),
            &["Authorization: Bearer brought"],
        )
        .await;
    }
    let log = egress.end().await;
    for token in file.tokens().iter().chain(&oauth.tokens()) {
        let signature = token.rsplit('.').next().expect("a part");
        assert!(!log.contains(signature), "{log}");
    }
    assert!(!log.contains("brought"), "{log}");
    assert!(log.len() > 10_000, "it is at trace: {log}");
}

//! What is counted of each origin's token source, and of what was refused there.

use serde_json::{Value, json};

use super::exchange::{KEY, addressed_to_the_agent, receipt};
use super::net::{Net, Site, ask, claims, table};
use crate::agents::Service;
use crate::ops::admin::Admin;

/// A metric by its name without what all have, the origin, and the other labels.
async fn figure(admin: &Admin, name: &str, site: &Site, more: &[(&str, &str)]) -> Option<Value> {
    let stats = admin.stats().await;
    let mut labels = json!({ "origin": site.authority() });
    for (name, value) in more {
        labels[name] = json!(value);
    }
    let samples = stats["metrics"][format!("bowline_egress_{name}")].clone();
    let samples = samples.as_array().cloned().unwrap_or_default();
    let mut found = samples
        .into_iter()
        .filter(|sample| sample["labels"] == labels);
    let value = found.next().map(|sample| sample["value"].clone());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

async fn status(egress: &Service, site: &Site, fields: &[&str]) -> u16 {
    let url = format!("{}/x", site.origin());
    ask(egress, "GET", &url, fields).await.status
}

const OBTAINED_AT: &str = "token_obtained_timestamp_seconds";
const EXPIRES_AT: &str = "token_expires_timestamp_seconds";

#[tokio::test(flavor = "multi_thread")]
async fn each_origin_s_source_is_counted_with_what_it_gave_and_why_it_did_not() {
    let net = Net::new("figures-sources");
    let [oauth, file, missing, unknown] = [net.site(), net.site(), net.site(), net.site()];
    let token = net.write("token", "of-the-file");
    let source = |file: &str| format!("source = \"file\", path = {file:?}");
    let stranger = net.at_authority().replace("\"agent\"", "\"stranger\"");
    let tables = [
        table(
            &oauth,
            &format!("source = \"oauth\", {}", net.at_authority()),
        ),
        table(&file, &source(&token)),
        table(&missing, &source("/nowhere/token")),
        table(&unknown, &format!("source = \"oauth\", {stranger}")),
    ];
    let admin = Admin {
        path: net.file("admin.sock"),
    };
    let mut command = net.bowline("egress", &tables.concat());
    let egress = Service::on_port(command.args(["--admin", &admin.option()])).await;
    let of = |name, site, more: &'static [(&str, &str)]| figure(&admin, name, site, more);

    // Before the first token there is nothing to say of it.
    assert_eq!(of("tokens_given_total", &oauth, &[]).await, Some(json!(0)));
    assert_eq!(of(EXPIRES_AT, &oauth, &[]).await, None);
    for _ in 0..3 {
        assert_eq!(status(&egress, &oauth, &[]).await, 200);
    }
    let obtained = &[("reason", "missing"), ("outcome", "obtained")];
    let requests = "token_requests_total";
    assert_eq!(of("tokens_given_total", &oauth, &[]).await, Some(json!(3)));
    assert_eq!(of(requests, &oauth, obtained).await, Some(json!(1)));
    let first = oauth.tokens()[0].clone();
    let exp = claims(&first)["exp"].clone();
    assert_eq!(of(EXPIRES_AT, &oauth, &[]).await, Some(exp.clone()));
    let obtained_at = of(OBTAINED_AT, &oauth, &[]).await.expect("a gauge");
    assert!(
        obtained_at.as_u64() > Some(0) && obtained_at.as_u64() < exp.as_u64(),
        "{obtained_at}"
    );
    // The origin refuses it: another one is requested, and the request is sent again with that.
    oauth.refuse(&first);
    assert_eq!(status(&egress, &oauth, &[]).await, 200);
    let again = &[("reason", "refused"), ("outcome", "obtained")];
    assert_eq!(of(requests, &oauth, again).await, Some(json!(1)));
    assert_eq!(
        of("tokens_refused_total", &oauth, &[]).await,
        Some(json!(1))
    );
    assert_eq!(of("tokens_given_total", &oauth, &[]).await, Some(json!(5)));

    assert_eq!(status(&egress, &file, &[]).await, 200);
    assert_eq!(of("tokens_given_total", &file, &[]).await, Some(json!(1)));
    assert_eq!(of(requests, &file, obtained).await, Some(json!(1)));
    assert_eq!(
        of(EXPIRES_AT, &file, &[]).await,
        Some(Value::Null),
        "not known"
    );

    for (site, kind) in [(&missing, "file"), (&unknown, "invalid_client")] {
        assert_eq!(status(&egress, site, &[]).await, 502);
        let failed = [("reason", "missing"), ("outcome", kind)];
        assert_eq!(
            figure(&admin, requests, site, &failed).await,
            Some(json!(1))
        );
        assert_eq!(
            figure(&admin, "tokens_missing_total", site, &[("kind", kind)]).await,
            Some(json!(1))
        );
        assert_eq!(of("tokens_given_total", site, &[]).await, Some(json!(0)));
        assert_eq!(
            of("refused_total", site, &[("reason", "token_source")]).await,
            Some(json!(1))
        );
        assert_eq!(of(EXPIRES_AT, site, &[]).await, None);
    }

    let (_, metrics) = admin.get("/metrics").await;
    for token in oauth.tokens().iter().chain(&file.tokens()) {
        assert!(!metrics.contains(token.as_str()), "{metrics}");
    }
    egress.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_is_counted_with_its_origin_and_its_reason() {
    let net = Net::new("figures-refused");
    let [file, exchange, others] = [net.site(), net.site(), net.site()];
    let token = net.write("token", "of-the-file");
    let key = net.write("receipt.key", KEY);
    let exchanged = format!(
        "source = \"exchange\", actor = true, receipt-key = \"@{key}\", {}",
        net.at_authority()
    );
    let own = rustix::process::geteuid().as_raw();
    let [ours, theirs] = [own, own + 1].map(|uid| format!("\"uid:{uid}\""));
    let tables = [
        format!("callers = [{ours}, {theirs}]\n"),
        table(&file, &format!("source = \"file\", path = {token:?}")),
        table(&exchange, &exchanged),
        table(&others, "") + &format!("callers = [{theirs}]\n"),
    ];
    let admin = Admin {
        path: net.file("admin.sock"),
    };
    let mut command = net.bowline("egress", &tables.concat());
    let egress = Service::on_port(command.args(["--admin", &admin.option()])).await;
    let token = addressed_to_the_agent(&net);
    let subject = format!("Authorization: Bearer {token}");
    for (site, fields, reason) in [
        (
            &file,
            &["Origin: https://evil.example"][..],
            "foreign_origin",
        ),
        (&file, &["Sec-Fetch-Site: cross-site"], "browser"),
        (&file, &["Authorization: Bearer x"], "caller_token"),
        (&file, &["Session-Binding-Proof: x"], "reserved_field"),
        (&exchange, &[], "no_subject"),
        (&exchange, &[&*subject], "receipt"),
        (&others, &[], "callers"),
    ] {
        assert!(status(&egress, site, fields).await >= 400, "{reason}");
        assert_eq!(
            figure(&admin, "refused_total", site, &[("reason", reason)]).await,
            Some(json!(1)),
            "{reason}"
        );
    }
    let stats = admin.stats().await;
    let [ours, theirs] = [own, own + 1].map(|uid| format!("uid:{uid}"));
    assert_eq!(stats["callers"], json!([ours, theirs]));
    assert_eq!(stats["origins"][0]["callers"], Value::Null);
    assert_eq!(stats["origins"][2]["callers"], json!([theirs]));
    for site in [&file, &exchange] {
        assert_eq!(
            figure(&admin, "tokens_given_total", site, &[]).await,
            Some(json!(0))
        );
    }
    assert_eq!(
        figure(&admin, "tokens_given_total", &others, &[]).await,
        None,
        "no source"
    );
    // An exchange counts as a source does, without the tokens that its actor shows. Of its many tokens
    // no one is the one in use.
    let receipt = receipt(KEY, &token, 60);
    let receipt = format!("Session-Binding-Receipt: {receipt}");
    for _ in 0..2 {
        assert_eq!(status(&egress, &exchange, &[&subject, &receipt]).await, 200);
    }
    let obtained = [("reason", "missing"), ("outcome", "obtained")];
    for (name, more, value) in [
        ("tokens_given_total", &[][..], Some(json!(2))),
        ("token_requests_total", &obtained, Some(json!(1))),
        (OBTAINED_AT, &[], None),
        (EXPIRES_AT, &[], None),
    ] {
        let counted = figure(&admin, name, &exchange, more).await;
        assert_eq!(counted, value, "{name}");
    }
    assert!(net.authority.token_requests() > 1, "the actor's own");
    egress.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reload_a_token_that_is_not_in_use_any_more_has_no_times() {
    let net = Net::new("figures-reload");
    let [kept, dropped] = [net.site(), net.site()];
    let [one, other] = ["one", "other"].map(|name| net.write(name, name));
    let source =
        |site: &Site, path: &str| table(site, &format!("source = \"file\", path = {path:?}"));
    let before = [source(&kept, &one), source(&dropped, &other)].concat();
    let mut command = net.bowline("egress", &before);
    let config = net.config(&command);
    let admin = Admin {
        path: net.file("admin.sock"),
    };
    let command = command.args(["--admin", &admin.option(), "--log-level", "info"]);
    let egress = Service::on_port(command).await;
    for site in [&kept, &dropped] {
        assert_eq!(status(&egress, site, &[]).await, 200);
        let at = figure(&admin, OBTAINED_AT, site, &[]).await;
        assert!(at.is_some_and(|at| at.as_u64() > Some(0)));
    }
    let text = std::fs::read_to_string(net.file(&config)).expect("the file");
    // What cannot be used takes nothing away.
    let third = net.site();
    let receipt_key = "source = \"exchange\", receipt-key = \"@/nowhere/key\"";
    let wrong = table(&third, &format!("{receipt_key}, {}", net.at_authority()));
    net.replace(&config, &(text.replace(&one, &other) + &wrong));
    egress.logs("not reloaded (a file has changed)", 1).await;
    for site in [&kept, &dropped] {
        let at = figure(&admin, OBTAINED_AT, site, &[]).await;
        assert!(at.is_some_and(|at| at.is_u64()));
    }
    net.replace(&config, &text.replace(&source(&dropped, &other), ""));
    egress.logs(" INFO reloaded (a file has changed)", 1).await;
    let at = figure(&admin, OBTAINED_AT, &dropped, &[]).await;
    assert_eq!(at, Some(Value::Null));
    let at = figure(&admin, OBTAINED_AT, &kept, &[]).await;
    assert!(at.is_some_and(|at| at.is_u64()), "its source is the same");
    egress.end().await;
}

//! What hostile parties get of an origin whose token the egress has: the table in
//! `docs/src/token-sources.md`.

use super::net::{Net, Site, ask, run_agent, table};
use crate::agents::Service;

struct Scene {
    _net: Net,
    /// With the token.
    target: Site,
    hostile: Site,
    egress: Service,
}

impl Scene {
    async fn new(name: &str, more: &str) -> Self {
        let net = Net::new(name);
        let [target, hostile] = [net.site(), net.site()];
        let path = net.write("token", "the-token");
        let more = more.replace("HOSTILE", &hostile.origin());
        let source = format!("source = \"file\", path = {path:?}{more}");
        let tables = [table(&target, &source), table(&hostile, "")];
        let egress = net.egress(&tables.concat()).await;
        Self {
            _net: net,
            target,
            hostile,
            egress,
        }
    }

    async fn redirects_to(&self, location: &str) -> u16 {
        let location = format!("X-Location: {location}");
        let url = format!("{}/x", self.hostile.origin());
        ask(&self.egress, "GET", &url, &[&location]).await.status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_origin_cannot_redirect_to_one_with_a_source() {
    let scene = Scene::new("hostile-redirect", "").await;
    let target = scene.target.authority();
    let port = target.split(':').nth(1).expect("a port");
    let hostile = scene.hostile.authority();
    for location in [
        format!("https://{target}/x"),
        format!("http://{target}/x"),
        format!("//{target}/x"),
        format!("HTTPS://LOCALHOST:{port}/x"),
        format!("https://localhost.:{port}/x"),
        format!("https://user@{target}/x"),
        format!("https:\\\\{target}\\x"),
        format!("https://{hostile}\\@{target}/x"),
        format!("https://{target}\\@{hostile}/x"),
    ] {
        assert_eq!(scene.redirects_to(&location).await, 502, "{location}");
    }
    for location in [
        "/elsewhere".to_owned(),
        format!("https://{hostile}/y"),
        format!("https://elsewhere.example/?next=https://{target}/"),
    ] {
        assert_eq!(scene.redirects_to(&location).await, 307, "{location}");
    }
    assert_eq!(scene.target.arrived().len(), 0);
    // Its own redirects are its own affair.
    let to_itself = format!("https://{target}/y?a=%2F");
    let location = format!("X-Location: {to_itself}");
    let url = format!("{}/x", scene.target.origin());
    let answer = ask(&scene.egress, "GET", &url, &[&location]).await;
    assert_eq!(answer.status, 307);
    // As it came, for the agent to follow.
    let field = format!("location: {to_itself}\r\n");
    assert!(answer.text.contains(&field), "{}", answer.text);
    // And to an origin without a source anybody may redirect.
    let location = format!("X-Location: https://{hostile}/y");
    assert_eq!(
        ask(&scene.egress, "GET", &url, &[&location]).await.status,
        307
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_passed_on_where_configuration_links_the_two() {
    let scene = Scene::new("hostile-linked", ", redirects-from = [\"HOSTILE\"]").await;
    let location = format!("{}/x", scene.target.origin());
    assert_eq!(scene.redirects_to(&location).await, 307);
}

/// An agent that follows redirects by itself, as most do.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_follows_redirects_is_not_led_to_the_token() {
    let scene = Scene::new("hostile-agent", "").await;
    let [location, url] =
        [&scene.target, &scene.hostile].map(|site| format!("http://{}/x", site.authority()));
    let led = run_agent(&scene.egress, &url, &location).await;
    assert_eq!(led.len(), 1);
    assert!(led[0].starts_with("502 "), "{led:?}");
    assert_eq!(scene.target.arrived().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_s_page_gets_no_token() {
    let scene = Scene::new("hostile-page", "").await;
    let own = format!("Origin: {}", scene.target.origin());
    let referer = format!("Referer: {}/y", scene.target.origin());
    let of_hostile = format!("Origin: {}", scene.hostile.origin());
    for (fields, status) in [
        (&["Origin: https://evil.example"][..], 403),
        (&["Origin: null"], 403),
        (&[&*of_hostile], 403),
        (&["Referer: https://evil.example/"], 403),
        (&["Sec-Fetch-Site: none"], 403),
        (&["Sec-Fetch-Site: same-origin", &*own], 403),
        // A field that would take the others out is read before it does.
        (&["Origin: https://evil.example", "Connection: Origin"], 403),
        (&["Cookie: a=b"], 200),
        (&[&*own, &*referer], 200),
    ] {
        let url = format!("{}/x", scene.target.origin());
        let answer = ask(&scene.egress, "POST", &url, fields).await;
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.text);
    }
    assert_eq!(scene.target.arrived().len(), 2);
    // An origin without a source neither: the certificate is as good as a token (`agents::pages`).
    let url = format!("{}/x", scene.hostile.origin());
    let evil = ["Origin: https://evil.example"];
    assert_eq!(ask(&scene.egress, "POST", &url, &evil).await.status, 403);
    let referer = ["Referer: https://elsewhere.example/"];
    assert_eq!(ask(&scene.egress, "POST", &url, &referer).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_s_own_credentials_are_refused_but_for_the_placeholder() {
    let scene = Scene::new("hostile-caller", ", placeholder = \"unused\"").await;
    for (field, status) in [
        ("Authorization: Bearer stolen", 403),
        ("Authorization: Basic dXNlcjpwYXNz", 403),
        ("DPoP: x", 403),
        ("Session-Binding-Proof: x", 400),
        ("Session-Binding-Receipt: x", 400),
        ("Authorization: Bearer unused", 200),
    ] {
        let url = format!("{}/x", scene.target.origin());
        let answer = ask(&scene.egress, "GET", &url, &[field]).await;
        assert_eq!(answer.status, status, "{field}: {}", answer.text);
    }
    assert_eq!(scene.target.tokens(), ["the-token"]);
}

/// What nothing refuses: the agent's own request, for whatever reason it is made (R3).
#[tokio::test(flavor = "multi_thread")]
async fn a_url_from_a_prompt_and_a_tool_of_the_agent_use_the_token_and_do_not_get_it() {
    let scene = Scene::new("hostile-prompt", "").await;
    let url = format!("{}/delete-everything", scene.target.origin());
    let answer = ask(&scene.egress, "POST", &url, &[]).await;
    assert_eq!(answer.status, 200, "R3");
    assert!(!answer.text.contains("the-token"), "{}", answer.text);
    let url = format!("http://{}/x", scene.target.authority());
    assert_eq!(
        run_agent(&scene.egress, &url, "").await,
        ["200 served"],
        "R3"
    );
    assert_eq!(scene.target.tokens(), ["the-token", "the-token"]);
    // Nor can the egress be had to send it elsewhere.
    let answer = ask(&scene.egress, "GET", "https://elsewhere.example/x", &[]).await;
    assert_eq!(answer.status, 403);
}

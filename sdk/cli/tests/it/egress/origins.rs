//! Settings of single origins, from the command line and from a file.

use axum::Router;
use axum::routing::any;

use crate::agents::{Service, World, authority, request, stderr};

/// The `[[origin]]` table of a world's origin, with its own certificate.
fn table(world: &World, more: &str) -> String {
    format!(
        "[[origin]]\nurl = {:?}\ncert = {:?}\nkey = {:?}\ncacert = {:?}\n{more}\n",
        world.server.origin(),
        world.file("agent.pem"),
        world.file("agent-key.pem"),
        world.file("ca.pem"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_origin_has_its_own_certificate_scope_and_patterns() {
    let [plain, strict, chosen] = ["plain", "strict", "chosen"].map(World::new);
    let config = [
        table(&plain, "token = { source = \"caller\" }"),
        table(&strict, "proof-scope = \"request\""),
        table(
            &chosen,
            "request-bound = [\"DELETE *\", \"!DELETE /a\", \"/admin/*\"]",
        ),
    ];
    let file = plain.file("egress.toml");
    std::fs::write(&file, config.concat()).expect("the file");
    let service = Service::on_port(plain.bare("egress").arg("--config").arg(&file)).await;
    let send = async |world: &World, method: &str, path: &str| {
        let host = authority(&world.server.origin());
        let request = request(
            method,
            &format!("http://{host}{path}"),
            &host,
            &world.token(),
        );
        let answer = service.say(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    for _ in 0..5 {
        for world in [&plain, &strict, &chosen] {
            send(world, "GET", "/x").await;
        }
    }
    assert_eq!(plain.seen.proofs(), (1, 5));
    assert_eq!(strict.seen.proofs(), (5, 5));
    assert_eq!(chosen.seen.proofs(), (1, 5));
    // However the path is written: what the server makes of it is not known here.
    for (method, path, is_chosen) in [
        ("DELETE", "/x", true),
        ("DELETE", "/a", false),
        ("GET", "/admin/users", true),
        ("GET", "//admin/users", true),
        ("GET", "/x/../admin/users", true),
        ("GET", "/%61dmin/users", true),
        ("GET", "/admins", false),
    ] {
        let (before, _) = chosen.seen.proofs();
        send(&chosen, method, path).await;
        let new = chosen.seen.proofs().0 - before;
        assert_eq!(new, usize::from(is_chosen), "{method} {path}");
    }
    let told = service.end().await;
    assert!(
        told.contains("22 requests; 3 connections out, 12 signatures"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_options_are_for_all_origins_that_say_nothing_else() {
    let world = World::new("origins-defaults");
    let other = World::new("origins-other");
    let file = world.file("egress.toml");
    let lax = format!("{}\n", table(&other, "proof-scope = \"connection\""));
    std::fs::write(&file, lax).expect("the file");
    let mut command = world.egress(&["--proof-scope", "request", "--config"]);
    let service = Service::on_port(command.arg(&file)).await;
    for world in [&world, &other] {
        let host = authority(&world.server.origin());
        for _ in 0..3 {
            let request = request("GET", &format!("http://{host}/"), &host, &world.token());
            let answer = service.say(&request).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    assert_eq!(world.seen.proofs(), (3, 3));
    assert_eq!(other.seen.proofs(), (1, 3));
    service.end().await;
}

/// CL-8: a token goes out with the certificate that it is bound to, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_one_origin_cannot_be_used_with_the_certificate_of_another() {
    let [here, there] = ["origins-here", "origins-there"].map(World::new);
    let file = here.file("egress.toml");
    std::fs::write(&file, table(&here, "") + &table(&there, "")).expect("the file");
    let service = Service::on_port(here.bare("egress").arg("--config").arg(&file)).await;
    let host = authority(&there.server.origin());
    let request = request("GET", &format!("http://{host}/"), &host, &here.token());
    let answer = service.say(&request).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(there.server.counts().requests, 0);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_7_only_the_requests_that_may_pass_do_however_their_path_is_read() {
    let world = World::new("origins-requests");
    let file = world.file("egress.toml");
    let requests = "requests = [\"/mcp/*\", \"GET /health\", \"!/mcp/admin/*\"]";
    std::fs::write(&file, table(&world, requests)).expect("the file");
    let service = Service::on_port(world.bare("egress").arg("--config").arg(&file)).await;
    let host = authority(&world.server.origin());
    let mut passed = 0;
    for (method, path, passes) in [
        ("POST", "/mcp", true),
        ("POST", "/mcp/tools?x=/../y", true),
        ("GET", "/health", true),
        ("HEAD", "/health", true),
        ("POST", "/health", false),
        ("GET", "/", false),
        ("GET", "/mcpx", false),
        ("GET", "/mcp/../other", false),
        ("GET", "/mcp/%2e%2e/other", false),
        ("GET", "/mcp/..%2fother", false),
        ("GET", "/mcp//x", false),
        ("GET", "/mcp/;/x", false),
        ("GET", "/mcp/admin/users", false),
        ("GET", "/mcp/%61dmin/users", false),
        ("OPTIONS", "/other", false),
    ] {
        let target = format!("http://{host}{path}");
        let answer = service
            .say(&request(method, &target, &host, &world.token()))
            .await;
        let status = if passes { "200" } else { "403" };
        assert_eq!(&answer[9..12], status, "{method} {path}: {answer}");
        passed += u64::from(passes);
    }
    assert_eq!(world.server.counts().requests, passed);
    service.end().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let world = World::new("origins-wrong");
    let good = table(&world, "");
    for (config, parts) in [
        (
            table(&world, "prof-scope = \"request\""),
            &[
                "[[origin]] number 1",
                "unknown key `prof-scope`",
                "`proof-scope`",
            ][..],
        ),
        (
            "[[orgin]]\nurl = \"https://a.example\"\n".to_owned(),
            &["unknown key `orgin`; did you mean `origin`?"],
        ),
        (
            table(&world, "token = { sauce = \"caller\" }"),
            &["`token`: unknown key `sauce`; did you mean `source`?"],
        ),
        (
            table(&world, "token = { source = \"elsewhere\" }"),
            &["`token`: `source` is one of caller, file"],
        ),
        (
            table(&world, "token = \"caller\""),
            &["`token` takes a table"],
        ),
        (
            table(&world, "request-bound = [\"admin\"]"),
            &["`request-bound`: `admin`", "a pattern is a path"],
        ),
        (
            table(&world, "request-bound = \"!/a\""),
            &["request-bound only takes out"],
        ),
        (
            table(&world, "proof-scope = \"all\""),
            &["`proof-scope` is connection, request or adaptive"],
        ),
        (
            "[[origin]]\nurl = \"https://a.example\"\ncert = \"a.pem\"\n".to_owned(),
            &["https://a.example: `cert` and `key` go together"],
        ),
        (
            "[[origin]]\nurl = \"https://a.example\"\n".to_owned(),
            &["--cert is missing: https://a.example needs"],
        ),
        (
            "[[origin]]\ncert = \"a.pem\"\n".to_owned(),
            &["number 1: `url` is missing"],
        ),
        (format!("{good}{good}"), &["it is there twice"]),
        (
            "origin = \"https://a.example\"\n".to_owned(),
            &["begin each with [[origin]]"],
        ),
        (
            String::new(),
            &["no origin is allowed: name one with --allow"],
        ),
        (
            "[[origin]]\nurl = \"https://a.example\"\ncert = \"/no.pem\"\nkey = \"/no.key\"\n"
                .to_owned(),
            &["/no.pem"],
        ),
    ] {
        let file = world.file("egress.toml");
        std::fs::write(&file, &config).expect("the file");
        let mut command = world.bare("egress");
        command
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(&file);
        let output = command.output().await.expect("the command runs");
        assert_eq!(output.status.code(), Some(2), "{config}: {output:?}");
        let told = stderr(&output);
        for part in parts {
            assert!(told.contains(part), "{config}: {told}");
        }
    }
}

#[tokio::test]
async fn a_key_that_everybody_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new("origins-open-key");
    let mode = PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(world.file("agent-key.pem"), mode).expect("its mode");
    let mut command = world.egress(&["--listen", "127.0.0.1:0"]);
    let output = command.output().await.expect("the command runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("chmod 600"), "{output:?}");
}

/// Two origins with one certificate share a client; the tables come from a variable as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_can_stand_in_a_variable() {
    let world = World::new("origins-variable");
    let routes = Router::new().route("/only-here", any(async || "here"));
    let other = World::with_routes("origins-variable-other", routes);
    let table = format!(
        "{{ url = {:?}, cert = {:?}, key = {:?}, cacert = {:?} }}",
        other.server.origin(),
        other.file("agent.pem"),
        other.file("agent-key.pem"),
        other.file("ca.pem"),
    );
    let mut command = world.egress(&[]);
    let service = Service::on_port(command.env("BOWLINE_ORIGIN", table)).await;
    let host = authority(&other.server.origin());
    let request = request(
        "GET",
        &format!("http://{host}/only-here"),
        &host,
        &other.token(),
    );
    let answer = service.say(&request).await;
    assert!(answer.ends_with("here"), "{answer}");
    service.end().await;
}

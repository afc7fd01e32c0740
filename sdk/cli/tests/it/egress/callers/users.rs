//! Users and web pages at a listener that ends TLS: `--callers` and `callers` of an origin (GW-5, GW-7).

use super::{RELOADED, Scene, status};
use crate::agents::{Service, request, stderr};
use crate::support::replace_file;

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A user that runs nothing here.
fn other() -> u32 {
    own() + 1
}

/// The origin's table, for this user alone.
fn only(scene: &Scene, uid: u32) -> String {
    format!(
        "[[origin]]\nurl = {:?}\ncallers = [\"uid:{uid}\"]\n",
        scene.origin
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_7_beyond_loopback_no_user_is_known_so_an_origin_for_users_is_for_nobody() {
    let scene = Scene::new("users-unknown");
    let file = scene.world.file("egress.toml");
    // Neither the egress's own user nor one that could not use it on loopback.
    for (served, uid) in [own(), other()].into_iter().enumerate() {
        replace_file(&file, only(&scene, uid));
        let intercept = scene.intercept();
        let options = ["--upstream", &scene.origin, "--intercept", &intercept];
        let mut command = scene.command(&options);
        let service = scene
            .start_command(command.arg("--config").arg(&file))
            .await;
        let log = service.log();
        for told in [
            ", for callers with a certificate of --listen-client-ca: each of them",
            "`callers` names users, and beyond loopback no caller's user is known",
        ] {
            assert!(log.contains(told), "{log}");
        }
        let (host, token) = (&*scene.host, scene.world.token());
        for target in ["/x", &format!("http://{host}/x")] {
            let request = request("GET", target, host, &token);
            let answer = scene.say(&service, Some(&scene.caller), &request).await;
            let answer = answer.expect("an answer");
            assert_eq!(status(&answer), "403", "{target}: {answer}");
            let said = format!(
                "{}: requests of certain users alone go there (`callers`), and the kernel does not \
                 say whose this one is",
                scene.origin
            );
            assert!(answer.contains(&said), "{answer}");
        }
        let mut inside = scene.inside(&service, &scene.caller).await;
        assert_eq!(status(&scene.ask(&mut inside, "/x").await), "403");
        service.logs("check=callers", 3).await;
        assert_eq!(scene.world.seen.tokens().len(), served);
        // It is for all callers now.
        replace_file(&file, "");
        service.logs(RELOADED, 1).await;
        let mut inside = scene.inside(&service, &scene.caller).await;
        assert_eq!(status(&scene.ask(&mut inside, "/x").await), "200");
        service.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_cannot_be_named_beyond_loopback() {
    let scene = Scene::new("users-beyond");
    let named = format!("uid:{}", own());
    for listen in ["0.0.0.0:0", "[::]:0"] {
        for check in [true, false] {
            let mut command = scene.command(&["--listen", listen, "--callers", &named]);
            let output = command.args(check.then_some("--check")).output();
            // Only ends a test that hangs.
            let patience = std::time::Duration::from_secs(60);
            let output = tokio::time::timeout(patience, output).await;
            let output = output.expect("it serves").expect("it runs");
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{text}");
            let said = format!("--callers with --listen {listen}: beyond loopback the kernel does");
            assert!(text.contains(&said), "{text}");
            assert!(text.contains("with --listen-client"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_the_users_that_are_named_need_a_certificate_too() {
    let scene = Scene::new("users-loopback");
    let [ours, theirs] = [own(), other()].map(|uid| format!("uid:{uid}"));
    let file = scene.world.file("egress.toml");
    let start = async |users: &[&str]| {
        let mut command = scene.command(&["--upstream", &scene.origin]);
        for user in users {
            command.args(["--callers", user]);
        }
        Service::on_port(command.arg("--config").arg(&file)).await
    };
    let ask = async |service: &Service, leaf| {
        let request = request("GET", "/x", &scene.host, &scene.world.token());
        let answer = scene.say(service, leaf, &request).await;
        // It is closed, in whatever way.
        answer.map_or_else(|_| String::new(), |answer| status(&answer).to_owned())
    };
    replace_file(&file, only(&scene, own()));
    let service = start(&[&ours, &theirs]).await;
    let said = format!(
        "for processes of {ours}, {theirs} with a certificate of --listen-client-ca: each of them"
    );
    assert!(service.log().contains(&said), "{}", service.log());
    assert_eq!(ask(&service, None).await, "");
    assert_eq!(ask(&service, Some(&scene.caller)).await, "200");
    // The user is known, and the origin is for another one.
    replace_file(&file, only(&scene, other()));
    service.logs(RELOADED, 1).await;
    assert_eq!(ask(&service, Some(&scene.caller)).await, "403");
    service.end().await;

    replace_file(&file, "");
    let service = start(&[&theirs]).await;
    let said = format!("for processes of {theirs} with a certificate of");
    assert!(service.log().contains(&said), "{}", service.log());
    assert_eq!(ask(&service, Some(&scene.caller)).await, "");
    service
        .logs("a connection of another user was closed", 1)
        .await;
    service.end().await;
    assert_eq!(scene.world.server.counts().requests, 1);
}

/// A browser that has a certificate of a caller shows it with any page's request.
#[tokio::test(flavor = "multi_thread")]
async fn gw_7_a_page_cannot_use_the_certificates_by_a_listener_that_ends_tls() {
    let scene = Scene::new("users-pages");
    let service = scene
        .start(&[
            "--upstream",
            &scene.origin,
            "--listen-name",
            "egress.example",
        ])
        .await;
    let port = service.address.rsplit(':').next().expect("a port");
    let host = format!("localhost:{port}");
    let mut served = 0;
    for (field, expected) in [
        ("Sec-Fetch-Site: cross-site", "403"),
        ("Sec-Fetch-Site: same-origin", "403"),
        ("Sec-Fetch-Site: none", "403"),
        ("Origin: https://evil.example", "403"),
        ("Origin: null", "403"),
        ("Origin: https://egress.example:1", "403"),
        // The listener has no origin without TLS.
        (&format!("Origin: http://{host}"), "403"),
        (&format!("Origin: https://{host}"), "200"),
        ("Origin: https://egress.example", "200"),
        (&format!("Origin: {}", scene.origin), "200"),
    ] {
        let request = request("POST", "/x", &host, &scene.world.token());
        let request = request.replacen("\r\n", &format!("\r\n{field}\r\n"), 1);
        let answer = scene.say(&service, Some(&scene.caller), &request).await;
        let answer = answer.expect("an answer");
        assert_eq!(status(&answer), expected, "{field}: {answer}");
        served += u64::from(expected == "200");
    }
    assert_eq!(scene.world.server.counts().requests, served);
    service.end().await;
}

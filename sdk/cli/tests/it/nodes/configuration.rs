//! Options that cannot be used, without any Redis.

use super::*;
use crate::support::{Ran, run};

/// The command with these options, which only checks, or starts.
fn ran(scene: &Scene, options: &[&str], starts: bool) -> Ran {
    let mut command = scene.command("unix:/run/app.sock");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BOWLINE_")) {
        command.env_remove(name);
    }
    command.args(scene.jwt_options()).args(options);
    if !starts {
        command.arg("--check");
    }
    run(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_says_so_before_anything_is_listened_on() {
    let scene = Scene::new();
    let secrets = secrets(&scene);
    let open = scene.write("open.secret", STANDARD.encode([1; 32]));
    let short = scene.write_private("short.secret", "c2hvcnQ=");
    let (certificate, key) = ("server.pem", "server.key");
    let [certificate, key] = [certificate, key].map(|name| scene.path(name).display().to_string());
    let dpop = ["--policy", "follow", "--node-secrets", &secrets];
    let redis = ["--replay-store", "redis://127.0.0.1:1"];
    for (options, expected) in [
        (
            &[&["--policy", "follow"], &redis[..]].concat()[..],
            "--replay-store needs --node-secrets",
        ),
        (
            &dpop,
            "--node-secrets has no effect without --replay-store or --dpop-nonces",
        ),
        (
            &[&["--node-secrets", &secrets], &redis[..]].concat(),
            "--replay-store has no effect: a session-bound proof passes on one connection only",
        ),
        (
            &[
                "--policy",
                "follow",
                "--node-secrets",
                &open,
                redis[0],
                redis[1],
            ],
            "has mode 0644",
        ),
        (
            &[
                "--policy",
                "follow",
                "--node-secrets",
                &short,
                redis[0],
                redis[1],
            ],
            "line 1 is not the base64 of 32 bytes",
        ),
        (
            &[&dpop[..], &["--replay-store", "redis://10.0.0.1"]].concat(),
            "without TLS anybody",
        ),
        (
            &[&dpop[..], &["--replay-store", "http://redis"]].concat(),
            "write rediss://HOST:PORT",
        ),
        (
            &[&dpop[..], &redis, &["--replay-store-ca", &certificate]].concat(),
            "--replay-store-ca: authorities for its certificate have no effect without TLS",
        ),
        (
            &[&dpop[..], &redis, &["--replay-store-cert", &certificate]].concat(),
            "belong together",
        ),
        (
            &[
                &dpop[..],
                &redis,
                &[
                    "--replay-store-cert",
                    &certificate,
                    "--replay-store-key",
                    &key,
                ],
            ]
            .concat(),
            "--replay-store-cert: a client certificate has no effect without TLS",
        ),
        (
            &[&dpop[..], &redis, &["--replay-store-capacity", "0"]].concat(),
            "1 at least",
        ),
        (
            &["--replay-store-password", "@x"],
            "no effect without --replay-store",
        ),
        (
            &["--replay-store-key", "x"],
            "no effect without --replay-store",
        ),
    ] {
        ran(&scene, options, false).failed(2, &[expected]);
    }
    let passes = [&dpop[..], &redis].concat();
    ran(&scene, &passes, false).succeeded();
    let passes = [&dpop[..], &["--dpop-nonces"]].concat();
    ran(&scene, &passes, false).succeeded();
    let passes = ["--trust-proxy", "CN=gateway", "--node-secrets", &secrets];
    ran(&scene, &[&passes[..], &redis].concat(), false).succeeded();
}

/// EX-7, for the password: never in an error, and on the command line not without a warning.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_url_is_warned_of_and_never_shown() {
    let scene = Scene::new();
    let secrets = secrets(&scene);
    let options = [
        "--policy",
        "follow",
        "--node-secrets",
        &secrets,
        "--replay-store",
    ];
    let check = |url: &str| ran(&scene, &[&options[..], &[url]].concat(), false);
    let warned = check("redis://node:sesame@127.0.0.1:1");
    warned.succeeded();
    assert!(
        warned.stderr.contains("use --replay-store-password @FILE"),
        "{}",
        warned.stderr
    );
    let plain = check("redis://node@127.0.0.1:1");
    assert!(!plain.succeeded().stderr.contains("--replay-store-password"));
    let wrong = check("redis://node:sesame@10.0.0.1");
    wrong.failed(2, &["rediss://"]);
    let twice = scene.write_private("password", "simsim\n");
    let twice = format!("@{twice}");
    let url = "redis://:sesame@127.0.0.1:1";
    let twice = [&options[..], &[url, "--replay-store-password", &twice]].concat();
    let twice = ran(&scene, &twice, false);
    twice.failed(2, &["give one of them"]);
    let file = format!("replay-store = \"{url}\"\n");
    let file = scene.write_private("ingress.toml", file);
    let from_file = [&options[..4], &["--config", &file]].concat();
    let from_file = ran(&scene, &from_file, false);
    from_file.succeeded();
    assert!(!from_file.stderr.contains("@FILE"), "{}", from_file.stderr);
    for ran in [&warned, &wrong, &twice, &from_file] {
        assert!(!ran.stderr.contains("sesame") && !ran.stderr.contains("simsim"));
    }
}

/// Session-bound traffic does not wait for Redis, not even at the start.
#[tokio::test]
async fn without_redis_a_node_starts_and_serves_what_needs_no_store() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let secrets = secrets(&scene);
    let nowhere = format!("unix:{}", scene.path("redis.sock").display());
    let options = ["--policy", "follow", "--external-origin", ORIGIN];
    let shared = ["--node-secrets", &secrets, "--replay-store", &nowhere];
    let ingress = scene
        .start(&upstream, &[&options[..], &shared].concat())
        .await;
    let mut http = scene.connect(&ingress, Alpn::Http2).await;
    let token = scene.session_bound();
    http.get(http.proved(&scene.agent, &token)).await.arrived();
    let agent = Agent::new(&scene);
    let answer = http.get(agent.request(&agent.proof(None))).await;
    assert_unavailable(&answer);
    assert_eq!(upstream.requests(), 1);
    let log = ingress.log();
    assert!(log.contains("cannot be connected to"), "{log}");
}

/// RFC 9449 section 8, behind a balancer that knows nothing of it.
#[tokio::test]
async fn a_nonce_of_one_node_is_accepted_by_another_with_the_same_secrets() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let shared = secrets(&scene);
    let other = STANDARD.encode([8; 32]);
    let other = scene.write_private("other.secret", format!("{other}\n"));
    let mut nodes = Vec::new();
    for secrets in [&shared, &shared, &other] {
        let options = [
            "--policy",
            "follow",
            "--dpop-nonces",
            "--external-origin",
            ORIGIN,
        ];
        let options = [&options[..], &["--node-secrets", secrets]].concat();
        let ingress = scene.start(&upstream, &options).await;
        let http = scene.connect(&ingress, Alpn::Http2).await;
        nodes.push((ingress, http));
    }
    let agent = Agent::new(&scene);
    let asked = nodes[0].1.get(agent.request(&agent.proof(None))).await;
    asked.assert_refused("DP-10");
    let nonce = Nonce::from_response(&asked.headers).expect("a nonce");
    for (node, passes) in [(0, true), (1, true), (2, false)] {
        let answer = nodes[node]
            .1
            .get(agent.request(&agent.proof(Some(&nonce))))
            .await;
        match passes {
            true => drop(answer.arrived()),
            false => answer.assert_refused("DP-10"),
        }
    }
}

//! Two nodes, and a Redis that is away, full, slow, or configured wrongly.

use super::*;
use crate::ops::admin::Admin;
use crate::support::run;

const PERSISTENT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

#[tokio::test]
#[ignore = "needs redis-server"]
async fn while_redis_is_away_session_bound_traffic_goes_on_and_what_needs_it_gets_503() {
    let redis = Redis::start(PERSISTENT);
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let (secrets, store) = (secrets(&scene), redis.url());
    let admin = Admin::in_(&scene);
    let admin_option = admin.option();
    let more = ["--trust-proxy", "CN=thief", "--admin", &admin_option];
    let options = [&shared_options(&secrets, &store)[..], &more, &PATIENT].concat();
    let ingress = scene.start(&upstream, &options).await;
    let mut redis = redis;
    let mut http = scene.connect(&ingress, Alpn::Http2).await;
    let mut through = scene
        .connect_as(&ingress, Some(&scene.thief), Alpn::Http2)
        .await;
    let agent = Agent::new(&scene);
    let token = scene.session_bound();
    let used = agent.proof(None);
    http.get(agent.request(&used)).await.arrived();
    admin
        .counts("bowline_server_replay_store_reachable 1")
        .await;

    redis.stop();
    admin
        .counts("bowline_server_replay_store_reachable 0")
        .await;
    for _ in 0..3 {
        assert_unavailable(&http.get(agent.request(&agent.proof(None))).await);
        assert_unavailable(&http.get(agent.request(&used)).await);
        assert_unavailable(&through.get(attested(&scene, &token, true)).await);
        // RS-9: what a connection that this node ends needs is here.
        http.get(http.proved(&scene.agent, &token)).await.arrived();
        let uri = format!("{ORIGIN}/");
        let request = Some((Method::GET, uri.as_str()));
        let proof = proof_for(&scene.agent, &token, &http.exporter, request);
        let once = || with_token(&token).header(PROOF_HEADER, proof.header_value());
        http.get(once()).await.arrived();
        http.get(once()).await.assert_refused("RS-9");
        through.get(attested(&scene, &token, false)).await.arrived();
    }
    // All nodes share it: if each said so, none would be left for the traffic that needs no store.
    assert_eq!(admin.get("/readyz").await.0, StatusCode::OK);
    let stats = admin.stats().await;
    assert_eq!(stats["replay_store"], "redis");

    redis.start_again();
    admin
        .counts("bowline_server_replay_store_reachable 1")
        .await;
    http.get(agent.request(&agent.proof(None))).await.arrived();
    http.get(agent.request(&used)).await.assert_refused("DP-14");
    through.get(attested(&scene, &token, true)).await.arrived();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_wrong_password_or_policy_ends_the_start_with_one_line() {
    let scene = Scene::new();
    let secrets = secrets(&scene);
    let options = [
        "--policy",
        "follow",
        "--node-secrets",
        &secrets,
        "--replay-store",
    ];
    let ran = |url: &str, more: &[&str]| {
        let mut command = scene.command("unix:/run/app.sock");
        command
            .args(scene.jwt_options())
            .args(options)
            .arg(url)
            .args(more);
        let ran = run(&mut command);
        assert!(!ran.stderr.contains("sesame"), "{}", ran.stderr);
        ran
    };
    let redis = Redis::start(&["--requirepass", "open sesame"]);
    ran(&redis.url(), &[]).failed(1, &["--replay-store: unix:", "NOAUTH"]);
    let wrong = format!("@{}", scene.write_private("wrong", "sesame\n"));
    let wrong = ["--replay-store-password", &wrong];
    ran(&redis.url(), &wrong).failed(1, &["WRONGPASS"]);

    let lru = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    ran(&lru.url(), &[]).failed(
        1,
        &["allkeys-lru", "CONFIG SET maxmemory-policy noeviction"],
    );
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_password_is_replaced_by_a_reload() {
    let redis = Redis::start(&["--requirepass", "first"]);
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let password = scene.write_private("password", "first\n");
    let (secrets, store) = (secrets(&scene), redis.url());
    let password = format!("@{password}");
    let more = ["--replay-store-password", &password];
    let options = [&shared_options(&secrets, &store)[..], &more, &PATIENT].concat();
    let ingress = scene.start(&upstream, &options).await;
    let mut http = scene.connect(&ingress, Alpn::Http2).await;
    let agent = Agent::new(&scene);
    http.get(agent.request(&agent.proof(None))).await.arrived();
    let as_admin = |command: &[&str], password: &str| {
        let answers = redis.commands(&[&["AUTH", password], command]);
        assert_eq!(answers[0], "+OK");
    };
    as_admin(&["CONFIG", "SET", "requirepass", "second"], "first");
    as_admin(
        &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
        "second",
    );
    ingress.logs("WRONGPASS").await;
    assert_unavailable(&http.get(agent.request(&agent.proof(None))).await);
    scene.write_private("password", "second\n");
    ingress.logs("reloaded (a file has changed)").await;
    let back = async {
        while http.get(agent.request(&agent.proof(None))).await.status != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within(back).await;
    let log = ingress.log();
    assert!(!log.contains("first") && !log.contains("second"), "{log}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_full_redis_is_503_and_session_bound_traffic_goes_on() {
    let redis = ["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"];
    let mut pair = Pair::start(&redis, &[]).await;
    let used = pair.agent.proof(None);
    pair.send(0, &used).await.arrived();
    pair.redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for node in [0, 1] {
        assert_unavailable(&pair.fresh(node).await);
        pair.send(node, &used).await.assert_refused("DP-14");
        pair.session_bound(node).await.arrived();
    }
    pair.ingresses[0]
        .logs("has no memory left for used proofs")
        .await;
    pair.redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    for node in [0, 1] {
        pair.fresh(node).await.arrived();
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_slow_redis_is_503_in_time_and_back_without_a_restart() {
    let mut pair = Pair::start(&[], &["--replay-store-timeout", "100ms"]).await;
    // Perhaps not within its short time-out at once.
    pair.serves(0, true).await;
    pair.redis.freeze();
    for node in [0, 1] {
        assert_unavailable(&pair.fresh(node).await);
        pair.session_bound(node).await.arrived();
    }
    pair.ingresses[0].logs("did not answer within 100ms").await;
    pair.redis.thaw();
    for node in [0, 1] {
        pair.serves(node, true).await;
    }
}

/// The policy is looked at again with each new connection.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_redis_that_is_made_to_drop_entries_is_not_used_after_a_reconnect() {
    let redis = ["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"];
    let mut pair = Pair::start(&redis, &[]).await;
    pair.fresh(0).await.arrived();
    let set = |pair: &Pair, policy| {
        pair.redis
            .command(&["CONFIG", "SET", "maxmemory-policy", policy]);
    };
    set(&pair, "allkeys-lfu");
    pair.redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    pair.serves(0, false).await;
    pair.ingresses[0]
        .logs("its `maxmemory-policy` is allkeys-lfu")
        .await;
    pair.session_bound(0).await.arrived();
    set(&pair, "noeviction");
    pair.serves(0, true).await;
}

//! Two nodes and one Redis, when all is well.

use super::*;

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_dpop_proof_passes_once_over_all_nodes() {
    let mut pair = Pair::start(&[], &[]).await;
    for (first, second) in [(0, 1), (1, 0)] {
        let proof = pair.agent.proof(None);
        pair.send(first, &proof).await.arrived();
        pair.send(second, &proof).await.assert_refused("DP-14");
        pair.send(first, &proof).await.assert_refused("DP-14");
        pair.fresh(second).await.arrived();
    }
    let stats = pair.redis.command(&["KEYS", "*"]);
    assert!(
        stats.lines().all(|key| key.starts_with("bowline:")),
        "{stats}"
    );
}

/// What the store is for: with the memory of each process a replay passes at the other node.
#[tokio::test]
async fn without_a_common_store_a_replay_passes_at_the_other_node() {
    let (scene, upstream) = (Scene::new(), Upstream::echo());
    let options = ["--policy", "follow", "--external-origin", ORIGIN];
    let agent = Agent::new(&scene);
    let proof = agent.proof(None);
    for _ in 0..2 {
        let ingress = scene.start(&upstream, &options).await;
        let mut http = scene.connect(&ingress, Alpn::Http2).await;
        http.get(agent.request(&proof)).await.arrived();
        http.get(agent.request(&proof))
            .await
            .assert_refused("DP-14");
    }
}

/// GW-3: one client connection may arrive at several nodes.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn gw_3_a_jti_that_came_through_a_proxy_passes_once_over_all_nodes() {
    let pair = Pair::start(&[], &["--trust-proxy", "CN=thief"]).await;
    let (scene, token) = (&pair.scene, pair.scene.session_bound());
    let mut through = Vec::new();
    for ingress in &pair.ingresses {
        through.push(
            scene
                .connect_as(ingress, Some(&scene.thief), Alpn::Http2)
                .await,
        );
    }
    let uri = format!("{ORIGIN}/");
    let exporter = ExporterValue::from_bytes([7; 32]);
    let request = Some((Method::GET, uri.as_str()));
    let proof = proof_for(&scene.agent, &token, &exporter, request).header_value();
    let arrived = through[0]
        .get(attested_with(scene, &token, &proof))
        .await
        .arrived();
    let verified = arrived.one("session-binding-verified");
    assert!(verified.starts_with("class=proxy-attested, "), "{verified}");
    through[1]
        .get(attested_with(scene, &token, &proof))
        .await
        .assert_refused("RS-9");
    // Without a `jti` it is good for the connection.
    for http in &mut through {
        let reusable = attested(scene, &token, false);
        http.get(reusable).await.arrived();
    }
}

/// As the page of several nodes describes it: file by file, while requests go on.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_secret_is_replaced_by_reloads_and_no_replay_passes_meanwhile() {
    let mut pair = Pair::start(&[], &[]).await;
    // Each node reads a file of its own, as on machines of their own; here both read one, so the
    // second node is a step behind only while it reloads.
    let [old, new] = [[7; 32], [8; 32]].map(|secret| STANDARD.encode(secret));
    let mut used = Vec::new();
    for (step, lines) in [
        format!("{old}\n{new}\n"),
        format!("{new}\n{old}\n"),
        format!("{new}\n"),
    ]
    .iter()
    .enumerate()
    {
        let proof = pair.agent.proof(None);
        pair.send(step % 2, &proof).await.arrived();
        used.push(proof);
        pair.scene.write_private("nodes.secret", lines);
        for ingress in &pair.ingresses {
            let reloaded = async {
                while ingress.log().matches("reloaded (").count() <= step {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            within(reloaded).await;
        }
        // Those from before the step, and at the last step those that knew the new secret.
        for proof in used.iter().skip(usize::from(step == 2)) {
            for node in [0, 1] {
                pair.send(node, proof).await.assert_refused("DP-14");
            }
        }
    }
}

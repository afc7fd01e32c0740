//! Seeds that cannot be used: each gives a precise error, and nothing is sent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use bowline_token::{ErrorKind, Fault, TokenSource};
use serde_json::json;

use super::{World, write_private, write_seed};
use crate::fixture::successor;

#[tokio::test]
async fn a_seed_that_cannot_be_used_is_an_error_that_says_what_to_do_and_sends_nothing() {
    let world = World::new("bad-seeds", Duration::from_secs(60));
    let seed = world.seed();
    let issuer = world.fixture.authority.issuer().to_owned();
    let with_mode = |mode| {
        world.sign_in(&world.first);
        fs::set_permissions(&seed, fs::Permissions::from_mode(mode)).unwrap();
    };
    let text = |text: &str| write_private(&seed, text.as_bytes());
    let whole = json!({
        "client_id": "agent",
        "issuer": issuer,
        "refresh_token": "SECRET-refresh",
    })
    .to_string();
    let breakages: [(&dyn Fn(), ErrorKind, &str); 15] = [
        (
            &|| with_mode(0o644),
            ErrorKind::File,
            "(mode 644): run `chmod 600`",
        ),
        (
            &|| with_mode(0o640),
            ErrorKind::File,
            "(mode 640): run `chmod 600`",
        ),
        (
            &|| with_mode(0o602),
            ErrorKind::File,
            "(mode 602): run `chmod 600`",
        ),
        (
            &|| fs::remove_file(&seed).unwrap(),
            ErrorKind::File,
            "cannot be read",
        ),
        (
            &|| text(""),
            ErrorKind::File,
            "half written (line 1, column 0)",
        ),
        (
            &|| text(&whole[..whole.len() - 9]),
            ErrorKind::File,
            "is half written (line 1",
        ),
        (
            &|| text("SECRET-refresh"),
            ErrorKind::File,
            "no JSON object",
        ),
        (
            &|| text("[\"SECRET-refresh\"]"),
            ErrorKind::File,
            "no JSON object",
        ),
        (
            &|| text(r#"{"client_id":"agent","refresh_token":"SECRET-refresh"}"#),
            ErrorKind::File,
            "client_id, issuer and refresh_token",
        ),
        (
            &|| write_seed(&seed, "agent", &issuer, ""),
            ErrorKind::File,
            "is empty, or not of visible ASCII",
        ),
        (
            &|| write_seed(&seed, "agent", &issuer, "SECRET-\u{e9}"),
            ErrorKind::File,
            "is empty, or not of visible ASCII",
        ),
        (
            &|| write_seed(&seed, "agent", &issuer, &"a".repeat(300_000)),
            ErrorKind::File,
            "longer than",
        ),
        (
            &|| write_seed(&seed, "other", &issuer, "SECRET-refresh"),
            ErrorKind::Configuration,
            "is of the client other, and this client is agent",
        ),
        (
            &|| write_seed(&seed, "agent", "https://other.example", "SECRET-refresh"),
            ErrorKind::Configuration,
            "of the authorization server https://other.example",
        ),
        (
            &|| {
                fs::remove_file(&seed).unwrap();
                fs::create_dir(&seed).unwrap();
            },
            ErrorKind::File,
            "not a regular file",
        ),
    ];
    for (break_seed, kind, said) in breakages {
        break_seed();
        let error = world.source().token().await.unwrap_err();
        let shown = error.to_string();
        assert_eq!(error.kind(), kind, "{shown}");
        assert_eq!(error.fault(), Fault::Configuration, "{shown}");
        assert!(shown.contains(said), "{said}: {shown}");
        assert!(shown.contains(&*seed.to_string_lossy()), "{shown}");
        assert!(
            !shown.contains("SECRET") && !shown.contains('\n'),
            "{shown}"
        );
    }
    assert_eq!(world.fixture.authority.token_requests(), 0);
    // Nothing of it stays once the seed is good.
    fs::remove_dir(&seed).unwrap();
    world.sign_in(&world.first);
    world.source().token().await.unwrap();
    world.is_sound();
}

#[tokio::test]
async fn a_seed_that_is_mended_is_used_after_a_second() {
    let world = World::new("mended", Duration::from_secs(60));
    write_private(&world.seed(), b"{\"client_id\":\"agent\",");
    let source = world.source();
    source.token().await.unwrap_err();
    world.sign_in(&world.first);
    world.fixture.clock.advance(1);
    source.token().await.unwrap();
    world.is_sound();
}

/// While the place for the next seed cannot be made, a token that is still valid stays in use.
#[tokio::test]
async fn a_seed_that_cannot_be_replaced_is_noticed_before_its_refresh_token_is_sent() {
    let world = World::new("unwritable", Duration::from_secs(60));
    let source = world.source();
    let first = source.token().await.unwrap();
    let before = world.stored_refresh_token();
    // Root may write to a directory that is not writable, but not to a directory as to a file.
    let lock = world.dir.path(".seed.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    world.fixture.clock.advance(40);
    assert_eq!(source.token().await.unwrap(), first);
    world.fixture.clock.advance(20);
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File);
    let said = "the seed cannot be replaced, so its refresh token was not sent";
    assert!(error.to_string().contains(said), "{error}");
    assert_eq!(world.fixture.authority.token_requests(), 1);
    assert_eq!(world.stored_refresh_token(), before);

    fs::remove_dir(&lock).unwrap();
    world.fixture.clock.advance(60);
    successor(&source, &first).await;
    world.is_sound();
}

/// A mount that is read-only, in a mount namespace of its own: root cannot write there either.
#[tokio::test]
#[ignore = "needs `unshare` and the right to make namespaces: run `just parts`"]
async fn on_a_read_only_file_system_the_refresh_token_is_not_sent() {
    let world = World::new("read-only", Duration::from_secs(60));
    let directory = world.dir.path("");
    let directory = directory.to_str().unwrap();
    let identity = world.dir.path("identity.pem");
    let agent = &world.fixture.agent;
    fs::write(
        &identity,
        format!("{}{}", agent.chain_pem(), agent.key_pem()),
    )
    .unwrap();
    fs::write(world.dir.path("ca.pem"), world.fixture.pki.ca_pem()).unwrap();
    let output = tokio::process::Command::from(Command::new("unshare"))
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(
            "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"",
        )
        .args(["sh", directory])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "refresh::seeds::child",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_ISSUER, world.fixture.authority.issuer())
        .output()
        .await
        .expect("unshare is installed");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let said = "the seed cannot be replaced, so its refresh token was not sent";
    assert!(told.contains(said), "{told}");
    assert!(told.contains("Read-only file system"), "{told}");
    assert_eq!(world.fixture.authority.token_requests(), 0);
    world.source().token().await.unwrap();
}

const CHILD_DIRECTORY: &str = "SEED_DIRECTORY";
const CHILD_ISSUER: &str = "SEED_ISSUER";

#[tokio::test]
#[ignore = "it is started by another test"]
#[allow(clippy::print_stdout, reason = "the other test reads it")]
async fn child() {
    use bowline_http_client::{Client, Identity, Trust};
    use bowline_token::{AuthorizationServer, ClientAuthentication, OAuth};

    let (Ok(directory), Ok(issuer)) = (std::env::var(CHILD_DIRECTORY), std::env::var(CHILD_ISSUER))
    else {
        return;
    };
    let file = |name: &str| format!("{directory}/{name}");
    let identity = file("identity.pem");
    let client = Client::builder()
        .identity(Identity::from_pem_files(&identity, &identity).unwrap())
        .trust(Trust::from_pem_file(file("ca.pem")).unwrap())
        .build()
        .unwrap();
    let server = AuthorizationServer::issuer(issuer);
    let source = OAuth::builder(client, server, ClientAuthentication::tls("agent"));
    let source = source.refresh(file("seed")).build().unwrap();
    println!("{}", source.token().await.unwrap_err());
}

//! The README's quick start: it is quoted word for word, and its client runs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use setup::Setup;
use tokio::process::Command;
use tokio::time::timeout;

/// A guard against hanging.
const LIMIT: Duration = Duration::from_secs(120);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The code block that stands below this marker in the README.
fn quoted(program: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let marker = format!("<!-- {program}, held by readme.rs -->\n```rust\n");
    let (_, rest) = readme
        .split_once(&marker)
        .unwrap_or_else(|| panic!("README.md has no block marked {marker}"));
    let (block, _) = rest.split_once("```\n").expect("the block ends");
    block.to_owned()
}

#[test]
fn the_readme_quotes_both_programs_word_for_word() {
    for (program, most_lines) in [
        ("examples/quickstart/client/src/main.rs", 40),
        ("examples/quickstart/server/src/main.rs", 30),
    ] {
        let source = std::fs::read_to_string(root().join(program)).expect("the program");
        assert_eq!(quoted(program), source, "copy {program} into README.md");
        assert!(
            source.lines().count() <= most_lines,
            "{program} is too long"
        );
    }
}

#[test]
fn each_program_has_three_dependencies() {
    for (package, names) in [
        ("client", ["bowline", "rmcp", "tokio"]),
        ("server", ["axum", "bowline", "tokio"]),
    ] {
        let manifest = root().join(format!("examples/quickstart/{package}/Cargo.toml"));
        let manifest = std::fs::read_to_string(manifest).expect("the manifest");
        let (_, rest) = manifest
            .split_once("[dependencies]\n")
            .expect("dependencies");
        let section = rest.lines().take_while(|line| !line.is_empty());
        let found: Vec<_> = section
            .filter_map(|line| line.split(['.', ' ']).next())
            .collect();
        assert_eq!(found, names);
    }
}

/// Runs the client in a folder with these certificates.
async fn run(setup: &Setup, agent: &str, url: &str) -> std::process::Output {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{agent}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let pem = setup.certificate(agent);
    for (name, text) in [
        ("agent.pem", pem.certificate),
        ("agent-key.pem", pem.key),
        ("ca.pem", pem.ca),
    ] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let client = Command::new(env!("CARGO_BIN_EXE_quickstart-client"))
        .current_dir(&folder)
        .env("MCP_URL", url)
        .env("ISSUER", setup.issuer())
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, client).await.expect("the client ends");
    output.expect("the client starts")
}

#[tokio::test]
async fn ten_tool_calls_of_the_quick_start_cost_one_signature() {
    let setup = Setup::start();
    let url = setup.mcp_server().await.unwrap();
    let output = run(&setup, "agent", &url).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said, "ten calls, 1 signature(s)\n");
}

/// The same program with a certificate of another client gets no token.
#[tokio::test]
async fn the_quick_start_fails_with_the_certificate_of_another_client() {
    let setup = Setup::start();
    let url = setup.mcp_server().await.unwrap();
    let output = run(&setup, "attacker", &url).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("invalid_client"),
        "{output:?}"
    );
}

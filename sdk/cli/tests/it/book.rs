//! What the book and `contrib/` tell users to type, run as it stands. It needs Python, Node and npm, so it belongs
//! to the named set (`just parts`) and not to `cargo test`.

use std::path::Path;
use std::process::Command;

const BOWLINE: &str = env!("CARGO_BIN_EXE_bowline");

#[test]
#[ignore = "needs Node, npm, Python and curl: run `just parts`"]
fn the_quick_start_does_what_its_page_says() {
    let folder = Path::new(BOWLINE).parent().expect("a folder");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path);
    let path = std::env::join_paths([folder.to_owned()].into_iter().chain(path)).expect("a path");
    let mut command = tool("quickstart.py");
    succeeds(command.arg("docs/src/quickstart.md").env("PATH", path));
}

#[test]
#[ignore = "needs Python with kubernetes-validate: run `just parts`"]
fn kubernetes_knows_each_field_of_the_manifests_and_bowline_each_option() {
    succeeds(tool("manifests.py").arg(BOWLINE));
}

/// A program of `tools/`.
fn tool(name: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new("python3");
    command.arg(root.join("tools").join(name)).current_dir(root);
    command
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().expect("python3 is missing");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{text}");
}

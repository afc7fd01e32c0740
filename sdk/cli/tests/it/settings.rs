//! Where options come from.

use std::process::Command;

fn bowline() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bowline"))
}

#[test]
fn no_arguments_at_all_show_the_help() {
    let output = bowline().output().expect("the command runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Exit status"));
}

#[test]
fn an_unknown_key_of_the_file_names_the_nearest_known_one() {
    let file = std::env::temp_dir().join(format!("bowline-settings-{}.toml", std::process::id()));
    std::fs::write(&file, "log-formt = \"json\"\n").expect("the file is written");
    let output = bowline()
        .args(["completions", "bash", "--config"])
        .arg(&file)
        .output()
        .expect("the command runs");
    std::fs::remove_file(&file).expect("the file is there");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("unknown key `log-formt`"), "{message}");
    assert!(message.contains("did you mean `log-format`"), "{message}");
}

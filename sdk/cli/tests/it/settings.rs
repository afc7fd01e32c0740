//! Where options come from, and what is said of those that cannot be used.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Dir, Fixture, Ran, bowline, page, ran, run};

/// Runs `bowline call` against a port where nothing listens, with a configuration file.
fn with_file(content: impl AsRef<[u8]>, args: &[&str]) -> Ran {
    let dir = Dir::new();
    let file = dir.write("bowline.toml", content);
    let mut command = call();
    command.arg("--config").arg(file).args(args);
    ran(command.output().expect("the command runs"))
}

fn call() -> Command {
    let mut command = bowline();
    command.args(["call", "https://127.0.0.1:1"]);
    command
}

#[test]
fn no_arguments_at_all_show_the_help() {
    let ran = ran(bowline().output().expect("the command runs"));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("Exit status"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_wins_over_the_variable_and_that_over_the_file() {
    let fixture = Fixture::new();
    let server = fixture.plain(page("ok"));
    let file = fixture
        .dir
        .write("bowline.toml", "repeat = 3\nstats = \"json\"\n");
    let requests = |args: &[&str], variable: Option<&str>| {
        let mut command = fixture.call(&server.origin(), args);
        // The file is named by its own variable: it may come from there too.
        command.env("BOWLINE_CONFIG", &file);
        if let Some(value) = variable {
            command.env("BOWLINE_REPEAT", value);
        }
        run(&mut command).succeeded().stats()["requests"].clone()
    };
    assert_eq!(requests(&[], None), 3);
    assert_eq!(requests(&[], Some("5")), 5);
    assert_eq!(requests(&["--repeat", "7"], Some("5")), 7);
    assert_eq!(requests(&["--repeat", "7"], None), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_lists_numbers_and_paths_come_from_the_file() {
    let fixture = Fixture::new();
    let echo = async |headers: http::HeaderMap| {
        let values = headers.get_all("x-test").iter();
        let values: Vec<_> = values.map(|v| v.to_str().unwrap().to_owned()).collect();
        (http::StatusCode::IM_A_TEAPOT, values.join("+"))
    };
    let server = fixture.plain(axum::Router::new().fallback(echo));
    let content = format!(
        "header = [\"x-test: a\", \"x-test: b\"]\nmax-time = 2.5\n\"http1.1\" = true\n\
         include = true\ncert = {:?}\nkey = {:?}\ncacert = {:?}\n",
        fixture.files.certificate, fixture.files.key, fixture.ca
    );
    let file = fixture.dir.write("bowline.toml", content);
    let with = |args: &[&str]| {
        let mut command = bowline();
        command.args(["call", &server.origin(), "--config"]);
        run(command.arg(&file).args(args))
    };
    let ran = with(&[]);
    assert!(
        ran.succeeded().stdout.starts_with("HTTP/1.1 418"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.ends_with("\r\n\r\na+b"), "{}", ran.stdout);
    // A list of the command line replaces that of the file.
    assert!(
        with(&["-H", "x-test: c"])
            .succeeded()
            .stdout
            .ends_with("\r\n\r\nc")
    );
    with(&["--fail"]).failed(1, &["418"]);
}

#[test]
fn an_unknown_key_of_the_file_names_the_nearest_known_one() {
    for (content, expected) in [
        ("log-formt = \"json\"", "did you mean `log-format`?"),
        ("connect-timeot = 1", "did you mean `connect-timeout`?"),
        ("dpop_key = \"x\"", "did you mean `dpop-key`?"),
        ("zzz = 1", "`bowline call --help` lists the options"),
        // What is no option with a long name, or would lead elsewhere, is no key.
        ("url = \"x\"", "unknown key `url`"),
        ("help = true", "unknown key `help`"),
        ("config = \"x\"", "unknown key `config`"),
        ("[call]\nfail = true", "unknown key `call`"),
    ] {
        with_file(content, &[]).failed(2, &["bowline.toml", expected]);
    }
    // One of another subcommand is unknown to this one.
    let dir = Dir::new();
    let file = dir.write("bowline.toml", "repeat = 2\n");
    let mut command = bowline();
    command.args(["completions", "bash", "--config"]).arg(file);
    ran(command.output().expect("the command runs")).failed(2, &["unknown key `repeat`"]);
}

#[test]
fn values_of_the_wrong_type_are_told() {
    for (content, expected) in [
        ("token = [\"a\"]", "`token` takes one plain value"),
        ("token = { a = 1 }", "`token` takes one plain value"),
        ("token = 1979-05-27", "`token` takes one plain value"),
        (
            "header = [[\"a\"]]",
            "`header` takes a list of plain values",
        ),
        ("fail = true\nfail = true", "line 2: duplicate key"),
        ("fail true", "line 1"),
    ] {
        with_file(content, &[]).failed(2, &["bowline.toml", expected]);
    }
    for (content, expected) in [
        (
            "repeat = \"many\"",
            "bowline.toml: `repeat`: invalid value 'many' for '--repeat <N>': invalid digit",
        ),
        ("repeat = 2.5", "bowline.toml: `repeat`: "),
        ("repeat = -1", "bowline.toml: `repeat`: "),
        ("fail = \"perhaps\"", "bowline.toml: `fail`: "),
        (
            "proof-scope = \"all\"",
            "bowline.toml: `proof-scope`: invalid value 'all' for '--proof-scope <SCOPE>' \
             [possible values: connection, request, adaptive]",
        ),
        ("max-time = true", "bowline.toml: `max-time`: "),
        ("log-format = \"xml\"", "bowline.toml: `log-format`: "),
        ("fail = true\nrepeat = 0", "bowline.toml: `repeat`: "),
    ] {
        with_file(content, &[]).failed(2, &[expected]);
    }
}

/// The file is blamed for its own values only.
#[test]
fn a_wrong_value_of_the_command_line_or_of_a_variable_is_not_the_files() {
    let wrong = "invalid value 'many' for '--repeat <N>'";
    for content in ["repeat = 3", "repeat = \"few\"", "fail = true"] {
        let ran = with_file(content, &["--repeat", "many"]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(wrong), "{}", ran.stderr);
        assert!(!ran.stderr.contains("bowline.toml"), "{}", ran.stderr);
    }
    let dir = Dir::new();
    let file = dir.write("bowline.toml", "repeat = 3\n");
    let mut command = call();
    command.arg("--config").arg(file);
    let output = command.env("BOWLINE_REPEAT", "many").output();
    let ran = ran(output.expect("the command runs"));
    assert!(ran.stderr.contains(wrong), "{}", ran.stderr);
    assert!(!ran.stderr.contains("bowline.toml"), "{}", ran.stderr);
    // A wrong value that another one wins over is not looked at.
    with_file("repeat = \"many\"", &["--repeat", "1"]).failed(1, &["refused"]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_never_an_empty_one() {
    with_file([0xff, 0xfe], &[]).failed(2, &["bowline.toml cannot be read"]);
    for path in [Path::new("/nowhere/bowline.toml"), &std::env::temp_dir()] {
        let output = call().arg("--config").arg(path).output();
        ran(output.expect("the command runs")).failed(2, &["cannot be read"]);
        let output = call().env("BOWLINE_CONFIG", path).output();
        ran(output.expect("the command runs")).failed(2, &["cannot be read"]);
    }
}

#[test]
fn a_secret_of_the_file_is_quoted_nowhere() {
    const SECRET: &str = "hush-hush-hush";
    for content in [
        format!("token = \"{SECRET}"),
        format!("token = \"{SECRET}\\q\""),
        format!("token = [\"{SECRET}\"]"),
        format!("token = {{ a = \"{SECRET}\" }}"),
        format!("token = {SECRET}"),
        format!("tokn = \"{SECRET}\""),
        format!("token = \"{SECRET} \u{e9}\""),
        format!("token = \"{SECRET}\"\ntoken = \"{SECRET}\""),
        format!("header = [\"{SECRET}\"]"),
        format!("header = [\"authorization: Bearer {SECRET}\"]\nverbose = true"),
        format!("token = \"{SECRET}\"\nverbose = true\nlog-level = \"trace\""),
    ] {
        for args in [&[][..], &["--help"], &["-h"], &["--no-such-option"]] {
            let ran = with_file(&content, args);
            let shown = ran.stdout + &ran.stderr;
            assert!(!shown.contains(SECRET), "{content} {args:?}: {shown}");
        }
    }
    // Nor is one of a variable.
    let mut help = call();
    let output = help.env("BOWLINE_TOKEN", SECRET).arg("--help").output();
    let ran = ran(output.expect("the command runs"));
    assert!(ran.stdout.contains("--token") && !ran.stdout.contains(SECRET));
}

#[test]
fn completions_and_man_pages_know_each_subcommand() {
    let help = ran(bowline().arg("--help").output().expect("the command runs"));
    let listed = help.stdout.split("Commands:\n").nth(1).expect("a list");
    let listed = listed.split("\n\n").next().expect("its end");
    let subcommands: Vec<&str> = listed
        .lines()
        // A description that is continued in the next line is indented further.
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    for known in ["call", "inspect", "completions", "man"] {
        assert!(subcommands.contains(&known), "{subcommands:?}");
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = bowline().args(["completions", shell]).output();
        let script = ran(output.expect("the command runs"));
        for name in &subcommands {
            assert!(script.stdout.contains(name), "{shell} does not know {name}");
        }
        assert!(script.stdout.contains("proof-scope"), "{shell}");
    }
    let dir = Dir::new();
    let output = bowline().arg("man").arg(dir.path()).output();
    assert_eq!(ran(output.expect("the command runs")).code, Some(0));
    for name in &subcommands {
        let page = dir.path().join(format!("bowline-{name}.1"));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{page:?}: {e}"));
        assert!(page.contains(".TH"), "{name}");
    }
    let call = std::fs::read_to_string(dir.path().join("bowline-call.1")).expect("a page");
    assert!(call.contains("proof\\-scope"), "{call}");
}

#[test]
fn a_log_in_json_has_an_object_a_line() {
    let output = call()
        .args(["--log-format", "json", "--token", "opaque"])
        .output();
    let ran = ran(output.expect("the command runs"));
    let line = ran.stderr.lines().next().expect("a line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["level"], json!("WARN"));
}

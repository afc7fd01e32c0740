//! A token file that other programs replace, in the ways in which they do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline_http_client::AccessToken;
use bowline_testkit::authority::TokenRequest;
use bowline_token::{
    Clock, Error, ErrorKind, Fault, Token, TokenFile, TokenFileOptions, TokenSource,
};
use futures_util::future::join_all;

use crate::fixture::{Fixture, TestClock};

/// A directory that is removed when the test ends.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("bowline-token-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes another file, and renames it into place.
    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("beside"), text).unwrap();
        fs::rename(self.path("beside"), self.path(name)).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn source(path: &Path, clock: &TestClock) -> TokenFile {
    let mut options = TokenFileOptions::default();
    options.clock = clock.to_clock();
    TokenFile::with(path, options)
}

async fn read(source: &TokenFile) -> Result<String, Error> {
    let token = source.token().await?;
    assert_eq!(token.source(), source.id());
    Ok(token.access_token().secret().to_owned())
}

#[tokio::test]
async fn a_file_that_is_renamed_into_place_is_used_at_the_next_read() {
    let (dir, clock) = (Dir::new("rename"), TestClock::default());
    dir.replace("token", "first\n");
    let source = source(&dir.path("token"), &clock);
    assert_eq!(read(&source).await.unwrap(), "first");
    dir.replace("token", " second \r\n");
    let early = read(&source).await.unwrap();
    assert!(
        early == "first" || early == "second",
        "within the interval either is right"
    );
    clock.advance(1);
    assert_eq!(read(&source).await.unwrap(), "second");
}

/// `token` -> `..data/token`, and `..data` -> `v1`: nothing in the directory of `token` itself
/// changes.
#[tokio::test]
async fn a_file_behind_a_swapped_symlink_is_used_at_the_next_read() {
    let (dir, clock) = (Dir::new("symlink"), TestClock::default());
    for (version, text) in [("v1", "first"), ("v2", "second")] {
        fs::create_dir(dir.path(version)).unwrap();
        fs::write(dir.path(version).join("token"), text).unwrap();
    }
    symlink("v1", dir.path("..data")).unwrap();
    symlink("..data/token", dir.path("token")).unwrap();
    let source = source(&dir.path("token"), &clock);
    assert_eq!(read(&source).await.unwrap(), "first");
    symlink("v2", dir.path("..next")).unwrap();
    fs::rename(dir.path("..next"), dir.path("..data")).unwrap();
    clock.advance(1);
    assert_eq!(read(&source).await.unwrap(), "second");
}

#[tokio::test]
async fn a_file_that_is_written_in_place_is_used_after_two_equal_reads() {
    let (dir, clock) = (Dir::new("partial"), TestClock::default());
    let path = dir.path("token");
    fs::write(&path, "first").unwrap();
    let source = source(&path, &clock);
    assert_eq!(read(&source).await.unwrap(), "first");
    // Truncated, half written, whole: as by a program that opens the file and writes.
    for (text, expected) in [
        ("", "first"),
        ("sec", "first"),
        ("second", "first"),
        ("second", "second"),
        ("second", "second"),
    ] {
        fs::write(&path, text).unwrap();
        clock.advance(1);
        assert_eq!(read(&source).await.unwrap(), expected, "{text:?}");
    }
}

#[tokio::test]
async fn while_the_file_is_unusable_the_last_token_is_used_until_it_expires() {
    let (fixture, dir) = (Fixture::new(), Dir::new("vanished"));
    let path = dir.path("token");
    let jwt = fixture.authority.issue(&TokenRequest::session_bound(
        "agent",
        fixture.agent.thumbprint(),
    ));
    fs::write(&path, &jwt).unwrap();
    let source = source(&path, &fixture.clock);
    let token = source.token().await.unwrap();
    assert_eq!(
        token.certificate(),
        Some(fixture.agent.thumbprint()),
        "read from the JWT"
    );
    let breakages = || -> [Box<dyn Fn()>; 5] {
        let (gone, empty, binary, two, long) = (
            path.clone(),
            path.clone(),
            path.clone(),
            path.clone(),
            path.clone(),
        );
        [
            Box::new(move || fs::remove_file(&gone).unwrap()),
            Box::new(move || fs::write(&empty, "\n").unwrap()),
            Box::new(move || fs::write(&binary, [0xFF, 0xFE]).unwrap()),
            Box::new(move || fs::write(&two, "one two").unwrap()),
            Box::new(move || fs::write(&long, "a".repeat(100_000)).unwrap()),
        ]
    };
    for break_file in breakages() {
        break_file();
        fixture.clock.advance(1);
        assert_eq!(source.token().await.unwrap(), token);
    }
    fixture.clock.advance(600);
    let error = source.token().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fault()),
        (ErrorKind::File, Fault::Configuration)
    );
    assert!(error.to_string().contains("longer than"), "{error}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "fresh").unwrap();
    fixture.clock.advance(1);
    assert_eq!(read(&source).await.unwrap(), "fresh");
}

/// It was not replaced in time.
#[tokio::test]
async fn an_expired_token_in_the_file_is_an_error() {
    let (fixture, dir) = (Fixture::new(), Dir::new("expired"));
    let path = dir.path("token");
    let issue = || fixture.authority.issue(&TokenRequest::bearer("agent"));
    fs::write(&path, issue()).unwrap();
    let now = std::sync::Arc::new(std::sync::Mutex::new(std::time::SystemTime::now()));
    let shown = now.clone();
    let mut options = TokenFileOptions::default();
    options.clock = Clock::from_fn(move || *shown.lock().unwrap());
    let source = TokenFile::with(&path, options);
    let token = source.token().await.unwrap();
    *now.lock().unwrap() = token.expires_at().unwrap();
    for _ in 0..3 {
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::File, "{error}");
        let shown = error.to_string();
        assert!(
            shown.contains("expired") && shown.contains(path.to_str().unwrap()),
            "{shown}"
        );
        assert!(error.is_worth_another_try());
    }
    assert_eq!(
        source.counts().requested,
        2,
        "and the file is read once in an interval"
    );
    dir.replace("token", "another");
    *now.lock().unwrap() += Duration::from_secs(1);
    assert_eq!(read(&source).await.unwrap(), "another");
}

#[tokio::test]
async fn an_error_names_the_path_and_quotes_nothing_of_the_file() {
    let (dir, clock) = (Dir::new("errors"), TestClock::default());
    let path = dir.path("token");
    for (text, reason) in [
        (None, "cannot be read"),
        (Some("".into()), "empty"),
        (
            Some("secret with spaces".into()),
            "one access token and nothing else",
        ),
        (Some("sécret".into()), "one access token and nothing else"),
        (Some("secret".repeat(11_000)), "longer than 65536"),
        (
            Some(format!("secret{}", " ".repeat(100_000))),
            "longer than 81920",
        ),
    ] {
        if let Some(text) = &text {
            fs::write(&path, text).unwrap();
        }
        let error = source(&path, &clock).token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::File);
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains(path.to_str().unwrap()) && shown.contains(reason),
            "{shown}"
        );
        assert!(
            !shown.contains("secret") && !shown.contains("sécret"),
            "{shown}"
        );
        assert!(error.is_worth_another_try());
    }
    let error = source(&dir.0, &clock).token().await.unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn a_thousand_callers_read_the_file_once() {
    let (dir, clock) = (Dir::new("crowd"), TestClock::default());
    dir.replace("token", "first");
    // A clock that stands still, so that the test's own pace does not count.
    let still = std::time::SystemTime::now();
    let mut options = TokenFileOptions::default();
    options.interval = Duration::from_secs(5);
    options.clock = Clock::from_fn(move || still);
    let source = TokenFile::with(dir.path("token"), options);
    let tokens: Vec<Token> =
        join_all((0..1000).map(|_| async { source.token().await.unwrap() })).await;
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    source.token().await.unwrap();
    assert_eq!(source.counts().requested, 1);
    drop(clock);
}

#[tokio::test]
async fn after_a_refusal_the_file_is_read_at_once() {
    let (dir, still) = (Dir::new("refused"), std::time::SystemTime::now());
    let mut options = TokenFileOptions::default();
    options.clock = Clock::from_fn(move || still);
    let source = TokenFile::with(dir.path("token"), options);
    fs::write(dir.path("token"), "first").unwrap();
    let first = source.token().await.unwrap();
    fs::write(dir.path("token"), "second").unwrap();
    assert_eq!(
        source.token().await.unwrap(),
        first,
        "the clock stands still"
    );
    source.refused(&first);
    assert_eq!(
        *source.token().await.unwrap().access_token(),
        AccessToken::new("second").unwrap()
    );
}

#[derive(Default)]
struct NewTokens(std::sync::Mutex<Vec<bool>>);

impl bowline_token::Observer for NewTokens {
    fn event(&self, event: &bowline_token::Event<'_>) {
        if let bowline_token::Event::Obtained { is_new, .. } = event {
            self.0.lock().unwrap().push(*is_new);
        }
    }
}

#[tokio::test]
async fn an_observer_is_told_whether_the_file_holds_another_token() {
    let (dir, told) = (
        Dir::new("observer"),
        std::sync::Arc::new(NewTokens::default()),
    );
    let mut options = TokenFileOptions::default();
    // Each question reads the file.
    options.interval = Duration::ZERO;
    options.observer = Some(told.clone());
    let source = TokenFile::with(dir.path("token"), options);
    for text in ["first", "first", "second"] {
        dir.replace("token", text);
        source.token().await.unwrap();
    }
    assert_eq!(*told.0.lock().unwrap(), [true, false, true]);
}

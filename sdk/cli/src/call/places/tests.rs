use clap::{Args, Command, FromArgMatches};

use super::*;

fn read(args: &[&str], origin: &str) -> Result<Vec<String>, Failure> {
    let matches = CallOptions::augment_args(Command::new("call"))
        .get_matches_from([&["call", "https://a"], args].concat());
    let options = CallOptions::from_arg_matches(&matches).expect("options");
    let origin = origin.parse().expect("an origin");
    let found = places(&options, &origin)?;
    Ok(found.iter().map(ToString::to_string).collect())
}

#[test]
fn the_first_option_that_fits_the_host_and_the_port_counts() {
    let cases: &[(&[&str], &str, &[&str])] = &[
        (&[], "https://a", &[]),
        (
            &["--resolve", "a:443:10.0.0.1"],
            "https://a",
            &["10.0.0.1:443"],
        ),
        (&["--resolve", "a:443:10.0.0.1"], "https://a:8443", &[]),
        (&["--resolve", "b:443:10.0.0.1"], "https://a", &[]),
        (
            &["--resolve", "A:443:::1,[::2],10.0.0.1"],
            "https://a",
            &["[::1]:443", "[::2]:443", "10.0.0.1:443"],
        ),
        (
            &["--resolve", "*:443:10.0.0.1", "--resolve", "a:443:10.0.0.2"],
            "https://a",
            &["10.0.0.1:443"],
        ),
        (
            &["--resolve", "[::1]:443:10.0.0.1"],
            "https://[::1]",
            &["10.0.0.1:443"],
        ),
        (&["--connect-to", "a:443:b:8443"], "https://a", &["b:8443"]),
        (&["--connect-to", "::b:"], "https://a", &["b:443"]),
        (&["--connect-to", ":::8443"], "https://a", &["a:8443"]),
        (&["--connect-to", "c::b:"], "https://a", &[]),
        (
            &["--connect-to", "::[::1]:8443"],
            "https://a",
            &["[::1]:8443"],
        ),
        (
            &["--connect-to", "::b:8443", "--resolve", "b:8443:10.0.0.1"],
            "https://a",
            &["10.0.0.1:8443"],
        ),
    ];
    for (args, origin, expected) in cases {
        assert_eq!(read(args, origin).expect("places"), *expected, "{args:?}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_even_where_it_is_about_another_host() {
    for args in [
        ["--resolve", "z:443"],
        ["--resolve", "z:443:"],
        ["--resolve", "z:443:name"],
        ["--resolve", "z::10.0.0.1"],
        ["--resolve", "z:70000:10.0.0.1"],
        ["--connect-to", "z:443:b"],
        ["--connect-to", "z:443:b:1:2"],
        ["--connect-to", "z:x:b:1"],
    ] {
        let failure = read(&args, "https://a").expect_err(args[1]);
        assert!(matches!(failure, Failure::Usage(message) if message.contains(args[1])));
    }
}

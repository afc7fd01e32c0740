//! Numbers of seconds, in every spelling that JSON has for them.

use bowline_proof::seconds;
use serde_json::Value;

fn read(text: &str) -> Option<u64> {
    seconds(&serde_json::from_str::<Value>(text).unwrap())
}

#[test]
fn one_number_of_seconds_has_many_spellings() {
    for text in [
        "3600",
        "3600.0",
        "3.6e3",
        "3.6E+3",
        "36000e-1",
        "0.36e4",
        "3600.00000",
        "3600.9",
    ] {
        assert_eq!(read(text), Some(3600), "{text}");
    }
    for (text, number) in [
        ("0", 0),
        ("0.0", 0),
        ("-0", 0),
        ("-0.0", 0),
        ("0.5", 0),
        ("4000000000", 4_000_000_000),
        ("18446744073709551615", u64::MAX),
        ("18446744073709551616", u64::MAX),
        ("1e300", u64::MAX),
    ] {
        assert_eq!(read(text), Some(number), "{text}");
    }
}

#[test]
fn what_is_no_number_of_seconds_is_not_read() {
    for text in [
        "-1", "-0.5", "-1e300", "null", "true", "\"3600\"", "\"\"", "[3600]", "{}",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

use super::*;
use crate::RedisErrorKind;

fn limit(maxmemory: &str, policy: &str) -> Result<Option<u64>, RedisError> {
    memory_limit(&format!(
        "# Memory\r\nused_memory:1\r\nmaxmemory:{maxmemory}\r\nmaxmemory_human:0B\r\n\
         maxmemory_policy:{policy}\r\n"
    ))
}

#[test]
fn only_a_redis_that_drops_nothing_can_be_used() {
    assert_eq!(limit("0", "noeviction").unwrap(), None);
    // Without a limit no policy is ever applied.
    assert_eq!(limit("0", "allkeys-lru").unwrap(), None);
    assert_eq!(limit("1048576", "noeviction").unwrap(), Some(1_048_576));
    for policy in EVICTING {
        let error = limit("1048576", policy).unwrap_err();
        assert_eq!(error.kind(), RedisErrorKind::Refused);
        let text = error.to_string();
        assert!(text.contains(policy), "{text}");
        assert!(text.contains("CONFIG SET maxmemory-policy noeviction"));
    }
}

#[test]
fn a_redis_that_does_not_say_what_it_drops_is_refused_and_not_quoted() {
    for (maxmemory, policy) in [
        ("", "noeviction"),
        ("-1", "noeviction"),
        ("many", "noeviction"),
    ] {
        limit(maxmemory, policy).unwrap_err();
    }
    memory_limit("").unwrap_err();
    memory_limit("maxmemory:1\r\n").unwrap_err();
    let text = limit("1", "sesame\u{1b}[31m").unwrap_err().to_string();
    assert!(!text.contains("sesame"), "{text}");
}

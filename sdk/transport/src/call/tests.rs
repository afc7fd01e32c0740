use super::*;

const PROTOCOL: Protocol = Protocol::new("some_rpc");
const TABLE: Operations = Operations::new(PROTOCOL, &["SendMessage", "GetTask"]);

fn call<'a>(method: &'a str, target: Option<&'a str>, is_destructive: bool) -> Call<'a> {
    Call {
        method,
        target,
        is_destructive,
    }
}

#[test]
fn what_the_table_does_not_name_is_counted_together() {
    assert_eq!(TABLE.of("GetTask").name(), "GetTask");
    assert_eq!(TABLE.of("GetTask").protocol(), PROTOCOL);
    for unknown in ["gettask", "", "x'; drop"] {
        assert_eq!(TABLE.of(unknown), TABLE.other());
    }
}

#[test]
fn a_call_is_covered_by_its_method_its_target_or_what_it_does_and_by_nothing_else() {
    let claims = RequestBoundCalls::none()
        .for_method("wipe")
        .for_target("call", "delete")
        .for_destructive();
    for (covered, given) in [
        (true, call("wipe", None, false)),
        (true, call("wipe", Some("anything"), false)),
        (true, call("call", Some("delete"), false)),
        (true, call("get", Some("x"), true)),
        (false, call("call", Some("read"), false)),
        (false, call("call", None, false)),
        (false, call("get", Some("delete"), false)),
        (false, call("Wipe", None, false)),
    ] {
        assert_eq!(claims.cover(&given), covered, "{given:?}");
        let mut extensions = Extensions::new();
        claims.apply_to(&given, &mut extensions);
        assert_eq!(extensions.get::<RequestBoundProof>().is_some(), covered);
    }
    assert!(!RequestBoundCalls::none().cover(&call("wipe", Some("delete"), true)));
}

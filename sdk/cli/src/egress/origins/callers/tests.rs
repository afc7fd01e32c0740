use super::*;

fn only(uids: &[u32]) -> OnlyCallers {
    OnlyCallers(uids.iter().copied().map(User).collect())
}

#[test]
fn a_request_of_another_user_or_of_an_unknown_one_is_refused_with_the_reason() {
    let name = HostPort::parse("api.example").expect("a name");
    let only = only(&[1001, 1002]);
    for (peer, said) in [
        (Peer::User(1001), None),
        (Peer::User(1002), None),
        (Peer::User(0), Some("requests of uid:0 do not go there")),
        (
            Peer::User(1003),
            Some("requests of uid:1003 do not go there"),
        ),
        (Peer::Unknown, Some("does not say whose this one is")),
    ] {
        let refused = only.check(&name, peer).err();
        assert_eq!(refused.is_some(), said.is_some(), "{peer:?}");
        if let (Some(refused), Some(said)) = (refused, said) {
            assert_eq!(
                (refused.status, refused.reason),
                (StatusCode::FORBIDDEN, "callers")
            );
            assert!(
                format!("{refused:?}").contains(said),
                "{peer:?}: {refused:?}"
            );
        }
    }
}

#[test]
fn a_user_that_may_not_use_the_egress_cannot_be_named_for_an_origin() {
    let all = Callers::named(&[User(1001), User(1002)]).expect("users");
    assert_eq!(only(&[1002]).check_admitted(&all), Ok(()));
    let refused = only(&[1002, 1003]).check_admitted(&all).expect_err("1003");
    assert_eq!(
        refused,
        "`callers`: uid:1003 may not use this proxy at all, only uid:1001, uid:1002 may"
    );
}

use super::names_access_token;

#[test]
fn an_access_token_in_the_query_is_found_however_it_is_escaped() {
    for query in [
        "access_token=x",
        "a=b&access_token",
        "access%5Ftoken=x",
        "%61ccess_toke%6e=",
        "a&access_token=&b",
    ] {
        assert!(names_access_token(query), "{query}");
    }
    for query in [
        "",
        "a=access_token",
        "xaccess_token=1",
        "access_token%=1",
        "access_token%3D=1",
        "%",
        "%4",
    ] {
        assert!(!names_access_token(query), "{query}");
    }
}

use super::{MAX_PATH, loggable};

#[test]
fn a_logged_path_is_one_word_of_bounded_length() {
    assert_eq!(
        loggable("/a/b-c_~!$&'()*+,;=:@%20"),
        "/a/b-c_~!$&'()*+,;=:@%20"
    );
    assert_eq!(loggable("/a\u{1b}[2J \"\\"), "/a%1B[2J%20%22%5C");
    assert_eq!(loggable("/\u{9b}ä"), "/%C2%9B%C3%A4");
    let long = loggable(&"/ä".repeat(MAX_PATH)).into_owned();
    assert_eq!(long.len(), MAX_PATH + 3);
}

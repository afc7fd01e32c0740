use super::*;

fn between_after(text: &str) -> bool {
    let mut position = Position::new();
    let sent = position.follow(Bytes::copy_from_slice(text.as_bytes()));
    assert_eq!(sent, text.as_bytes());
    position.is_between()
}

#[test]
fn a_comment_fits_between_events_only() {
    for text in [
        "",
        "data: a\n\n",
        "data: a\r\n\r\n",
        "data: a\r\r",
        "data: a\n\r",
        "data: a\r\n\n",
        "\n\n\n",
        "data: a\n\ndata: b\n\n",
        "\u{feff}data: a\n\n",
    ] {
        assert!(between_after(text), "{text:?}");
    }
    for text in [
        "d",
        "data: a",
        "data: a\n",
        "data: a\r",
        "data: a\r\n",
        "data: a\n\nid: 1\n",
        "data: a\n\ndata: b",
        "\u{feff}",
        ": comment\n",
    ] {
        assert!(!between_after(text), "{text:?}");
    }
}

#[test]
fn the_chunks_do_not_matter() {
    let text = "event: a\r\ndata: b\r\n\r\ndata: c\n\n\rid\n";
    for chunk in 1..text.len() {
        let mut position = Position::new();
        for (at, part) in text.as_bytes().chunks(chunk).enumerate() {
            position.follow(Bytes::copy_from_slice(part));
            let end = text.len().min((at + 1) * chunk);
            assert_eq!(position.is_between(), between_after(&text[..end]), "{end}");
        }
    }
}

#[test]
fn a_mark_after_a_comment_is_dropped_however_it_arrives() {
    for chunk in 1..5 {
        let mut position = Position::new();
        position.comment_sent();
        let sent: Vec<u8> = "\u{feff}data: a\n\n\u{feff}"
            .as_bytes()
            .chunks(chunk)
            .flat_map(|part| position.follow(Bytes::copy_from_slice(part)).to_vec())
            .collect();
        assert_eq!(String::from_utf8(sent).unwrap(), "data: a\n\n\u{feff}");
    }
    let mut position = Position::new();
    position.comment_sent();
    assert_eq!(position.follow(Bytes::from_static(b"data: a")), "data: a");
}

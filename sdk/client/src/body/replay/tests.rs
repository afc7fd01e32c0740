use http_body_util::{Full, StreamBody};

use super::*;

fn frames<const N: usize>(texts: [&'static str; N]) -> [Result<Frame<Bytes>, BoxError>; N] {
    texts.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
}

async fn collect(body: ReplayBody) -> Bytes {
    body.collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn a_body_within_the_limit_can_be_sent_again_however_much_of_it_was_sent() {
    let body = || StreamBody::new(futures_util::stream::iter(frames(["he", "llo"])));
    for frames in 0..=2 {
        let (mut first, mut kept) = ReplayBody::new(body(), 5);
        for _ in 0..frames {
            first.frame().await.unwrap().unwrap();
        }
        let second = kept.replay().unwrap();
        assert!(
            first.frame().await.unwrap().is_err(),
            "the first sending has lost it"
        );
        assert_eq!(collect(second).await, "hello");
        assert_eq!(collect(kept.replay().unwrap()).await, "hello");
        assert!(kept.was_sent());
    }
}

#[tokio::test]
async fn what_is_left_to_send_is_told_exactly() {
    let (mut first, mut kept) = ReplayBody::new(Full::new(Bytes::from_static(b"hello")), 5);
    assert_eq!(first.size_hint().exact(), Some(5));
    first.frame().await.unwrap().unwrap();
    assert_eq!(first.size_hint().exact(), Some(0));
    assert!(first.is_end_stream());
    let again = kept.replay().unwrap();
    assert_eq!(again.size_hint().exact(), Some(5));
    assert!(!again.is_end_stream() && !kept.was_sent());
}

#[tokio::test]
async fn trailers_are_sent_again_too() {
    let trailers =
        HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
    let frames = [
        Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"a"))),
        Ok(Frame::trailers(trailers.clone())),
    ];
    let (first, mut kept) = ReplayBody::new(StreamBody::new(futures_util::stream::iter(frames)), 5);
    assert_eq!(first.collect().await.unwrap().trailers(), Some(&trailers));
    assert_eq!(
        kept.replay().unwrap().collect().await.unwrap().trailers(),
        Some(&trailers)
    );
}

#[tokio::test]
async fn an_empty_body_can_be_sent_again_even_if_nobody_polled_it() {
    let (_body, mut kept) = ReplayBody::new(http_body_util::Empty::new(), 0);
    assert_eq!(collect(kept.replay().unwrap()).await, "");
}

#[tokio::test]
async fn a_body_over_the_limit_cannot() {
    let (body, mut kept) = ReplayBody::new(Full::new(Bytes::from_static(b"hello!")), 5);
    collect(body).await;
    assert!(kept.replay().is_none());
}

#[tokio::test]
async fn a_body_that_failed_is_the_callers_fault_and_is_not_sent_again() {
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"a"))),
        Err(BoxError::from("disk")),
    ];
    let (body, mut kept) = ReplayBody::new(StreamBody::new(futures_util::stream::iter(frames)), 99);
    assert!(body.collect().await.is_err());
    assert!(kept.failed());
    assert!(kept.replay().is_none());
}

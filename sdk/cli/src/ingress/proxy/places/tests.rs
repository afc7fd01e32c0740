use super::*;

#[test]
fn one_client_cannot_have_all_places() {
    let places = Places::new(100);
    let (greedy, modest) = (Client(1), Client(2));
    let held: Vec<_> = (0..100).map_while(|_| places.take(greedy)).collect();
    assert_eq!(held.len(), 80, "while there are many, nobody is limited");
    let others: Vec<_> = (0..100).map_while(|_| places.take(modest)).collect();
    assert_eq!(others.len(), 20);
    assert!(places.take(Client(3)).is_none(), "none is left");
    drop(others);
    assert!(places.take(greedy).is_none());
    assert!(places.take(modest).is_some());
    drop(held);
    assert!(places.take(greedy).is_some());
    assert!(
        places.state().by_client.is_empty(),
        "what ended is forgotten"
    );
}

#[test]
fn a_single_place_can_be_taken() {
    let places = Places::new(1);
    let place = places.take(Client(1)).unwrap();
    assert!(places.take(Client(2)).is_none());
    drop(place);
    assert!(places.take(Client(2)).is_some());
}

#[test]
fn an_address_counts_with_its_neighbours() {
    let of = |text: &str| prefix(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}

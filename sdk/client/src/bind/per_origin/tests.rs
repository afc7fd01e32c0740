use super::*;

#[test]
fn origins_that_nobody_is_connected_to_are_forgotten_in_the_end() {
    let origins = PerOrigin::<u32>::default();
    let value = |number: usize| {
        let uri = format!("https://h{number}.example.com/").parse().unwrap();
        origins.get_or_insert_with(&Origin::from_uri(&uri).unwrap(), u32::default)
    };
    let connected = value(0);
    for number in 1..3 * MAX_ORIGINS {
        value(number);
    }
    assert!(origins.0.lock().unwrap().len() <= MAX_ORIGINS);
    assert!(Arc::ptr_eq(&connected, &value(0)));
}

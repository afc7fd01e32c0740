use super::*;

#[test]
fn origins_that_nobody_is_connected_to_are_forgotten_in_the_end() {
    let key = DpopKey::generate().unwrap();
    let binding = DpopBinding::new(key, Duration::MAX, Observers(Arc::new([])));
    let nonces = |number: usize| {
        let uri = format!("https://h{number}.example.com/").parse().unwrap();
        binding.nonces(&Origin::of(&uri).unwrap())
    };
    let connected = nonces(0);
    for number in 1..3 * MAX_ORIGINS {
        nonces(number);
    }
    assert!(binding.origins.lock().unwrap().len() <= MAX_ORIGINS);
    assert!(Arc::ptr_eq(&connected, &nonces(0)));
}

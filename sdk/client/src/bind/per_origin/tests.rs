use super::*;

fn value(origins: &PerOrigin<u32>, number: usize) -> Arc<u32> {
    let uri = format!("https://h{number}.example.com/").parse().unwrap();
    origins.get_or_insert_with(&Origin::from_uri(&uri).unwrap(), u32::default)
}

fn number(origins: &PerOrigin<u32>) -> usize {
    origins.0.lock().unwrap().len()
}

#[test]
fn origins_without_a_connection_are_forgotten_in_the_end() {
    let origins = PerOrigin::default();
    let connected = value(&origins, 0);
    for number in 1..3 * MAX_ORIGINS {
        value(&origins, number);
    }
    assert!(number(&origins) <= MAX_ORIGINS);
    assert!(Arc::ptr_eq(&connected, &value(&origins, 0)));
}

#[test]
fn one_origin_more_than_the_bound_in_turn_is_rarely_forgotten() {
    let origins = PerOrigin::default();
    let mut known = Vec::new();
    for number in 0..=MAX_ORIGINS {
        known.push(Arc::downgrade(&value(&origins, number)));
    }
    let mut forgotten = 0;
    for _ in 0..5 {
        for (number, known) in known.iter_mut().enumerate() {
            let value = value(&origins, number);
            if known.as_ptr() != Arc::as_ptr(&value) {
                forgotten += 1;
                *known = Arc::downgrade(&value);
            }
        }
    }
    assert!(forgotten < 100, "{forgotten} of 5,125");
}

#[test]
fn origins_with_a_connection_stay_and_their_number_falls_when_the_connections_close() {
    let origins = PerOrigin::default();
    let connected: Vec<_> = (0..2 * MAX_ORIGINS).map(|n| value(&origins, n)).collect();
    for (number, connected) in connected.iter().enumerate() {
        assert!(Arc::ptr_eq(connected, &value(&origins, number)));
    }
    drop(connected);
    for number in 0..2 * MAX_ORIGINS {
        value(&origins, 2 * MAX_ORIGINS + number);
    }
    assert!(number(&origins) <= MAX_ORIGINS);
}

use proptest::{collection::vec, prelude::*};

use super::fixed_width;

const WIDTH: usize = 32;

#[test]
fn short_integers_are_padded_and_sign_bytes_dropped() {
    let signature = fixed_width(&sequence(&[integer(&[1]), integer(&[0, 0xFF])]), 2);
    assert_eq!(signature.unwrap(), [0, 1, 0, 0xFF]);
}

#[test]
fn anything_but_strict_der_is_refused() {
    let one = integer(&[1]);
    let good = sequence(&[one.clone(), one.clone()]);
    assert!(fixed_width(&good, 1).is_some());
    for wrong in [
        vec![],
        vec![0x30],
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        sequence(std::slice::from_ref(&one)),
        sequence(&[one.clone(), one.clone(), one.clone()]),
        // Not minimal, negative, zero, empty, too long for the width, another tag.
        sequence(&[integer(&[0, 1]), one.clone()]),
        sequence(&[one.clone(), integer(&[0, 0, 0x80])]),
        sequence(&[integer(&[0x80]), one.clone()]),
        sequence(&[integer(&[0]), one.clone()]),
        sequence(&[one.clone(), integer(&[])]),
        sequence(&[integer(&[1, 1]), one.clone()]),
        sequence(&[one.clone(), vec![0x03, 1, 1]]),
        [&[0x31, 6][..], &one, &one].concat(),
        // The long and the indefinite form of a length.
        [&[0x30, 0x81, 6][..], &one, &one].concat(),
        [&[0x30, 0x80][..], &one, &one, &[0, 0]].concat(),
    ] {
        assert_eq!(fixed_width(&wrong, 1), None, "{wrong:02x?}");
    }
}

proptest! {
    #[test]
    fn any_two_positive_integers_come_out_padded(
        r in magnitude(), s in magnitude(),
    ) {
        let der = sequence(&[positive(&r), positive(&s)]);
        let signature = fixed_width(&der, WIDTH).unwrap();
        prop_assert_eq!(&signature, &[padded(&r), padded(&s)].concat());
    }

    /// What is taken is the one DER spelling of what comes out.
    #[test]
    fn any_bytes_that_are_taken_are_der(bytes in vec(any::<u8>(), 0..12)) {
        if let Some(signature) = fixed_width(&bytes, 4) {
            let (r, s) = signature.split_at(4);
            prop_assert_eq!(bytes, sequence(&[positive(r), positive(s)]));
        }
    }
}

/// Up to 32 bytes, often with leading zeros, never zero.
fn magnitude() -> impl Strategy<Value = Vec<u8>> {
    (0..WIDTH, vec(any::<u8>(), WIDTH)).prop_map(|(zeros, mut bytes)| {
        bytes[..zeros].fill(0);
        bytes[WIDTH - 1] |= 1;
        bytes
    })
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    [&vec![0; WIDTH - bytes.len()], bytes].concat()
}

fn positive(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|&byte| byte != 0).unwrap();
    let magnitude = &bytes[first..];
    match magnitude[0] {
        0x80.. => integer(&[&[0], magnitude].concat()),
        _ => integer(magnitude),
    }
}

fn integer(content: &[u8]) -> Vec<u8> {
    element(0x02, content)
}

fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &elements.concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    [&[tag, length], content].concat()
}

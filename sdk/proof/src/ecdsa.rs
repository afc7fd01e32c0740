//! TLS carries ECDSA signatures as DER, JWS as fixed-width `r‖s` (RFC 7518 §3.4, PR-4).

/// Turns `SEQUENCE { INTEGER r, INTEGER s }` into `r‖s`, each left-padded to `width` bytes.
///
/// `None` for anything but strict DER of two positive integers that fit. The sequence of a P-384
/// signature has at most 102 bytes of content, so only the short form of lengths is right.
pub(crate) fn fixed_width(der: &[u8], width: usize) -> Option<Vec<u8>> {
    let (sequence, rest) = element(0x30, der)?;
    let (r, after_r) = element(0x02, sequence)?;
    let (s, after_s) = element(0x02, after_r)?;
    if !rest.is_empty() || !after_s.is_empty() {
        return None;
    }
    let mut signature = Vec::with_capacity(2 * width);
    for integer in [positive(r)?, positive(s)?] {
        let padding = width.checked_sub(integer.len())?;
        signature.resize(signature.len() + padding, 0);
        signature.extend_from_slice(integer);
    }
    Some(signature)
}

/// The content of the element that `der` starts with, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    match der {
        [found, length @ 0..0x80, rest @ ..] if *found == tag => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}

/// The magnitude of a minimally encoded integer above zero.
fn positive(content: &[u8]) -> Option<&[u8]> {
    match *content {
        [0, 0x80..=0xFF, ..] => Some(&content[1..]),
        [1..=0x7F, ..] => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
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
}

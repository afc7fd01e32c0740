//! Lists of challenges as a property: any mixture of legal challenges, spaced and split over field
//! lines as RFC 9110 allows, is read in full, and rubbish in front hides nothing of it.

use bowline_proof::{Challenge, challenges};
use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use proptest::collection::vec;
use proptest::prelude::*;

/// A challenge, and how it stands on the wire: elements that a comma separates.
#[derive(Clone, Debug)]
struct Written {
    challenge: Challenge,
    elements: Vec<String>,
}

fn written() -> impl Strategy<Value = Written> {
    let scheme = "[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,8}";
    prop_oneof![
        4 => (scheme, space(), vec(parameter(), 0..4)).prop_map(with_parameters),
        1 => (scheme, space(), "[A-Za-z0-9._~+/-]{1,12}={0,3}").prop_map(|(scheme, space, token68)| Written {
            elements: vec![format!("{scheme}{space}{token68}")],
            challenge: Challenge { scheme, params: Vec::new() },
        }),
    ]
}

type Parameter = ((String, String), String);

fn with_parameters((scheme, space, params): (String, String, Vec<Parameter>)) -> Written {
    let mut elements: Vec<_> = params.iter().map(|(_, text)| text.clone()).collect();
    match elements.first_mut() {
        Some(first) => *first = format!("{scheme}{space}{first}"),
        None => elements.push(scheme.clone()),
    }
    let params = params.into_iter().map(|(parameter, _)| parameter).collect();
    Written {
        challenge: Challenge { scheme, params },
        elements,
    }
}

/// `token BWS "=" BWS ( token / quoted-string )`: the parameter, and its text.
fn parameter() -> impl Strategy<Value = Parameter> {
    let name = "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}";
    let unquoted = "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}".prop_map(|value| (value.clone(), value));
    let quoted = "[ !#-\\[\\]-~\"\\\\]{0,12}".prop_map(|value: String| {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        (value, format!("\"{escaped}\""))
    });
    (
        name,
        "[ \t]{0,2}",
        "[ \t]{0,2}",
        prop_oneof![unquoted, quoted],
    )
        .prop_map(|(name, before, after, (value, text))| {
            let written = format!("{name}{before}={after}{text}");
            ((name, value), written)
        })
}

fn space() -> impl Strategy<Value = String> {
    " {1,3}"
}

/// The elements as field lines: `splits` says after which commas a new line begins.
fn lines(all: &[Written], commas: &[String], splits: &[bool]) -> Vec<String> {
    let elements = all.iter().flat_map(|written| &written.elements);
    let mut lines = vec![String::new()];
    for (at, element) in elements.enumerate() {
        if at > 0 {
            if splits[at % splits.len()] {
                lines.push(String::new());
            } else {
                lines
                    .last_mut()
                    .unwrap()
                    .push_str(&commas[at % commas.len()]);
            }
        }
        lines.last_mut().unwrap().push_str(element);
    }
    lines
}

fn read(lines: &[String]) -> Vec<Challenge> {
    let fields = lines
        .iter()
        .map(|line| (WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap()));
    challenges(&fields.collect::<HeaderMap>())
}

fn expected(all: &[Written]) -> Vec<Challenge> {
    all.iter()
        .map(|written| written.challenge.clone())
        .collect()
}

fn all() -> impl Strategy<Value = Vec<Written>> {
    vec(written(), 1..6)
}

fn commas() -> impl Strategy<Value = Vec<String>> {
    vec("[ \t]{0,2},([ \t]{0,2},)?[ \t]{0,2}", 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_mixture_of_legal_challenges_is_read(
        all in all(), commas in commas(), splits in vec(any::<bool>(), 1..6),
    ) {
        prop_assert_eq!(read(&lines(&all, &commas, &splits)), expected(&all));
    }

    #[test]
    fn rubbish_on_a_line_of_its_own_hides_nothing(
        all in all(), commas in commas(), splits in vec(any::<bool>(), 1..6), rubbish in "[ -~]{0,24}",
    ) {
        let mut lines = lines(&all, &commas, &splits);
        lines.insert(0, rubbish);
        prop_assert!(read(&lines).ends_with(&expected(&all)), "{lines:?}");
    }

    #[test]
    fn rubbish_before_a_comma_hides_nothing(
        all in all(), commas in commas(), splits in vec(any::<bool>(), 1..6), rubbish in "[ !#-~]{0,24}",
    ) {
        let mut lines = lines(&all, &commas, &splits);
        lines[0] = format!("{rubbish}, {}", lines[0]);
        prop_assert!(read(&lines).ends_with(&expected(&all)), "{lines:?}");
    }

    /// Here the rubbish leaves a quoted string open, which ends where the next one begins.
    #[test]
    fn an_open_quote_hides_nothing_that_has_a_parameter_in_quotes(
        rubbish in "[A-Za-z]{1,5} [a-z]{1,5}=\"[a-z ,=]{0,12}", value in "[a-z]{1,8}",
    ) {
        let line = format!("{rubbish}, Bearer error=\"{value}\"");
        let found = read(std::slice::from_ref(&line));
        let wanted = Challenge::bearer().with("error", value);
        prop_assert_eq!(found.last(), Some(&wanted), "{}", line);
    }
}

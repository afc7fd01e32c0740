//! Reads `WWW-Authenticate` (RFC 9110 §11.6.1): the one reader of challenges, over bytes.
//!
//! ```text
//! WWW-Authenticate = #challenge                 §5.6.1: empty elements count for nothing,
//!                                               §5.3: all field lines are one list
//! challenge  = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
//! auth-param = token BWS "=" BWS ( token / quoted-string )
//! ```
//!
//! Challenges, and the parameters of one challenge, are separated by the same comma. What an
//! element is shows only behind its first token: `=` makes it a parameter of the challenge before
//! it, anything else starts a challenge:
//!
//! ```text
//! Negotiate YIIJ==, Bearer error="invalid_proof", scope="a b", DPoP algs="ES256"
//! ^ challenge       ^ challenge                   ^ parameter  ^ challenge
//! ```
//!
//! The reader takes what servers are known to write although the grammar does not allow it:
//! unquoted values with characters that no token has (`scope=files:read`), `;` for a comma, and no
//! comma at all between two parameters.
//!
//! What cannot be read is passed over, but never what follows it: the reader goes on behind the
//! next comma, or at the next `token SP` that has a parameter behind it, whichever comes first. A
//! parameter that comes before the next scheme is passed over too: nobody can say whose it is.

use super::Challenge;

/// Further challenges are left out.
const MAX_CHALLENGES: usize = 32;

/// The challenges of the field lines read so far.
#[derive(Default)]
pub(super) struct Reader {
    found: Vec<Challenge>,
    /// Whether a parameter that comes next belongs to the last challenge found.
    is_open: bool,
}

impl Reader {
    /// Reads one more field line of the same list.
    pub(super) fn line(&mut self, line: &[u8]) {
        let mut rest = Cursor { line, at: 0 };
        while rest.start_of_element() {
            if self.element(&mut rest).is_none() || !rest.is_separated() {
                self.unreadable();
                rest.resynchronise();
            }
        }
    }

    /// Something of the list cannot be read.
    pub(super) fn unreadable(&mut self) {
        self.is_open = false;
    }

    pub(super) fn into_challenges(self) -> Vec<Challenge> {
        self.found
    }

    /// A parameter of the challenge before it, or a challenge with its `token68` or its first
    /// parameter.
    fn element(&mut self, rest: &mut Cursor<'_>) -> Option<()> {
        let first = rest.token()?;
        if rest.equals_sign() {
            self.parameter(first, rest.value()?);
            return Some(());
        }
        self.challenge(first);
        let has_space = rest.space() > 0;
        if !has_space || rest.is_at_end_of_element() || rest.token68() {
            return Some(());
        }
        let name = rest.token()?;
        if !rest.equals_sign() {
            return None;
        }
        self.parameter(name, rest.value()?);
        Some(())
    }

    fn challenge(&mut self, scheme: &[u8]) {
        self.is_open = self.found.len() < MAX_CHALLENGES;
        if self.is_open {
            let (scheme, params) = (text(scheme), Vec::new());
            self.found.push(Challenge { scheme, params });
        }
    }

    fn parameter(&mut self, name: &[u8], value: String) {
        if let Some(challenge) = self.found.last_mut().filter(|_| self.is_open) {
            challenge.params.push((text(name), value));
        }
    }
}

/// What is left of a field line.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Goes to the next element; empty ones count for nothing.
    fn start_of_element(&mut self) -> bool {
        self.run(|byte| is_space(byte) || is_separator(byte));
        self.at < self.line.len()
    }

    /// Goes to where reading can go on after something unreadable.
    fn resynchronise(&mut self) {
        while let Some(byte) = self.peek() {
            let starts_token = self.at == 0 || !is_token(self.line[self.at - 1]);
            if is_separator(byte) || (starts_token && self.starts_challenge()) {
                return;
            }
            self.at += 1;
        }
    }

    /// Whether a scheme, white space and a whole parameter come next.
    fn starts_challenge(mut self) -> bool {
        self.token().is_some() && self.space() > 0 && self.starts_parameter()
    }

    fn starts_parameter(mut self) -> bool {
        self.token().is_some() && self.equals_sign() && self.value().is_some()
    }

    /// Whether the element that was just read ends here.
    fn is_separated(self) -> bool {
        let mut next = self;
        self.is_at_end_of_element() || (next.space() > 0 && next.starts_parameter())
    }

    fn is_at_end_of_element(mut self) -> bool {
        self.space();
        self.peek().is_none_or(is_separator)
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let token = self.run(is_token);
        (!token.is_empty()).then_some(token)
    }

    /// Passes over a `token68`, if it is one: `a=` is, `a=b` is a parameter.
    fn token68(&mut self) -> bool {
        let mut after = *self;
        let has_any = !after.run(is_token68).is_empty();
        after.run(|byte| byte == b'=');
        let is_token68 = has_any && after.is_at_end_of_element();
        if is_token68 {
            *self = after;
        }
        is_token68
    }

    /// Passes over `BWS "="`, if it comes next.
    fn equals_sign(&mut self) -> bool {
        let mut after = *self;
        after.space();
        let found = after.peek() == Some(b'=');
        if found {
            after.at += 1;
            *self = after;
        }
        found
    }

    /// `BWS ( token / quoted-string )`, and unquoted values that are no token.
    fn value(&mut self) -> Option<String> {
        self.space();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return self.quoted();
        }
        Some(text(self.run(is_unquoted)))
    }

    /// The rest of a quoted string. Where its end is missing, or is the next string's beginning
    /// (`realm="a, Bearer error="invalid_token"`), nothing is passed over: what looked like its
    /// content may be the next challenge.
    fn quoted(&mut self) -> Option<String> {
        let mut after = *self;
        let mut content = Vec::new();
        loop {
            let byte = after.next()?;
            match byte {
                b'"' => break,
                b'\\' => content.push(after.next()?),
                _ => content.push(byte),
            }
        }
        if !after
            .peek()
            .is_none_or(|byte| is_space(byte) || is_separator(byte))
        {
            return None;
        }
        *self = after;
        Some(text(&content))
    }

    fn space(&mut self) -> usize {
        self.run(is_space).len()
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.line[self.at..];
        let length = rest.iter().position(|byte| !belongs(*byte));
        let run = &rest[..length.unwrap_or(rest.len())];
        self.at += run.len();
        run
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }
}

/// `obs-text` (RFC 9110 §5.5) as UTF-8 where it is UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b';')
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §11.2.
fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

fn is_unquoted(byte: u8) -> bool {
    !is_space(byte) && !is_separator(byte) && byte != b'"'
}

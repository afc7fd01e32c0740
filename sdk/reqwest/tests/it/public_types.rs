//! Every type of this project that a public signature of the crate shows can be named through the
//! crate alone: its users need no other one in their `Cargo.toml`. A type that is missing here does
//! not compile.

use bowline_reqwest::{
    Authorized, Client, ClientError, ClientErrorKind, Error, ErrorKind, Fault, TokenError,
    TokenErrorKind, Transport,
};

/// Compiles if the type can be named.
fn named<T: ?Sized>() {}

#[test]
fn each_type_in_a_signature_is_exported() {
    // Of the client, and of token sources.
    named::<Authorized>();
    named::<Client>();
    named::<ClientError>();
    named::<ClientErrorKind>();
    named::<Fault>();
    named::<TokenError>();
    named::<TokenErrorKind>();
    // Of this crate.
    named::<Error>();
    named::<ErrorKind>();
    named::<Transport>();
}

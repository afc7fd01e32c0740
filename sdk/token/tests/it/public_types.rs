//! Every type of this project that a public signature of the crate shows can be named through the
//! crate alone: its users need no other one in their `Cargo.toml`. A type that is missing here does
//! not compile.

use bowline_token::{
    AccessToken, Algorithm, AssertionClaims, AssertionKey, AuthorizationServer, Authorized, Body,
    Builder, Client, ClientAuthentication, ClientError, Clock, Counts, Error, ErrorKind, Event,
    Exchanges, Fault, Fixed, Identity, KeyError, KeyErrorKind, MintError, MintErrorKind, OAuth,
    OAuthErrorCode, Observer, Reason, RequiredBinding, Thumbprint, Token, TokenFile,
    TokenFileOptions, TokenSource, TokenSourceId,
};

/// Compiles if the type can be named.
fn named<T: ?Sized>() {}

#[test]
fn each_type_in_a_signature_is_exported() {
    // Of the client: `Authorized`, `OAuth::builder`, `Token`.
    named::<AccessToken>();
    named::<Body>();
    named::<Client>();
    named::<ClientError>();
    named::<Fault>();
    named::<Identity>();
    named::<Thumbprint>();
    named::<TokenSourceId>();
    // Of keys: `AssertionKey`'s methods.
    named::<Algorithm>();
    named::<AssertionClaims<'_>>();
    named::<AssertionKey>();
    named::<KeyError>();
    named::<KeyErrorKind>();
    named::<MintError>();
    named::<MintErrorKind>();
    // Of this crate.
    named::<AuthorizationServer>();
    named::<Authorized>();
    named::<Builder>();
    named::<ClientAuthentication>();
    named::<Clock>();
    named::<Counts>();
    named::<Error>();
    named::<ErrorKind>();
    named::<Event<'_>>();
    named::<Exchanges>();
    named::<Fixed>();
    named::<OAuth>();
    named::<dyn Observer>();
    named::<Reason>();
    named::<OAuthErrorCode>();
    named::<RequiredBinding>();
    named::<Token>();
    named::<TokenFile>();
    named::<TokenFileOptions>();
    named::<dyn TokenSource>();
    #[cfg(unix)]
    named::<bowline_token::SeedOwner>();
}

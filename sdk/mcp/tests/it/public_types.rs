//! Every type of this project that a public signature of the crate shows can be named through the
//! crate alone: its users need no other one in their `Cargo.toml`. A type that is missing here does
//! not compile.

use bowline_mcp::{
    AccessToken, Call, Client, ClientError, ClientErrorKind, Error, ErrorKind, Fault, LegacySse,
    LegacySseWorker, OAuthHttp, Operation, Protocol, RequestBoundCalls, StreamableHttp, TokenError,
    TokenErrorKind, TokenSource,
};

/// Compiles if the type can be named.
fn named<T: ?Sized>() {}

#[test]
fn each_type_in_a_signature_is_exported() {
    // Of the client: settings and errors.
    named::<AccessToken>();
    named::<Client>();
    named::<ClientError>();
    named::<ClientErrorKind>();
    named::<Fault>();
    named::<Operation>();
    named::<Protocol>();
    // Of token sources.
    named::<TokenError>();
    named::<TokenErrorKind>();
    named::<dyn TokenSource>();
    // Of this crate.
    named::<Call<'_>>();
    named::<Error>();
    named::<ErrorKind>();
    named::<LegacySse>();
    named::<LegacySseWorker>();
    named::<OAuthHttp>();
    named::<RequestBoundCalls>();
    named::<StreamableHttp>();
}

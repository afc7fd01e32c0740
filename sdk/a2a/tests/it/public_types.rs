//! Every type of this project that a public signature of the crate shows can be named through the
//! crate alone: its users need no other one in their `Cargo.toml`. A type that is missing here does
//! not compile.

use bowline_a2a::{
    AccessToken, Call, Client, ClientError, Error, ErrorKind, Fault, LongTask, Operation,
    Operations, Protocol, RequestBoundCalls, TokenError, TokenSource, Transports, card, extension,
    long_task,
};

/// Compiles if the type can be named.
fn named<T: ?Sized>() {}

#[test]
fn each_type_in_a_signature_is_exported() {
    // Of the client: settings and errors.
    named::<AccessToken>();
    named::<Client>();
    named::<ClientError>();
    named::<Fault>();
    named::<Operation>();
    named::<Protocol>();
    // Of token sources.
    named::<TokenError>();
    named::<dyn TokenSource>();
    // Of this crate.
    named::<Call<'_>>();
    named::<Error>();
    named::<ErrorKind>();
    named::<LongTask>();
    named::<Operations>();
    named::<RequestBoundCalls>();
    named::<Transports>();
    // Cards.
    named::<card::CallRequirements>();
    named::<card::Card>();
    named::<card::CardRequirements>();
    named::<card::Cards>();
    named::<extension::InvalidExtension>();
    named::<extension::SessionBinding>();
    // Long tasks.
    named::<long_task::Agent>();
    named::<long_task::Cause>();
    named::<long_task::CaughtUp>();
    named::<long_task::Counter>();
    named::<long_task::Counts>();
    named::<long_task::LongTaskError>();
    named::<long_task::LongTaskErrorKind>();
    named::<long_task::Reconnect>();
    named::<long_task::RetryPolicy>();
    named::<long_task::TaskEvent>();
}

//! A2A transports over bowline's connection-aware client.
//!
//! [`Transports`] makes the transports of the official SDK ([`a2a_client`]) for its three bindings,
//! JSON-RPC, HTTP+JSON and gRPC. Messages, tasks and `A2AClient` stay the SDK's. Below, each
//! request first gets a connection, and then the session-binding proof of its token on that
//! connection, which is made once.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use a2a::{Message, Part, Role, SendMessageRequest};
//! use bowline_a2a::{Error, Transports, card::Cards};
//! use bowline_http_client::{AccessToken, Client, Identity, Trust};
//!
//! let url = "https://agent.example.com";
//! let client = Client::builder()
//!     .identity(Identity::from_pem_files("agent.pem", "agent-key.pem")?)
//!     .trust(Trust::from_pem_file("ca.pem")?)
//!     .build()?;
//! let card = Cards::new(client.clone()).resolve(url).await?;
//! let transports = Transports::new(client.clone(), url)?.token(AccessToken::new("eyJ...")?);
//! let agent = transports.factory().create_from_card(card.card()).await?;
//!
//! let message = Message::new(Role::User, vec![Part::text("Hello")]);
//! let request = SendMessageRequest { message, configuration: None, metadata: None, tenant: None };
//! match agent.send_message(&request).await {
//!     Ok(answer) => println!("{answer:?}"),
//!     Err(error) => match Error::from_a2a(&error) {
//!         Some(error) if error.may_have_been_processed() => println!("{error}; check first"),
//!         Some(error) => println!("{error}; not processed, try again"),
//!         None => println!("the agent reports {}", error.message),
//!     },
//! }
//! println!("{} signature(s)", client.stats().totals.signatures());
//! # Ok(()) }
//! ```
//!
//! - [`Transports`] says where calls may go, and with which token: requests go to the origins that
//!   the caller names and to no other, whatever an agent's card says (CL-6).
//! - [`Error`] is what went wrong below A2A: HTTP status, challenges, and whether the agent may
//!   have acted on the call (CL-7).
//! - [`LongTask`] follows a task across connections that end. It sends no message twice.
//! - [`card`] fetches agent cards and reads their requirements; [`extension`] is the one that
//!   announces session binding. A card's signatures are not verified.
//! - [`operation`] lists the operations that requests are counted as.
//!
//! # Features
//! - `grpc` (on by default): the gRPC binding, `Transports::grpc`. Without it this crate does not
//!   use tonic; the SDK's `a2a-pb` still does.
//!
//! Requirement ids such as `CL-6` refer to the project's wire profile.

mod agent_error;
pub mod card;
mod decode;
mod endpoint;
mod error;
mod events;
pub mod extension;
#[cfg(feature = "grpc")]
mod grpc;
mod http_json;
mod json_rpc;
pub mod long_task;
pub mod operation;
mod text;
mod transports;

pub use bowline_http_client::{
    AccessToken, Client, Error as ClientError, Fault, Operation, Protocol,
};
pub use bowline_token::{Error as TokenError, TokenSource};
pub use bowline_transport::{Call, Operations, RequestBoundCalls};
pub use error::{Error, ErrorKind};
pub use long_task::LongTask;
pub use transports::Transports;

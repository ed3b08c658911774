//! Clients of vwatchd's two sockets, and the output formats that every user interface shares.
//!
//! [`ControlClient`] speaks the documents of `vwatch_model::control` over HTTP on `control.sock`. [`QueryClient`] asks SQL:
//! on `query.sock`, or of a store file through the `vwatch-query` beside the caller's own executable; the answer
//! arrives batch by batch as an [`Answer`]. [`output`] writes batches as a table, JSON, CSV, Arrow or Parquet.
//!
//! **Invariant:** nothing here reads the environment, the terminal or the home directory: the caller brings paths, zones
//! and widths. Nothing here links the store or the SQL engine.

mod connect;
mod control;
mod error;
mod guard;
pub mod output;
mod query;
mod rows;
mod stream;

pub use control::{CommandReply, ControlClient, LiveStream};
pub use error::{ClientError, Tried};
pub use query::{Answer, Part, QueryClient, Source, Whole, engine_places};
pub use rows::batch_from_rows;
pub use stream::{Message, MessageReader, StreamError, Talk};

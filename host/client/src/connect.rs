//! Finding the daemon: the first of the candidate sockets that takes a connection.

use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use crate::error::{ClientError, Tried};

/// Connects to the first candidate that answers, and says which it was.
pub async fn first(candidates: impl Iterator<Item = PathBuf>) -> Result<(UnixStream, PathBuf), ClientError> {
    let mut tried = Vec::new();
    for path in candidates {
        match UnixStream::connect(&path).await {
            Ok(stream) => return Ok((stream, path)),
            Err(error) => tried.push(Tried { path, error }),
        }
    }
    Err(ClientError::Unreachable(tried))
}

/// `query.sock` beside a control socket.
pub fn query_socket(control: &Path) -> PathBuf {
    control.with_file_name(vwatch_model::paths::QUERY_SOCKET_NAME)
}

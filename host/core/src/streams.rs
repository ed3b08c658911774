//! Live output of commands: bytes from a plugin to the client that waits for them.
//!
//! **Invariant:** a plugin never waits for a client. A client that reads too slowly makes the plugin's next send answer `Busy`; one
//! that has left makes it answer `Gone`.

use axum::body::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use vwatch_loader::{Fault, FaultKind};

/// Pieces that may wait for one client.
const MAX_PIECES: usize = 256;
const MAX_PIECE_BYTES: usize = 1 << 20;

#[derive(Default)]
pub struct Streams {
    open: Mutex<HashMap<u64, Sender<Bytes>>>,
    next: AtomicU64,
}

impl Streams {
    /// A new stream: its number, and the client's end.
    pub fn open(&self) -> (u64, Receiver<Bytes>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = channel(MAX_PIECES);
        self.lock().insert(number, sender);
        (number, receiver)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Sender<Bytes>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn send(&self, stream: u64, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() > MAX_PIECE_BYTES {
            let message = format!("{} bytes at once; at most {MAX_PIECE_BYTES} are taken", bytes.len());
            return Err(Fault::bad_input(message));
        }
        let mut open = self.lock();
        let gone = || Fault::new(FaultKind::Gone, format!("nobody waits on stream {stream}"));
        let sender = open.get(&stream).ok_or_else(gone)?;
        match sender.try_send(Bytes::copy_from_slice(bytes)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Fault::new(FaultKind::Busy, "the client reads too slowly")),
            Err(TrySendError::Closed(_)) => {
                open.remove(&stream);
                Err(gone())
            }
        }
    }

    pub fn close(&self, stream: u64) -> Result<(), Fault> {
        match self.lock().remove(&stream) {
            Some(_) => Ok(()),
            None => Err(Fault::new(FaultKind::Gone, format!("nobody waits on stream {stream}"))),
        }
    }

    /// Ends all, so that waiting clients are let go.
    pub fn close_all(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(answer: Result<(), Fault>) -> Option<FaultKind> {
        answer.err().map(|fault| fault.kind)
    }

    #[test]
    fn a_slow_client_and_one_that_left() {
        let streams = Streams::default();
        let (number, mut client) = streams.open();
        for _ in 0..MAX_PIECES {
            streams.send(number, b"x").unwrap();
        }
        assert_eq!(kind(streams.send(number, b"x")), Some(FaultKind::Busy));
        assert_eq!(client.try_recv().unwrap(), "x");
        assert_eq!(kind(streams.send(number, b"y")), None);
        drop(client);
        assert_eq!(kind(streams.send(number, b"z")), Some(FaultKind::Gone));
        assert_eq!(kind(streams.close(number)), Some(FaultKind::Gone));
        assert_eq!(kind(streams.send(99, b"z")), Some(FaultKind::Gone));
    }
}

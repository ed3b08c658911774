//! The bytes of one part on their way to a store of objects: at once when they are few, else in pieces as they come.
//!
//! An object is seen when it is complete. What fails is given up, so that a store keeps no pieces that nobody sees and somebody
//! pays for; `object_store`'s own writers leave them when a piece is refused. All pieces but the last are of one size, which
//! some stores insist on. Memory: [`AT_ONCE`] pieces and the one that is filled.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, Result};
use tokio::task::JoinSet;

/// S3 takes no smaller ones than 5 MiB and no more than 10,000 of them: parts of up to 100 GB.
const PIECE: usize = 10 << 20;
/// Pieces on their way at one time.
const AT_ONCE: usize = 4;

pub struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    filling: Vec<u8>,
    /// Begun with the first full piece.
    pieces: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<Result<()>>,
}

impl Upload {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path) -> Upload {
        Upload {
            store,
            path,
            filling: Vec::new(),
            pieces: None,
            sending: JoinSet::new(),
        }
    }

    pub async fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.filling.len() + bytes.len() >= PIECE {
            let (now, later) = bytes.split_at(PIECE - self.filling.len());
            self.filling.extend_from_slice(now);
            bytes = later;
            self.send().await?;
        }
        self.filling.extend_from_slice(bytes);
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        while self.sending.len() >= AT_ONCE {
            self.one_sent().await?;
        }
        let piece = PutPayload::from(std::mem::take(&mut self.filling));
        let pieces = match &mut self.pieces {
            Some(pieces) => pieces,
            None => self.pieces.insert(self.store.put_multipart(&self.path).await?),
        };
        self.sending.spawn(pieces.put_part(piece));
        Ok(())
    }

    /// Waits for one of the pieces on their way.
    async fn one_sent(&mut self) -> Result<()> {
        match self.sending.join_next().await {
            Some(sent) => sent?,
            None => Ok(()),
        }
    }

    /// The object takes its place.
    pub async fn complete(&mut self) -> Result<()> {
        if self.pieces.is_none() {
            let all = std::mem::take(&mut self.filling);
            return self.store.put(&self.path, all.into()).await.map(drop);
        }
        if !self.filling.is_empty() {
            self.send().await?;
        }
        while !self.sending.is_empty() {
            self.one_sent().await?;
        }
        match &mut self.pieces {
            Some(pieces) => pieces.complete().await.map(drop),
            None => Ok(()),
        }
    }

    /// Gives the object up; the store forgets what it has of it.
    pub async fn abandon(&mut self) {
        self.sending.shutdown().await;
        if let Some(mut pieces) = self.pieces.take() {
            // The reason for it is told; that pieces could not be cleared is not worth another word.
            let _ = pieces.abort().await;
        }
    }
}

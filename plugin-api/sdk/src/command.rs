//! Words that people say to a plugin, through `vwatchctl` or the control socket.

use crate::answer::Answer;
use crate::context::Context;
use crate::error::{ProbeError, Result};
use crate::host::{Link, answered};
use std::sync::Arc;
use vwatch_abi::abi_stable::std_types::RSlice;
use vwatch_abi::v1;

/// A command of the plugin.
pub trait Command: 'static {
    /// Its first words: `show alerts`.
    const NAME: &'static str;
    /// What follows them: `[GROUP]`.
    const USAGE: &'static str;
    /// One line for people.
    const DOC: &'static str;
    /// It changes something: only root, or the daemon's user, may.
    const CHANGES: bool = false;

    fn run(context: &Context, call: &mut Call) -> Result<Answer>;
}

/// A command as it was spoken, and by whom.
pub struct Call {
    /// What follows the command's name.
    pub words: Vec<String>,
    /// Peer credentials of the speaker.
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    link: Arc<Link>,
    stream: u64,
    taken: bool,
}

impl Call {
    pub(crate) fn read(request: &v1::CommandRequest<'_>, link: Arc<Link>) -> Result<Self> {
        let words = serde_json::from_slice(request.words.as_slice())
            .map_err(|e| ProbeError::bad_input(format!("the words cannot be read: {e}")))?;
        Ok(Call {
            words,
            uid: request.uid,
            gid: request.gid,
            pid: request.pid,
            link,
            stream: request.stream,
            taken: false,
        })
    }

    /// The word at `index`, or an error that says `what` is missing, at the end of the input.
    pub fn word(&self, index: usize, what: &str) -> Result<&str> {
        match self.words.get(index) {
            Some(word) => Ok(word),
            None => Err(ProbeError::bad_input(format!("{what} is missing")).at(self.position(index))),
        }
    }

    /// An error about the word at `index`, at its place in the input.
    pub fn wrong(&self, index: usize, message: impl Into<String>) -> ProbeError {
        ProbeError::bad_input(message).at(self.position(index))
    }

    /// Byte offset of the word at `index` in the words after the command's name, joined by single spaces.
    fn position(&self, index: usize) -> u64 {
        self.words.iter().take(index).map(|word| word.len() as u64 + 1).sum()
    }

    /// Where live output may be sent, when the client waits for some. Once taken, the client goes on reading until the stream
    /// is closed or dropped: the answer returned meanwhile is only its beginning.
    pub fn stream(&mut self) -> Option<Stream> {
        if self.stream == 0 || self.taken {
            return None;
        }
        self.taken = true;
        Some(Stream {
            link: self.link.clone(),
            id: self.stream,
        })
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.taken
    }
}

/// Live output to a waiting client. Dropping it ends the stream.
pub struct Stream {
    link: Arc<Link>,
    id: u64,
}

impl Stream {
    /// [`crate::Kind::Gone`] when the client has left; [`crate::Kind::Busy`] when it reads too slowly: the bytes were not
    /// taken.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        answered(self.link.host.stream_send(self.id, RSlice::from_slice(bytes)))
    }

    /// Ends the stream.
    pub fn close(self) {}
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A client that has left already is as good as closed.
        let _ = answered(self.link.host.stream_close(self.id));
    }
}

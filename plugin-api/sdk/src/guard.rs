//! Keeps panics of authors' code inside the plugin.
//!
//! The panic has been reported by the plugin's own hook (to standard error) already; here its message is taken for the host. No
//! hook is set: it would be the whole process's.

use crate::error::{Kind, ProbeError, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vwatch_abi::abi_stable::std_types::RResult;
use vwatch_abi::v1::Fault;

/// Runs `work`; a panic in it becomes an error of kind [`Kind::Panicked`].
///
/// Whatever `work` was changing may be half changed afterwards: the caller drops it, or never calls it again.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(panicked(payload)))
}

/// The same for an entry point of the ABI.
pub fn entry<T>(work: impl FnOnce() -> Result<T>) -> RResult<T, Fault> {
    match caught(work) {
        Ok(value) => RResult::ROk(value),
        Err(error) => RResult::RErr(error.into()),
    }
}

/// The error for a panic's payload.
pub fn panicked(payload: Box<dyn Any + Send>) -> ProbeError {
    let message = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => {
                // Dropping a value of an unknown type may panic again, this time outside of any guard.
                std::mem::forget(payload);
                "a value that is no text".to_owned()
            }
        },
    };
    ProbeError::new(Kind::Panicked, format!("panicked: {message}"))
}

/// Locks, also after a panic under the lock: what lies behind these locks is whole between any two statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_taken() {
        let message = |work: fn() -> Result<()>| caught(work).unwrap_err();
        assert_eq!(message(|| panic!("plain")).message, "panicked: plain");
        assert_eq!(message(|| panic!("with {}", 1)).message, "panicked: with 1");
        let odd = message(|| std::panic::panic_any(7));
        assert_eq!(
            (odd.kind, odd.message.as_str()),
            (Kind::Panicked, "panicked: a value that is no text")
        );
    }
}

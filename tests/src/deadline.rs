//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long something that takes a moment may take on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);
/// How long something that waits for a wall-clock minute may take.
pub const LONG: Duration = Duration::from_secs(150);

/// Asks until there is an answer; fails with `what` after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

//! Named points at which a test may have the process die.
//!
//! `VWATCH_FAILPOINT=NAME` aborts the process the first time it comes to the point, `NAME:N` the N-th time. Read once, so a
//! process that was not started with it pays one load per point. The points: `create-before-rename`, `before-commit`,
//! `after-commit`, `seal-before-commit`, `seal-after-commit`, `merge-before-commit`, `merge-after-commit`, `thin-before-commit`,
//! `thin-after-commit`, `expire-before-commit`, `expire-after-commit`, `compact-before-rename`, `compact-after-rename`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

struct Armed {
    name: String,
    left: AtomicU64,
}

pub(crate) fn hit(name: &str) {
    let armed = ARMED.get_or_init(|| {
        let wanted = std::env::var("VWATCH_FAILPOINT").ok()?;
        let (name, count) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some(Armed {
            name: name.to_owned(),
            left: AtomicU64::new(count.parse().ok()?),
        })
    });
    if let Some(armed) = armed
        && armed.name == name
        && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

//! One line on the terminal that says how far an answer is. It is overwritten in place, comes only when the answer takes a
//! while, and is gone before anything else is written; whoever interrupts the work is told how far it had come.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use vwatch_model::query::Progress;
use vwatch_model::time::format_ns;

use crate::context::started;
use crate::failure::say;
use crate::listing::human_bytes;

/// Nothing is shown of answers that come sooner.
const PATIENCE: Duration = Duration::from_secs(1);
/// Nobody reads faster.
const REFRESH: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct ProgressLine {
    wanted: bool,
    since: Instant,
    shown: bool,
    refreshed: Option<Instant>,
    /// What is done, in front of the figures: `process, 2026-01-02`.
    subject: String,
    latest: Option<String>,
}

impl ProgressLine {
    /// A line if standard error is a terminal.
    pub fn new() -> Self {
        ProgressLine {
            wanted: std::io::stderr().is_terminal(),
            since: Instant::now(),
            shown: false,
            refreshed: None,
            subject: String::new(),
            latest: None,
        }
    }

    /// Whether progress is of any use.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub fn about(&mut self, subject: String) {
        self.subject = subject;
    }

    pub fn show(&mut self, progress: &Progress) {
        self.put(words(progress));
    }

    pub fn put(&mut self, figures: String) {
        let line = match self.subject.as_str() {
            "" => figures,
            subject => format!("{subject}: {figures}"),
        };
        let fresh = self.refreshed.is_some_and(|at| at.elapsed() < REFRESH)
            || (self.shown && self.latest.as_ref() == Some(&line));
        if self.wanted && !fresh && self.since.elapsed() >= PATIENCE {
            self.refreshed = Some(Instant::now());
            let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
            let fits: String = line.chars().take(width.saturating_sub(1)).collect();
            say(&format!("\r\x1b[K{fits}"));
            self.shown = true;
        }
        self.latest = Some(line);
    }

    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            say("\r\x1b[K");
        }
    }

    /// The work is done, well or badly: nothing is left to be said of it.
    pub fn end(&mut self) {
        self.clear();
        self.latest = None;
    }
}

impl Drop for ProgressLine {
    /// Dropped before its end: the work was interrupted.
    fn drop(&mut self) {
        self.clear();
        if let Some(latest) = self.latest.take().filter(|_| self.wanted) {
            say(&format!("interrupted: {latest}\n"));
        }
    }
}

/// `1,234,567 rows read, block 20 of 80 (25%), up to 10:42:07`.
fn words(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if progress.rows_scanned > 0 || progress.bytes_done == 0 {
        parts.push(format!("{} rows read", grouped(progress.rows_scanned)));
    }
    if progress.blocks_total > 0 {
        let (done, total) = (progress.blocks_done, progress.blocks_total);
        parts.push(format!(
            "block {} of {} ({})",
            grouped(done),
            grouped(total),
            share(done, total)
        ));
    }
    if progress.bytes_done > 0 {
        let (done, total) = (progress.bytes_done, progress.bytes_total);
        let of = match progress.blocks_total {
            0 if total > 0 => format!(" of {} ({})", human_bytes(total), share(done, total)),
            _ => String::new(),
        };
        parts.push(format!("{}{of}", human_bytes(done)));
    }
    if let Some(reached) = progress.reached_ns {
        parts.push(format!("up to {}", format_ns(reached, started().time_zone())));
    }
    parts.join(", ")
}

fn share(done: u64, total: u64) -> String {
    format!("{:.0}%", 100.0 * done.min(total) as f64 / total.max(1) as f64)
}

/// `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_known_are_said() {
        let progress = Progress {
            rows_scanned: 1_234_567,
            blocks_done: 20,
            blocks_total: 80,
            ..Progress::default()
        };
        assert_eq!(words(&progress), "1,234,567 rows read, block 20 of 80 (25%)");
        let copied = Progress {
            bytes_done: 1 << 20,
            bytes_total: 1 << 22,
            ..Progress::default()
        };
        assert_eq!(words(&copied), "1.0 MiB of 4.0 MiB (25%)");
        assert_eq!(words(&Progress::default()), "0 rows read");
        assert_eq!((grouped(999), grouped(1000)), ("999".to_owned(), "1,000".to_owned()));
    }
}

//! The memory that a process has live, and an allocator that counts it.
//!
//! The engine's own pool counts what large operators declare: not what joins build up, what batches hold, what a store's block
//! takes while it is decoded. A process that answers queries installs [`Counting`] as its global allocator; then the live bytes
//! of the whole process are known, and [`Ceiling`] compares them with a query's limit between any two batches. Where it is not
//! installed nothing is counted and the ceiling never reached. Cost: two relaxed additions for an allocation and its end.

#![allow(unsafe_code)]

use crate::error::{SqlError, kind};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Allocations and what was given back, in bytes; both only grow and wrap together.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static GIVEN: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting touches no memory but its own two numbers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the ones asked for here.
        let allocated = unsafe { System.alloc(layout) };
        if !allocated.is_null() {
            TAKEN.fetch_add(layout.size(), Relaxed);
        }
        allocated
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the ones asked for here.
        let allocated = unsafe { System.alloc_zeroed(layout) };
        if !allocated.is_null() {
            TAKEN.fetch_add(layout.size(), Relaxed);
        }
        allocated
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        GIVEN.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are the ones asked for here.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are the ones asked for here.
        let allocated = unsafe { System.realloc(memory, layout, size) };
        if !allocated.is_null() {
            TAKEN.fetch_add(size, Relaxed);
            GIVEN.fetch_add(layout.size(), Relaxed);
        }
        allocated
    }
}

/// Bytes that this process has allocated and not given back; 0 where [`Counting`] is not installed.
fn live_bytes() -> usize {
    // What another thread does between the two reads may make the difference negative.
    let live = TAKEN.load(Relaxed).wrapping_sub(GIVEN.load(Relaxed));
    if live > isize::MAX as usize { 0 } else { live }
}

/// How much a query may have live beside what was live when it began.
#[derive(Debug, Clone, Copy)]
pub struct Ceiling {
    limit: usize,
    before: usize,
}

impl Ceiling {
    /// Begins to count.
    pub fn new(limit: usize) -> Ceiling {
        Ceiling {
            limit,
            before: live_bytes(),
        }
    }

    pub fn check(&self) -> Result<(), SqlError> {
        let used = live_bytes().saturating_sub(self.before);
        match used > self.limit {
            true => Err(self.exceeded(used)),
            false => Ok(()),
        }
    }

    #[cold]
    fn exceeded(&self, used: usize) -> SqlError {
        let message = format!("the query needs {used} bytes of memory; it may use {}", self.limit);
        SqlError::refused(kind::LIMIT, message)
            .hint("read a shorter time or fewer columns, or group before sorting and joining")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Called by hand, since the test's own allocator is another: the numbers are this test's alone.
    #[test]
    fn what_is_taken_and_given_back_is_counted() {
        let ceiling = Ceiling::new(100_000);
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the sizes are not 0, and each pointer is given back with the layout it has then.
        unsafe {
            let first = Counting.alloc(layout(60_000));
            assert!(ceiling.check().is_ok());
            let second = Counting.alloc_zeroed(layout(50_000));
            let failure = ceiling.check().unwrap_err().failure();
            assert_eq!(failure.kind, kind::LIMIT);
            assert!(
                failure.message.contains("110000") && failure.message.contains("100000"),
                "{failure:?}"
            );
            let second = Counting.realloc(second, layout(50_000), 10_000);
            assert!(ceiling.check().is_ok());
            Counting.dealloc(second, layout(10_000));
            Counting.dealloc(first, layout(60_000));
        }
        assert_eq!(live_bytes(), ceiling.before);
    }
}

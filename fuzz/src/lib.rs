//! What the targets have in common: how much memory an input may take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What any input may take, and what it may take more for each of its bytes. A decoder holds a number in some places at once.
const FREE: usize = 64 << 20;
const PER_BYTE: usize = 64 << 10;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counted. Decompression has its working memory from elsewhere.
pub struct Counting;

// SAFETY: every call is handed on to the system's allocator as it is; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's layout, under the caller's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `place` came from `alloc` above with this layout, so from the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Runs a target, and panics when it took more memory than so few bytes may.
pub fn bounded(data: &[u8], target: impl FnOnce()) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    target();
    let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    let most = FREE + PER_BYTE * data.len();
    assert!(
        taken <= most,
        "{taken} bytes of memory for an input of {}; {most} are its due",
        data.len()
    );
}

//! The array half of the Arrow C Data Interface, with a checked layout.
//!
//! Source: "The Arrow C data interface", Apache Arrow format documentation. The schema half is not needed: the column
//! types of a table cross once, in the plugin's manifest. A batch is one struct array whose children are the columns.

use abi_stable::StableAbi;
use std::ffi::c_void;

/// `struct ArrowArray` of the C Data Interface. Owning: dropping it calls `release`, once.
#[repr(C)]
#[derive(StableAbi)]
pub struct ArrowArray {
    /// Rows.
    pub length: i64,
    /// Nulls, or -1 when not counted.
    pub null_count: i64,
    /// Rows to skip at the start of the buffers.
    pub offset: i64,
    pub n_buffers: i64,
    pub n_children: i64,
    /// `const void**`
    pub buffers: *mut c_void,
    /// `struct ArrowArray**`
    pub children: *mut c_void,
    /// `struct ArrowArray*`
    pub dictionary: *mut c_void,
    /// Set while the array is alive. Frees everything the array owns and sets itself to `None`.
    pub release: Option<unsafe extern "C" fn(*mut c_void)>,
    pub private_data: *mut c_void,
}

impl ArrowArray {
    /// An array that holds nothing and owns nothing ("released" in the interface's words).
    pub const fn released() -> Self {
        ArrowArray {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: std::ptr::null_mut(),
            children: std::ptr::null_mut(),
            dictionary: std::ptr::null_mut(),
            release: None,
            private_data: std::ptr::null_mut(),
        }
    }

    pub fn is_released(&self) -> bool {
        self.release.is_none()
    }
}

impl Drop for ArrowArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the interface's contract: a non-null release callback takes the address of its own array, once;
            // whoever moves the contents out marks the source as released.
            unsafe { release((self as *mut ArrowArray).cast()) }
        }
    }
}

// SAFETY: the interface requires buffers and callbacks that do not depend on the producing thread.
unsafe impl Send for ArrowArray {}
// SAFETY: shared access only reads immutable buffers.
unsafe impl Sync for ArrowArray {}

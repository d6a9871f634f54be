//! An allocator that counts what each thread asks of it: `#[path = "../../auth-testkit/counting_allocator.rs"]`
//! makes it the one of a test. Not a part of the library, in which unsafe code is forbidden.
#![allow(unsafe_code, reason = "a global allocator that counts can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    // Of each thread, so that what others do does not count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    // Bytes that were taken and not given back.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    // Bytes that were taken, given back or not.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

fn note(allocations: u64, taken: usize, given: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    LIVE.set(LIVE.get() + taken.cast_signed() - given.cast_signed());
    TAKEN.set(TAKEN.get() + taken);
}

/// Returns how many allocations this thread has made so far.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Returns how many bytes this thread has taken beyond those that it gave back.
#[allow(dead_code, reason = "not every test that counts asks for both")]
pub(crate) fn live_bytes() -> isize {
    LIVE.get()
}

/// Returns how many bytes this thread has taken so far, with those that it gave back.
#[allow(dead_code, reason = "not every test that counts asks for it")]
pub(crate) fn taken_bytes() -> usize {
    TAKEN.get()
}

// SAFETY: every call is passed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size(), 0);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, 0, layout.size());
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size, layout.size());
        // SAFETY: the pointer came from `System` with this layout; the caller keeps to the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

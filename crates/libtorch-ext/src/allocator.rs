//! The C allocator's habits on the CPU.

/// Keeps freed memory in the process instead of giving it back at once.
///
/// glibc maps every large tensor anew and gives it back when freed, so that each operation faults its
/// pages in again. Raising both thresholds makes it reuse them. Call it once, before the first tensor.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for option in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: mallopt takes two numbers; glibc allows it at any time and ignores values it refuses.
        unsafe { libc::mallopt(option, LARGEST) };
    }
}

/// Above any tensor we allocate; glibc takes an int.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST: libc::c_int = libc::c_int::MAX;

//! The heap of this process: what was freed goes back to the system.
//!
//! The C library keeps freed memory for later use. In a process that lives for months this is the
//! memory of the largest piece of work it ever did: 37 MB after one trim of a log, where 7 MB are
//! in use. Never changes what is allocated, and does nothing where the C library is another one.

pub use system::{give_back, tune};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "std has no call that tells the allocator anything")]
mod system {
    /// Allocations from this size on are mappings of their own, which end when they are freed. With
    /// a value of the caller's the C library does not raise it by itself.
    const OWN_MAPPING_BYTES: i32 = 64 << 10;

    /// Sets how the heap grows, for the whole process. Meant to be called once, early.
    pub fn tune() {
        // SAFETY: the call takes two numbers, and any thread may make it at any time.
        let _was_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES) };
    }

    /// Gives freed memory back to the system. Walks over all that is free: for idle moments.
    pub fn give_back() {
        // SAFETY: the call takes a number, and any thread may make it at any time.
        let _was_released = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    /// Sets how the heap grows, for the whole process.
    pub fn tune() {}

    /// Gives freed memory back to the system.
    pub fn give_back() {}
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    /// What a large piece of work has freed between blocks that stay is the system's again.
    #[test]
    fn freed_memory_is_given_back() {
        super::tune();
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/smaps_rollup").expect("read");
            let line = status.lines().find(|line| line.starts_with("Anonymous:")).expect("a line");
            line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number")
        };
        let mut blocks: Vec<Option<Vec<u8>>> = (0..20_000).map(|_| Some(vec![1; 4_000])).collect();
        let full = resident();
        for (n, block) in blocks.iter_mut().enumerate() {
            *block = block.take().filter(|_| n % 10 == 0);
        }
        super::give_back();
        let (left, kept) = (resident(), blocks.iter().flatten().count());
        assert!(left + 40_000 < full, "{left} of {full} KB are left, {kept} blocks in use");
    }
}

//! Scheduling priority of threads: higher for the writer of the log, lower for background work.
//!
//! Beside two compilers an ordinary thread waits a whole timer tick (4 ms) after each sync that
//! takes the disk 0.07 ms. Real-time priority ends that but needs privilege; a short time slice
//! needs none and helps while the machine is not overloaded. Threads and processes started from a
//! raised thread inherit neither.

/// The scheduling that a thread got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Real-time, `SCHED_FIFO` with priority 1.
    Realtime,
    /// An ordinary thread with a time slice of 0.1 ms.
    ShortSlice,
    /// The default; neither request was granted.
    Ordinary,
}

impl Priority {
    /// Returns the name for `doctor` and for messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "real-time",
            Self::ShortSlice => "short slice",
            Self::Ordinary => "ordinary",
        }
    }
}

/// Requests the best scheduling that the calling thread is allowed to have.
#[must_use]
pub fn raise() -> Priority {
    if system::realtime() {
        Priority::Realtime
    } else if system::short_slice() {
        Priority::ShortSlice
    } else {
        Priority::Ordinary
    }
}

/// Lowers the calling thread below all others: no caller waits for its work. Threads and processes
/// started from it inherit that.
pub fn lower() {
    // A failure is ignored: the work is done at ordinary priority.
    let _lowered = rustix::process::setpriority_process(None, NICE);
}

/// The nice value for background work.
const NICE: i32 = 15;

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe wrapper offers these two scheduler calls")]
mod system {
    const RESET_ON_FORK: i32 = 0x4000_0000;
    const FLAG_RESET_ON_FORK: u64 = 1;
    const SLICE_NANOS: u64 = 100_000;

    /// `struct sched_attr` as of Linux 3.14; the kernel reads `size` bytes of it.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }

    pub(super) fn realtime() -> bool {
        // SAFETY: a zeroed `sched_param` is valid on every libc (some have reserved fields).
        let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
        param.sched_priority = 1;
        // SAFETY: pid 0 is the calling thread, and `param` outlives the call.
        unsafe {
            libc::sched_setscheduler(0, libc::SCHED_FIFO | RESET_ON_FORK, &raw const param) == 0
        }
    }

    pub(super) fn short_slice() -> bool {
        let attributes = Attributes {
            size: size_of::<Attributes>() as u32,
            flags: FLAG_RESET_ON_FORK,
            runtime: SLICE_NANOS,
            ..Attributes::default()
        };
        // SAFETY: the kernel reads `size` bytes, which is what the struct has.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn realtime() -> bool {
        false
    }

    pub(super) fn short_slice() -> bool {
        false
    }
}

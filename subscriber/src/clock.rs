//! The clocks of this machine. Nothing else here reads one.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use herald_core::{Monotonic, Now};
use herald_proto::{id::BootId, time::Timestamp};

/// Reads the clocks during one boot.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    boot: BootId,
}

impl Clock {
    /// Finds out which boot this is.
    ///
    /// # Errors
    /// When the kernel does not say; `/proc` must be mounted.
    pub fn open() -> std::io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = text.trim_end().replace('-', "").parse().map_err(std::io::Error::other)?;
        Ok(Self { boot })
    }

    /// Reads the clocks.
    pub fn now(&self) -> Now {
        Now { wall: wall(), monotonic: monotonic(), boot: self.boot }
    }
}

/// Reads the wall clock.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Reads `CLOCK_MONOTONIC`, which all processes of one boot share.
pub fn monotonic() -> Monotonic {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let since = Duration::try_from(time).unwrap_or(Duration::ZERO);
    Monotonic::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

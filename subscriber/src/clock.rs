//! The clocks of this machine. Nothing else here reads one.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use herald_core::{Monotonic, Now};
use herald_proto::{id::BootId, time::Timestamp};

/// When this program was built, as whoever built it has said by `SOURCE_DATE_EPOCH`: no clock is right
/// that is behind. 1970 where nothing was said.
pub const BUILT_AT: Timestamp = built_at(option_env!("SOURCE_DATE_EPOCH"));

/// Reads the seconds since 1970; what is no number of them ends the build.
const fn built_at(seconds: Option<&str>) -> Timestamp {
    let Some(text) = seconds else { return Timestamp::from_millis(0) };
    let (digits, mut at, mut millis) = (text.as_bytes(), 0, 0u64);
    assert!(!digits.is_empty() && digits.len() <= 12, "SOURCE_DATE_EPOCH is a number of seconds");
    while at < digits.len() {
        assert!(digits[at].is_ascii_digit(), "SOURCE_DATE_EPOCH is a number of seconds");
        millis = millis * 10 + (digits[at] - b'0') as u64 * 1000;
        at += 1;
    }
    Timestamp::from_millis(millis)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_build_is_what_its_environment_said() {
        assert_eq!(built_at(None), Timestamp::from_millis(0));
        assert_eq!(built_at(Some("1767225600")).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(built_at(Some("0000000001")), Timestamp::from_millis(1000));
        for bad in ["", "2026-01-01", "-1", "9999999999999"] {
            let read = std::panic::catch_unwind(|| built_at(Some(bad)));
            assert!(read.is_err(), "{bad:?}");
        }
    }
}

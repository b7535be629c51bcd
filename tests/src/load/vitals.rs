//! What the kernel says about a process: processor time and memory.

use std::{fs, io, time::Duration};

/// Gives the processor time of a process, to the nanosecond: the sum over the threads that it has.
pub(crate) fn processor_time(process: u32) -> io::Result<Duration> {
    sum_of_threads(process, 0)
}

/// Gives the time that a process was ready to run while others did: how busy the machine was.
pub(crate) fn queued_time(process: u32) -> io::Result<Duration> {
    sum_of_threads(process, 1)
}

/// Sums a field of the scheduler's statistics, in nanoseconds, over a process's threads.
fn sum_of_threads(process: u32, field: usize) -> io::Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while the list is read.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        sum += number(&text, field)?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Gives this process's own processor time.
pub(crate) fn own_processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Gives the KiB of memory that are resident for a process, exactly.
pub(crate) fn resident_kib(process: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    number(line.unwrap_or_default(), 0)
}

fn number(text: &str, field: usize) -> io::Result<u64> {
    let word = text.split_ascii_whitespace().nth(field).unwrap_or_default();
    word.parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_memory_and_work_uses_more() {
        let process = std::process::id();
        let before = processor_time(process).unwrap();
        let began = own_processor_time();
        let mut sum = 0_u64;
        while own_processor_time() < began + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(processor_time(process).unwrap() >= before + Duration::from_millis(15));
        assert!(queued_time(process).is_ok());
        assert!(resident_kib(process).unwrap() > 500);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(processor_time(0).is_err() && resident_kib(0).is_err());
    }
}

//! How long to wait between attempts to connect.

use std::time::Duration;

/// Delays that double from `first` up to `longest`, each drawn from zero to that ("full jitter"),
/// so that a fleet whose broker restarts does not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The most that the first delay can be; at least a millisecond.
    pub first: Duration,
    /// The most that any delay can be; at most a day.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The delays of one client.
#[derive(Debug)]
pub(crate) struct Delays {
    backoff: Backoff,
    /// The most that the next delay can be.
    ceiling: Duration,
    random: SplitMix64,
}

impl Delays {
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        let first = backoff.first.clamp(Duration::from_millis(1), DAY);
        let longest = backoff.longest.clamp(first, DAY);
        Self { backoff: Backoff { first, longest }, ceiling: first, random: SplitMix64(seed) }
    }

    /// Draws the next delay.
    pub(crate) fn next(&mut self) -> Duration {
        let delay = self.ceiling.mul_f64(self.random.fraction());
        self.ceiling = self.ceiling.saturating_mul(2).min(self.backoff.longest);
        delay
    }

    /// Starts from the first delay again, if the connection that was lost had worked for as long
    /// as the longest delay: until then, connecting again at once would make attempts more frequent
    /// than the backoff allows.
    pub(crate) fn connection_lasted(&mut self, time: Duration) {
        if time >= self.backoff.longest {
            self.ceiling = self.backoff.first;
        }
    }
}

/// The generator of Steele, Lea and Flood (2014): delays need to differ, not to be unpredictable.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws from [0, 1), with the 53 bits that a float has.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(1500) };

    #[test]
    fn the_generator_gives_the_published_sequence() {
        let mut random = SplitMix64(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next()).collect();
        let published =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(drawn, published);
    }

    #[test]
    fn delays_stay_under_a_ceiling_that_doubles_up_to_the_longest() {
        let ceilings = [100, 200, 400, 800, 1500, 1500, 1500];
        let mut highest = [Duration::ZERO; 7];
        for seed in 0..1000 {
            let mut delays = Delays::new(BACKOFF, seed);
            for (highest, ceiling) in highest.iter_mut().zip(ceilings) {
                let delay = delays.next();
                assert!(delay < Duration::from_millis(ceiling));
                *highest = delay.max(*highest);
            }
        }
        for (highest, ceiling) in highest.iter().zip(ceilings) {
            assert!(*highest > Duration::from_millis(ceiling * 9 / 10));
        }
    }

    #[test]
    fn a_connection_that_lasted_starts_the_delays_again_and_a_short_one_does_not() {
        let mut delays = Delays::new(BACKOFF, 1);
        let _: Duration = (0..5).map(|_| delays.next()).sum();
        delays.connection_lasted(Duration::from_millis(1499));
        assert_eq!(delays.ceiling, BACKOFF.longest);
        delays.connection_lasted(BACKOFF.longest);
        assert_eq!(delays.ceiling, BACKOFF.first);
    }

    #[test]
    fn no_setting_makes_attempts_follow_each_other_without_end_or_overflows() {
        let zero = Backoff { first: Duration::ZERO, longest: Duration::ZERO };
        let mut delays = Delays::new(zero, 1);
        let sum: Duration = (0..1000).map(|_| delays.next()).sum();
        assert!(sum > Duration::from_millis(400));
        let most = Backoff { first: Duration::MAX, longest: Duration::MAX };
        let mut delays = Delays::new(most, 1);
        assert!((0..1000).all(|_| delays.next() <= DAY));
    }
}

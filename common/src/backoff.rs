//! Delays between attempts: they grow, have an upper bound, and are spread so that many who failed together do not
//! come back together.

use std::time::Duration;

use rand::{Rng, RngExt};

/// How long to wait before the next attempt. goim calls the fields `base_delay`, `max_delay`, `factor` and `jitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// The longest delay, before it is spread.
    pub max: Duration,
    /// What each delay is multiplied by to give the next; below 1 it counts as 1.
    pub factor: f64,
    /// How far a delay is spread, as a share of it: 0.3 gives 70 % to 130 %. Held between 0 and 1.
    pub jitter: f64,
}

impl Backoff {
    /// What goim tells its clients: 3 s to 300 s, factor 1.8, spread by 30 %.
    pub const fn goim() -> Self {
        Self {
            base: Duration::from_secs(3),
            max: Duration::from_mins(5),
            factor: 1.8,
            jitter: 0.3,
        }
    }

    /// For calls between services: 100 ms to 10 s, factor 1.8, spread by 30 %.
    pub const fn short() -> Self {
        Self {
            base: Duration::from_millis(100),
            max: Duration::from_secs(10),
            factor: 1.8,
            jitter: 0.3,
        }
    }

    /// The delay after `attempt` earlier failures, 0 for the first. At most `max * (1 + jitter)`.
    ///
    /// The first delay is spread too, other than goim's: it is the one that all clients of a lost server share.
    pub fn delay(&self, attempt: u32, rng: &mut (impl Rng + ?Sized)) -> Duration {
        let max = self.max.as_secs_f64();
        let factor = if self.factor >= 1.0 { self.factor } else { 1.0 };
        let growth = factor.powi(i32::try_from(attempt).unwrap_or(i32::MAX));
        // A growth without bound times a base of zero is no number: `min` then gives the other side.
        let grown = (self.base.as_secs_f64() * growth).min(max);
        let jitter = if self.jitter.is_nan() {
            0.0
        } else {
            self.jitter.clamp(0.0, 1.0)
        };
        let spread = 1.0 + jitter * (rng.random::<f64>() * 2.0 - 1.0);
        Duration::try_from_secs_f64(grown * spread).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEADY: Backoff = Backoff {
        jitter: 0.0,
        ..Backoff::goim()
    };

    fn millis(backoff: Backoff, attempt: u32) -> u128 {
        backoff.delay(attempt, &mut rand::rng()).as_millis()
    }

    #[test]
    fn delays_grow_to_the_longest() {
        let delays: Vec<u128> = (0..10).map(|attempt| millis(STEADY, attempt)).collect();
        assert_eq!(
            delays,
            [
                3000, 5400, 9720, 17496, 31492, 56687, 102_036, 183_666, 300_000, 300_000
            ]
        );
        assert_eq!(millis(STEADY, u32::MAX), 300_000);
        let short = Backoff {
            jitter: 0.0,
            ..Backoff::short()
        };
        assert_eq!(
            (millis(short, 0), millis(short, 1), millis(short, 100)),
            (100, 180, 10_000)
        );
    }

    #[test]
    fn delays_are_spread_on_both_sides_from_the_first() {
        let mut rng = rand::rng();
        let delays: Vec<Duration> = (0..1000)
            .map(|_| Backoff::goim().delay(0, &mut rng))
            .collect();
        assert!(
            delays
                .iter()
                .all(|d| (2100..=3900).contains(&d.as_millis()))
        );
        assert!(delays.iter().any(|d| d.as_millis() < 3000));
        assert!(delays.iter().any(|d| d.as_millis() > 3000));
        let longest = (0..1000)
            .map(|_| Backoff::goim().delay(50, &mut rng))
            .max()
            .unwrap();
        assert!(longest <= Duration::from_secs(390));
    }

    #[test]
    fn senseless_parameters_still_give_a_delay() {
        let odd = |factor, jitter| Backoff {
            factor,
            jitter,
            ..Backoff::goim()
        };
        assert_eq!(millis(odd(f64::NAN, f64::NAN), 5), 3000);
        assert_eq!(millis(odd(-2.0, -1.0), 5), 3000);
        assert_eq!(millis(odd(f64::INFINITY, 0.0), 5), 300_000);
        assert!(millis(odd(2.0, f64::INFINITY), 5) <= 192_000);
        let zero = Backoff {
            base: Duration::ZERO,
            max: Duration::ZERO,
            factor: f64::INFINITY,
            jitter: 0.0,
        };
        assert_eq!(millis(zero, 3), 0);
        let endless = Backoff {
            base: Duration::MAX,
            max: Duration::MAX,
            factor: 2.0,
            jitter: 1.0,
        };
        assert!(endless.delay(1, &mut rand::rng()) <= Duration::MAX);
    }
}

//! Energy from readings at known times.
//!
//! Contract: power is integrated by trapezoids, counters by their differences. A counter that went down has wrapped around once;
//! more often cannot be seen, so the caller must read within the time that the range lasts (minutes).

use super::meter::{EnergyCounter, PowerError, Reading};

/// Adds readings up.
#[derive(Debug, Clone, Default)]
pub struct Integrator {
    first_ns: Option<u64>,
    last: Option<(u64, Reading)>,
    joules: f64,
    longest_gap_ns: u64,
    readings: u64,
}

impl Integrator {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reading taken at `ns` nanoseconds of a steady clock.
    ///
    /// # Errors
    /// [`PowerError::Order`] if it is not later than the one before, [`PowerError::Mixed`] if it is of another meter. The reading
    /// is then left out, and the next one is held against the one before it.
    pub fn add(&mut self, ns: u64, reading: Reading) -> Result<(), PowerError> {
        if let Some((before, earlier)) = &self.last {
            let gap = ns.checked_sub(*before).filter(|gap| *gap > 0).ok_or(PowerError::Order { before: *before, now: ns })?;
            self.joules += between(earlier, &reading, gap)?;
            self.longest_gap_ns = self.longest_gap_ns.max(gap);
        }
        self.first_ns.get_or_insert(ns);
        self.last = Some((ns, reading));
        self.readings += 1;
        Ok(())
    }

    /// The energy from the first to the last reading, in joules; `None` before there are two.
    pub fn joules(&self) -> Option<f64> {
        (self.readings > 1).then_some(self.joules)
    }

    /// The time from the first to the last reading, in seconds.
    pub fn seconds(&self) -> f64 {
        let span = self.first_ns.zip(self.last.as_ref()).map_or(0, |(first, (last, _))| last.saturating_sub(first));
        span as f64 / 1e9
    }

    /// The mean power, in watts; `None` before there are two readings.
    pub fn mean_watts(&self) -> Option<f64> {
        self.joules().map(|joules| joules / self.seconds())
    }

    /// The longest time between two readings, in nanoseconds: what changed within it was not seen by a meter of power.
    pub fn longest_gap_ns(&self) -> u64 {
        self.longest_gap_ns
    }

    /// How many readings were added.
    pub fn readings(&self) -> u64 {
        self.readings
    }
}

/// Joules between two readings `gap` nanoseconds apart.
fn between(before: &Reading, now: &Reading, gap: u64) -> Result<f64, PowerError> {
    match (before, now) {
        (Reading::Power { microwatts: then }, Reading::Power { microwatts: now }) => {
            Ok(f64::midpoint(*then as f64, *now as f64) * 1e-6 * (gap as f64 * 1e-9))
        }
        (Reading::Energy(then), Reading::Energy(now)) if then.len() == now.len() => {
            let differences = then.iter().zip(now).map(|(then, now)| difference(then, now).ok_or(PowerError::Mixed));
            differences.sum::<Result<f64, _>>()
        }
        _ => Err(PowerError::Mixed),
    }
}

fn difference(then: &EnergyCounter, now: &EnergyCounter) -> Option<f64> {
    if then.range_microjoules != now.range_microjoules {
        return None;
    }
    let rest = || then.range_microjoules.checked_sub(then.microjoules)?.checked_add(now.microjoules);
    now.microjoules.checked_sub(then.microjoules).or_else(rest).map(|microjoules| microjoules as f64 * 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn power(watts: u64) -> Reading {
        Reading::Power { microwatts: watts * 1_000_000 }
    }

    fn energy(joules: &[u64]) -> Reading {
        let range_microjoules = 1_000_000_000;
        Reading::Energy(joules.iter().map(|j| EnergyCounter { microjoules: j * 1_000_000, range_microjoules }).collect())
    }

    fn sum(readings: &[(u64, Reading)]) -> Result<Integrator, PowerError> {
        let mut integrator = Integrator::new();
        for (ns, reading) in readings {
            integrator.add(*ns, reading.clone())?;
        }
        Ok(integrator)
    }

    fn is(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-9)
    }

    #[test]
    fn power_is_integrated_by_trapezoids() -> Result<(), PowerError> {
        // 2 to 4 W in 1 s is 3 J; 4 to 0 W in 2 s is 4 J.
        let all = sum(&[(5, power(2)), (SECOND + 5, power(4)), (3 * SECOND + 5, power(0))])?;
        assert!(is(all.joules(), 7.0) && is(all.mean_watts(), 7.0 / 3.0), "{all:?}");
        assert_eq!((all.longest_gap_ns(), all.readings()), (2 * SECOND, 3));
        Ok(())
    }

    #[test]
    fn counters_wrap_around_one_by_one() -> Result<(), PowerError> {
        // Range 1,000 J: the first goes from 990 over the end to 5 (15 J), the second from 10 to 30.
        let all = sum(&[(0, energy(&[990, 10])), (SECOND, energy(&[5, 30]))])?;
        assert!(is(all.joules(), 35.0) && is(all.mean_watts(), 35.0), "{all:?}");
        Ok(())
    }

    #[test]
    fn one_reading_is_no_energy() -> Result<(), PowerError> {
        for integrator in [Integrator::new(), sum(&[(7, power(1))])?] {
            assert_eq!((integrator.joules(), integrator.mean_watts()), (None, None));
        }
        Ok(())
    }

    #[test]
    fn what_does_not_follow_is_refused_and_left_out() -> Result<(), PowerError> {
        let mut integrator = sum(&[(SECOND, power(2))])?;
        assert_eq!(integrator.add(SECOND, power(2)), Err(PowerError::Order { before: SECOND, now: SECOND }));
        assert_eq!(integrator.add(0, power(2)), Err(PowerError::Order { before: SECOND, now: 0 }));
        assert_eq!(integrator.add(2 * SECOND, energy(&[1])), Err(PowerError::Mixed));
        integrator.add(3 * SECOND, power(2))?;
        assert!(is(integrator.joules(), 4.0));

        let mut integrator = sum(&[(0, energy(&[1, 2]))])?;
        assert_eq!(integrator.add(1, energy(&[1])), Err(PowerError::Mixed));
        let other = Reading::Energy(vec![EnergyCounter { microjoules: 1, range_microjoules: 2 }; 2]);
        assert_eq!(integrator.add(1, other), Err(PowerError::Mixed));
        Ok(())
    }
}

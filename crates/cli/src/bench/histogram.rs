//! Latencies: as many as there are in a few kilobytes, each known to within one percent.

/// Steps between a power of two and the next.
const STEPS: u64 = 128;
const STEPS_BITS: u32 = STEPS.ilog2();

/// Counts of nanoseconds, in steps that grow with them.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; (64 - STEPS_BITS as usize + 1) * STEPS as usize], total: 0, max: 0 }
    }

    pub(super) fn add(&mut self, nanos: u64) {
        self.total += 1;
        self.max = self.max.max(nanos);
        if let Some(count) = self.counts.get_mut(step(nanos)) {
            *count += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The largest, exactly.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// What this share of all is no larger than, in nanoseconds; 0 if there is none.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_end(step as u64).min(self.max);
            }
        }
        self.max
    }
}

fn step(nanos: u64) -> usize {
    let octave = nanos.checked_ilog2().unwrap_or(0).saturating_sub(STEPS_BITS);
    // Within the first two octaves every value has a step of its own.
    (u64::from(octave) * STEPS + (nanos >> octave)) as usize
}

/// The largest value that belongs to a step.
fn upper_end(step: u64) -> u64 {
    let octave = (step / STEPS).saturating_sub(1);
    let below = step - octave * STEPS;
    u64::try_from(((u128::from(below) + 1) << octave) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_step_and_near_its_end() {
        let mut last = 0;
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) + (1 << shift) / 3, u64::MAX >> (63 - shift)] {
                let (step, end) = (step(value), upper_end(step(value) as u64));
                assert!(step >= last && end >= value && end - value <= value / 64, "{value}: step {step} to {end}");
                assert!(step == 0 || upper_end(step as u64 - 1) < value, "{value} is in step {step} already");
                last = step;
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::new();
        assert!(histogram.is_empty() && histogram.quantile(0.5) == 0);
        (1..=100).for_each(|value| histogram.add(value));
        let found = [0.0, 0.5, 0.9, 0.99, 1.0].map(|share| histogram.quantile(share));
        assert_eq!((found, histogram.max()), ([1, 50, 90, 99, 100], 100));
        histogram.add(1_000_000);
        assert_eq!(histogram.quantile(1.0), 1_000_000, "no more than the largest seen");
    }
}

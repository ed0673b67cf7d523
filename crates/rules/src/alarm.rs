//! Daily alarms.
use crate::clock::LocalTime;
use alloc::boxed::Box;

/// An alarm that was set.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Alarm {
    /// Compared with `hh:mm:ss` byte by byte, as the old firmware does: so `12:00` is noon.
    text: Box<[u8]>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    /// Set before the clock was.
    Unseen,
    /// Its time lies ahead.
    Waiting { day: i64 },
    /// It went off, or was set after its time, on that day.
    Passed { day: i64 },
    /// The same, and the hour comes twice: it is not its time again before then.
    Repeated { day: i64, until: LocalTime },
}

impl Alarm {
    pub(crate) fn new(text: &[u8], now: Option<LocalTime>) -> Self {
        let mut alarm = Self { text: text.into(), state: State::Unseen };
        if let Some(now) = now {
            alarm.look(now);
        }
        alarm
    }

    fn look(&mut self, now: LocalTime) {
        let day = now.day;
        self.state = if self.is_over(now) { State::Passed { day } } else { State::Waiting { day } };
    }

    fn is_over(&self, now: LocalTime) -> bool {
        now.time_text().as_slice() >= &*self.text
    }

    /// Whether it goes off now. A new day arms it again, which is what `00:00:00` needs. One whose time fell into a gap
    /// (sleep, a clock that was set) goes off late rather than never.
    pub(crate) fn goes_off(&mut self, now: LocalTime) -> bool {
        if let State::Repeated { until, .. } = self.state
            && now < until
        {
            return false;
        }
        let fire = match self.state {
            State::Unseen => false,
            State::Waiting { day } => self.is_over(now) || (now.day > day && self.is_time()),
            State::Passed { day } | State::Repeated { day, .. } => now.day > day && self.is_over(now),
        };
        self.look(now);
        fire
    }

    /// Daylight saving has ended, at `before`: what went off in the hour that comes once more has had its time.
    pub(crate) fn repeat(&mut self, before: LocalTime) {
        if let State::Passed { day } = self.state {
            self.state = State::Repeated { day, until: before };
        }
    }

    /// Whether there is such a time at all; the old firmware keeps any text.
    fn is_time(&self) -> bool {
        &*self.text <= b"23:59:59".as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets an alarm at the first time and says at which of the others it goes off.
    fn check(alarm: &str, times: &[(i64, &str)]) -> alloc::vec::Vec<usize> {
        let local = |&(day, text): &(i64, &str)| LocalTime {
            day,
            second: crate::clock::parse_time(text.as_bytes()).expect("a time"),
        };
        let mut set = Alarm::new(alarm.as_bytes(), Some(local(&times[0])));
        (0..times.len()).filter(|&number| set.goes_off(local(&times[number]))).collect()
    }

    #[test]
    fn alarms_go_off_once_a_day() {
        let day =
            [(0, "12:34:56"), (0, "12:34:58"), (0, "12:34:59"), (1, "00:00:00"), (1, "12:34:58"), (1, "12:34:59")];
        assert_eq!(check("12:34:58", &day), [1, 4]);
    }

    #[test]
    fn midnight_is_a_time() {
        assert_eq!(check("00:00:00", &[(0, "23:59:59"), (1, "00:00:00"), (1, "00:00:01"), (2, "00:00:00")]), [1, 3]);
    }

    #[test]
    fn a_past_time_waits_for_tomorrow() {
        assert_eq!(check("06:00:00", &[(0, "07:00:00"), (0, "07:00:01"), (1, "05:59:59"), (1, "06:00:00")]), [3]);
    }

    #[test]
    fn a_gap_makes_it_late_and_a_clock_set_back_arms_it_again() {
        assert_eq!(check("23:59:30", &[(0, "23:59:00"), (1, "00:10:00"), (1, "00:10:01")]), [1]);
        assert_eq!(check("12:00", &[(0, "11:59:59"), (0, "12:00:05"), (0, "11:59:59"), (0, "12:00:00")]), [1, 3]);
    }

    #[test]
    fn what_is_no_time_never_goes_off() {
        assert_eq!(check("7:00:00", &[(0, "06:59:59"), (0, "07:00:00"), (1, "07:00:00")]), [] as [usize; 0]);
    }
}

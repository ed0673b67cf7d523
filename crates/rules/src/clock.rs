//! Local time as scripts see it.
use alloc::string::String;
use core::fmt::Write;
use mqtt::Wall;

/// What the host knows about the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Clock {
    /// Not set yet: `$timestamp` is `99:99:99`, alarms wait.
    #[default]
    Unset,
    /// Local time is wall time plus this.
    Set {
        /// Zone, daylight saving and private corrections together.
        offset_millis: i64,
    },
}

/// Days since 1970-01-01 and seconds of the day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LocalTime {
    pub(crate) day: i64,
    pub(crate) second: u32,
}

const DAY_SECS: i64 = 86_400;

impl Clock {
    pub(crate) fn local(self, wall: Wall) -> Option<LocalTime> {
        let Self::Set { offset_millis } = self else { return None };
        let millis = i64::try_from(wall.0).unwrap_or(i64::MAX).saturating_add(offset_millis);
        let seconds = millis.div_euclid(1000);
        let second = seconds.rem_euclid(DAY_SECS) as u32;
        Some(LocalTime { day: seconds.div_euclid(DAY_SECS), second })
    }
}

/// Most that a zone puts its clocks back by.
const ZONE_SHIFT_MAX_MILLIS: i64 = 2 * 3_600_000;
/// Zones differ by whole quarters of an hour.
const ZONE_STEP_MILLIS: i64 = 900_000;

impl Clock {
    /// Whether this is the same clock after it was put back as zones do it.
    pub(crate) fn repeats(self, before: Self) -> bool {
        let (Self::Set { offset_millis: now }, Self::Set { offset_millis: before }) = (self, before) else {
            return false;
        };
        let back = before.saturating_sub(now);
        (1..=ZONE_SHIFT_MAX_MILLIS).contains(&back) && back % ZONE_STEP_MILLIS == 0
    }
}

impl LocalTime {
    /// `hh:mm:ss`.
    pub(crate) fn time_text(self) -> [u8; 8] {
        let mut text = *b"00:00:00";
        for (at, value) in [(0, self.second / 3600), (3, self.second / 60 % 60), (6, self.second % 60)] {
            text[at] += (value / 10) as u8;
            text[at + 1] += (value % 10) as u8;
        }
        text
    }

    pub(crate) fn weekday(self) -> &'static str {
        // 1970-01-01 was a Thursday.
        const NAMES: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        NAMES[self.day.rem_euclid(7) as usize]
    }

    /// `yyyy-mm-dd`.
    pub(crate) fn date_text(self) -> String {
        // Counted in years that begin with March, so that a leap day is the last of its year.
        let days = self.day + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let mut text = String::new();
        let _ = write!(text, "{year:04}-{month:02}-{day:02}");
        text
    }
}

/// Seconds of the day from `h:mm`, `hh:mm` or `hh:mm:ss`.
pub(crate) fn parse_time(text: &[u8]) -> Option<u32> {
    let mut parts = text.split(|&byte| byte == b':');
    let mut number = |max: u32| {
        let part = parts.next()?;
        let digits = (1..=2).contains(&part.len()) && part.iter().all(u8::is_ascii_digit);
        let value = digits.then(|| part.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))?;
        (value < max).then_some(value)
    };
    let (hour, minute) = (number(24)?, number(60)?);
    let second = if text.iter().filter(|&&byte| byte == b':').count() == 2 { number(60)? } else { 0 };
    parts.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_is_written() {
        for (millis, offset_millis, time, date, weekday) in [
            (0, 0, "00:00:00", "1970-01-01", "Thu"),
            (0, -1000, "23:59:59", "1969-12-31", "Wed"),
            (1_709_164_800_000, 0, "00:00:00", "2024-02-29", "Thu"),
            (1_709_164_800_000, 7_200_000, "02:00:00", "2024-02-29", "Thu"),
            (1_735_689_599_999, 0, "23:59:59", "2024-12-31", "Tue"),
        ] {
            let local = Clock::Set { offset_millis }.local(Wall(millis)).expect("set");
            assert_eq!(&local.time_text(), time.as_bytes());
            assert_eq!(local.date_text(), date);
            assert_eq!(local.weekday(), weekday);
        }
        assert_eq!(Clock::Unset.local(Wall(5)), None);
    }

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("00:00:00", Some(0)),
            ("7:30", Some(27_000)),
            ("23:59:59", Some(86_399)),
            ("24:00", None),
            ("12:60", None),
            ("12", None),
            ("", None),
            ("1:2:3:4", None),
            ("aa:bb", None),
            ("12:00:", None),
        ] {
            assert_eq!(parse_time(text.as_bytes()), expected, "{text}");
        }
    }
}

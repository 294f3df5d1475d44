//! Points in time for a person: by the calendar, and how far from now.

use std::time::Duration;

use time::OffsetDateTime;

use crate::config::format_duration;

/// What now is, in seconds since the Unix epoch, so that other times can be told from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now(pub(super) u64);

impl Now {
    /// How long ago a time was, or until it comes.
    pub(super) fn far(self, at: u64) -> String {
        let far = distance(self.0.abs_diff(at));
        match at.cmp(&self.0) {
            std::cmp::Ordering::Less => format!("{far} ago"),
            std::cmp::Ordering::Equal => "now".to_owned(),
            std::cmp::Ordering::Greater => format!("in {far}"),
        }
    }

    /// A time by the calendar and how long ago that was, or until it comes.
    pub(super) fn tell(self, at: u64) -> String {
        format!("{} ({})", date(at), self.far(at))
    }
}

/// A time by the calendar, in UTC.
pub(super) fn date(at: u64) -> String {
    let time = i64::try_from(at).map(OffsetDateTime::from_unix_timestamp);
    let Ok(Ok(time)) = time else {
        return format!("{at} s after 1970");
    };
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A length as people say it: the two largest units of it are enough.
fn distance(seconds: u64) -> String {
    let unit = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    format_duration(Duration::from_secs(seconds / unit * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_the_calendar_and_from_now() {
        let now = Now(1_795_311_661);
        assert_eq!(now.tell(1_795_311_661), "2026-11-22 01:41:01 UTC (now)");
        assert_eq!(
            now.tell(1_795_311_571),
            "2026-11-22 01:39:31 UTC (1m30s ago)"
        );
        assert_eq!(now.tell(1_795_318_899), "2026-11-22 03:41:39 UTC (in 2h)");
        assert_eq!(
            now.tell(1_797_993_661),
            "2026-12-23 02:41:01 UTC (in 31d1h)"
        );
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00 UTC");
    }

    #[test]
    fn time_beyond_the_calendar_is_told_all_the_same() {
        assert_eq!(date(u64::MAX), "18446744073709551615 s after 1970");
    }
}

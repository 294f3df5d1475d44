//! When a line was written: RFC 3339, or the old stamp of syslog, which has neither year nor zone.

use std::time::Duration;

use time::{Date, Month};

use super::number;
use crate::policy::Timestamp;

/// The time that a line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// A point in time.
    Absolute(Timestamp),
    /// `Nov  2 06:25:01`: the year and the zone are for whoever reads it to know.
    Yearless {
        /// From 1.
        month: u8,
        /// From 1.
        day: u8,
        /// Since midnight.
        second: u32,
    },
}

/// What turns stamps into points in time: the year they began in, and how far their zone is ahead of
/// UTC. It follows them over New Year.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    year: i32,
    /// The month of the last stamp, to see a year end.
    month: u8,
    ahead: i32,
}

impl Calendar {
    /// For stamps that begin in `year`, in a zone `ahead` seconds before UTC.
    pub const fn beginning(year: i32, ahead: i32) -> Self {
        Self {
            year,
            month: 0,
            ahead,
        }
    }

    /// For stamps of which the first is `first`, in a file that was written until `written`: the last
    /// year in which `first` does not lie after it.
    pub fn guessed(first: Stamp, written: Timestamp, ahead: i32) -> Self {
        let latest = written.after(A_DAY);
        let last_year = year_of(latest, ahead);
        let this_year = Self::beginning(last_year, ahead);
        let lies_after = this_year.time(first).is_none_or(|it| it > latest);
        Self::beginning(last_year - i32::from(lies_after), ahead)
    }

    /// The point in time of the next stamp; [`None`] if there is no such day.
    pub fn follow(&mut self, stamp: Stamp) -> Option<Timestamp> {
        if let Stamp::Yearless { month, .. } = stamp {
            // December to January is a new year; a line or two out of order at midnight is none.
            match (self.month, month) {
                (11 | 12, 1 | 2) => self.year += 1,
                (1 | 2, 11 | 12) => self.year -= 1,
                _ => {}
            }
            self.month = month;
        }
        self.time(stamp)
    }

    fn time(&self, stamp: Stamp) -> Option<Timestamp> {
        match stamp {
            Stamp::Absolute(time) => Some(time),
            Stamp::Yearless { month, day, second } => {
                let midnight = midnight(self.year, month, day)?;
                at(midnight + i64::from(second) - i64::from(self.ahead), 0)
            }
        }
    }
}

/// Reads the stamp a line begins with, and gives what comes after it.
pub(super) fn read(line: &[u8]) -> Option<(Stamp, &[u8])> {
    if line.first()?.is_ascii_digit() {
        rfc3339(line)
    } else {
        traditional(line)
    }
}

/// `Nov  2 06:25:01 `.
fn traditional(line: &[u8]) -> Option<(Stamp, &[u8])> {
    let (stamp, rest) = line.split_at_checked(16)?;
    let month = MONTHS.iter().position(|name| *name == &stamp[..3])?;
    let day = number(stamp[4..6].trim_ascii_start())?;
    let second = time_of_day(&stamp[7..15])?;
    let blanks = stamp[3] == b' ' && stamp[6] == b' ' && stamp[15] == b' ';
    let day = u8::try_from(day)
        .ok()
        .filter(|day| (1..=31).contains(day))?;
    let month = u8::try_from(month + 1).ok()?;
    blanks.then_some((
        Stamp::Yearless { month, day, second },
        rest.trim_ascii_start(),
    ))
}

/// `2026-11-02T06:25:01.123456+01:00 `.
fn rfc3339(line: &[u8]) -> Option<(Stamp, &[u8])> {
    let end = line.iter().take(40).position(|&byte| byte == b' ')?;
    let (stamp, rest) = (&line[..end], line[end..].trim_ascii_start());
    let date = stamp.get(..10)?;
    let time = stamp.get(11..19)?;
    let is_form = date[4] == b'-' && date[7] == b'-' && matches!(stamp[10], b'T' | b't');
    let year = number(&date[..4])?;
    let month = number(&date[5..7])?;
    let day = number(&date[8..])?;
    let mut left = &stamp[19..];
    let mut millis = 0;
    if let [b'.', fraction @ ..] = left {
        let digits = fraction.iter().take_while(|it| it.is_ascii_digit()).count();
        let whole = number(fraction.get(..digits.min(3))?)?;
        let missing = 3 - digits.min(3);
        millis = whole * 10_u64.pow(u32::try_from(missing).ok()?);
        left = &fraction[digits..];
    }
    let ahead = zone(left)?;
    let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
    let midnight = midnight(i32::try_from(year).ok()?, month, day)?;
    let seconds = midnight + i64::from(time_of_day(time)?) - i64::from(ahead);
    let stamp = Stamp::Absolute(at(seconds, millis)?);
    is_form.then_some((stamp, rest))
}

/// A point in time as an operator writes it: `2026-11-02`, `2026-11-02T06:25:01`, or either with a
/// zone behind it; without one it is `ahead` seconds before UTC.
pub fn parse_time(text: &str, ahead: i32) -> Option<Timestamp> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00"),
        _ => text.replacen(' ', "T", 1),
    };
    let sign = if ahead < 0 { '-' } else { '+' };
    let minutes = ahead.abs() / 60;
    let zone = format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    let told = |text: String| match read(text.as_bytes()) {
        Some((Stamp::Absolute(time), _)) => Some(time),
        _ => None,
    };
    told(format!("{whole} ")).or_else(|| told(format!("{whole}{zone} ")))
}

/// `Z`, `+01:00`, or `+0100` as `journalctl -o short-iso` writes it, in seconds before UTC.
pub fn zone(text: &[u8]) -> Option<i32> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), hour_ten, hour, b':', ten, minute]
        | [sign @ (b'+' | b'-'), hour_ten, hour, ten, minute] => {
            let hours = number(&[*hour_ten, *hour])?;
            let minutes = number(&[*ten, *minute])?;
            let is_zone = hours <= 18 && minutes < 60;
            let seconds = i32::try_from(hours * 3_600 + minutes * 60).ok()?;
            is_zone.then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// `06:25:01` in seconds. A leap second is told as the one before it.
fn time_of_day(text: &[u8]) -> Option<u32> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *text else {
        return None;
    };
    let hours = number(&[h1, h2])?;
    let minutes = number(&[m1, m2])?;
    let seconds = number(&[s1, s2])?;
    let is_time = hours < 24 && minutes < 60 && seconds <= 60;
    let whole = hours * 3_600 + minutes * 60 + seconds.min(59);
    u32::try_from(whole).ok().filter(|_| is_time)
}

fn midnight(year: i32, month: u8, day: u8) -> Option<i64> {
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    Some(date.midnight().assume_utc().unix_timestamp())
}

fn at(seconds: i64, millis: u64) -> Option<Timestamp> {
    let seconds = u64::try_from(seconds).ok()?;
    Some(Timestamp::from_millis(seconds * 1_000 + millis))
}

fn year_of(time: Timestamp, ahead: i32) -> i32 {
    let seconds = i64::try_from(time.as_millis() / 1_000).unwrap_or(0) + i64::from(ahead);
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or(1970, time::OffsetDateTime::year)
}

/// Between the writing of a line and of the file there is the zone, which may be guessed wrong.
const A_DAY: Duration = Duration::from_hours(24);

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(text: &str) -> Stamp {
        let line = format!("{text} mx");
        read(line.as_bytes()).expect("it is a stamp").0
    }

    fn seconds(time: Option<Timestamp>) -> u64 {
        time.expect("there is such a day").as_millis() / 1_000
    }

    #[test]
    fn rfc_3339_needs_nothing_else() {
        let told = Stamp::Absolute(Timestamp::from_millis(1_793_597_101_123));
        assert_eq!(stamp("2026-11-02T06:25:01.123456+01:00"), told);
        assert_eq!(stamp("2026-11-02T05:25:01.123Z"), told);
        let tenth = Stamp::Absolute(Timestamp::from_millis(1_793_597_101_100));
        assert_eq!(stamp("2026-11-02T00:25:01.1-05:00"), tenth);
        for wrong in [
            "2026-11-02T06:25:01 x",
            "2026-13-02T06:25:01Z x",
            "2026-11-02 06:25:01 x",
            "20 x",
            "2026-02-30T00:00:00Z x",
        ] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn year_is_that_in_which_the_file_was_written_or_the_one_before() {
        let written = Timestamp::from_millis(1_798_941_600_000); // 3 January 2027, 02:00 UTC
        for (first, told) in [
            ("Dec 20 00:00:00", 1_797_724_800),
            ("Jan  1 00:00:00", 1_798_761_600),
            ("Jan  9 00:00:00", 1_767_916_800),
        ] {
            let first = stamp(first);
            let mut calendar = Calendar::guessed(first, written, 0);
            assert_eq!(seconds(calendar.follow(first)), told);
        }
    }

    #[test]
    fn new_year_is_followed_and_a_line_out_of_order_at_midnight_is_none() {
        let mut calendar = Calendar::beginning(2026, 3_600);
        let mut at = |text: &str| seconds(calendar.follow(stamp(text)));
        let silvester = at("Dec 31 23:59:59");
        assert_eq!(silvester, 1_798_757_999);
        assert_eq!(at("Jan  1 00:00:01"), silvester + 2);
        assert_eq!(at("Dec 31 23:59:59"), silvester);
        assert_eq!(at("Jan  1 00:00:02"), silvester + 3);
        assert_eq!(at("Feb 28 23:59:59") + 1, at("Mar  1 00:00:00"));
    }

    #[test]
    fn operators_write_days_and_times_with_and_without_a_zone() {
        let seconds = |text, ahead| parse_time(text, ahead).map(|it| it.as_millis() / 1_000);
        assert_eq!(seconds("2026-11-02", 0), Some(1_793_577_600));
        assert_eq!(seconds("2026-11-02", 3_600), Some(1_793_574_000));
        assert_eq!(seconds("2026-11-02", -5_400), Some(1_793_583_000));
        assert_eq!(seconds("2026-11-02T06:25:01Z", 3_600), Some(1_793_600_701));
        assert_eq!(seconds("2026-11-02 06:25:01", 0), Some(1_793_600_701));
        assert_eq!(seconds("2026-11-02T07:25:01+0100", 0), Some(1_793_600_701));
        for wrong in ["yesterday", "2026-11", "2026-11-02T06", "", "2026-11-31"] {
            assert_eq!(seconds(wrong, 0), None, "{wrong}");
        }
    }

    #[test]
    fn day_that_is_none_is_no_time() {
        let mut calendar = Calendar::beginning(2026, 0);
        assert_eq!(calendar.follow(stamp("Feb 29 00:00:00")), None);
        let mut leap = Calendar::beginning(2028, 0);
        assert!(leap.follow(stamp("Feb 29 00:00:00")).is_some());
        assert_eq!(read(b"Nov 32 00:00:00 mx"), None);
        assert_eq!(read(b"Nov  2 24:00:00 mx"), None);
        assert_eq!(read(b"Nov"), None);
        assert_eq!(read(b""), None);
    }
}

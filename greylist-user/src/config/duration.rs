//! Durations as people write them: `"3m"`, `"24h"`, `"1h30m"`.
//!
//! A bare number is refused: it does not say whether it means seconds or minutes, and the two
//! are a lost day apart.

use std::fmt::Write;
use std::time::Duration;

use thiserror::Error;

/// Reads whole numbers with the units `w`, `d`, `h`, `m`, `s` and `ms`, the larger unit first,
/// each at most once.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    if text.is_empty() {
        return Err(InvalidDuration::Empty);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidDuration::NoUnit(text.to_owned()));
    }
    let invalid = || InvalidDuration::Unreadable(text.to_owned());
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, after) = split_at_first(rest, |byte| !byte.is_ascii_digit());
        let (unit, after) = split_at_first(after, |byte| byte.is_ascii_digit());
        let (_, unit_millis) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        millis = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*unit_millis))
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| InvalidDuration::TooLong(text.to_owned()))?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration in the form that [`parse`] reads; parts of a millisecond are left off.
///
/// Weeks are written as days, since the glossary's times ("36d") are.
pub fn format(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    let mut text = String::new();
    for (unit, unit_millis) in &UNITS[1..] {
        let count = millis / u128::from(*unit_millis);
        millis %= u128::from(*unit_millis);
        // An even day is kept in hours: "24h" is how RFC 6647 and every greylister say it.
        if count > 0 && !(*unit == "d" && count == 1) {
            write!(text, "{count}{unit}").expect("writing to a String cannot fail");
        } else {
            millis += count * u128::from(*unit_millis);
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidDuration {
    /// Nothing was written.
    #[error("a duration is missing; write one such as \"90s\", \"3m\" or \"24h\"")]
    Empty,
    /// A bare number.
    #[error(
        "{0} has no unit; write \"{0}s\" for seconds, \"{0}m\" for minutes or \"{0}h\" for hours"
    )]
    NoUnit(String),
    /// More than 584 million years.
    #[error("{0:?} is too long a duration")]
    TooLong(String),
    /// Anything else.
    #[error(
        "{0:?} is no duration; write whole numbers with w, d, h, m, s or ms, the larger unit first, such as \"1h30m\""
    )]
    Unreadable(String),
}

/// Splits before the first byte that `stops`; both parts are whole characters, since only ASCII
/// digits are asked about.
fn split_at_first(text: &str, stops: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(stops).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The units in milliseconds, the larger first.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 60 * 60 * 1_000),
    ("d", 24 * 60 * 60 * 1_000),
    ("h", 60 * 60 * 1_000),
    ("m", 60 * 1_000),
    ("s", 1_000),
    ("ms", 1),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let table = [
            ("90s", Duration::from_secs(90)),
            ("3m", Duration::from_mins(3)),
            ("24h", Duration::from_hours(24)),
            ("36d", Duration::from_hours(36 * 24)),
            ("2w", Duration::from_hours(14 * 24)),
            ("1h30m", Duration::from_mins(90)),
            ("1d12h", Duration::from_hours(36)),
            ("250ms", Duration::from_millis(250)),
            ("1s500ms", Duration::from_millis(1_500)),
            ("0s", Duration::ZERO),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_bare_numbers_with_a_hint() {
        let refused = parse("180").expect_err("a bare number is no duration");
        assert_eq!(
            refused.to_string(),
            "180 has no unit; write \"180s\" for seconds, \"180m\" for minutes or \"180h\" for hours"
        );
    }

    #[test]
    fn refuses_what_could_mean_two_things() {
        for text in [
            "",
            " 3m",
            "3 m",
            "3M",
            "3min",
            "m",
            "-3m",
            "1.5h",
            "30m1h",
            "1m1m",
            "3m5",
            "3ü",
            "ü3m",
            "99999999999999999999h",
            "18446744073709551615w",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn writes_the_usual_form() {
        for text in ["90s", "3m", "24h", "36d", "1h30m", "250ms", "0s", "30h"] {
            let duration = parse(text).expect("the table holds durations");
            assert_eq!(parse(&format(duration)), Ok(duration), "{text}");
        }
        assert_eq!(format(Duration::from_hours(24)), "24h");
        assert_eq!(format(Duration::from_hours(36 * 24)), "36d");
        assert_eq!(format(Duration::from_secs(90)), "1m30s");
    }

    proptest! {
        #[test]
        fn reads_back_what_it_writes(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}

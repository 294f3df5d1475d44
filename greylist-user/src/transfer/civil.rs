//! Times as databases write them out.

use time::{Date, Month, PrimitiveDateTime, Time};

use crate::policy::Timestamp;

/// `2026-11-21 08:15:00`, with or without a fraction and an offset such as `+01` or `Z`; or whole seconds
/// since the Unix epoch. Without an offset of its own it is taken to be `offset` seconds east of UTC.
pub(super) fn parse(text: &str, offset: i32) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000).map(Timestamp::from_millis);
    }
    let (date, rest) = text.split_at_checked(10)?;
    let mut date = date.splitn(3, '-');
    let year = number(date.next()?)?;
    let month = Month::try_from(u8::try_from(number(date.next()?)?).ok()?).ok()?;
    let day = u8::try_from(number(date.next()?)?).ok()?;
    let date = Date::from_calendar_date(year, month, day).ok()?;

    let (time, rest) = rest.strip_prefix([' ', 'T'])?.split_at_checked(8)?;
    let mut time = time.splitn(3, ':').map(number);
    let mut next = || u8::try_from(time.next()??).ok();
    let time = Time::from_hms(next()?, next()?, next()?).ok()?;

    let rest = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|it: char| it.is_ascii_digit()),
        None => rest,
    };
    let offset = if rest.is_empty() {
        offset
    } else {
        parse_offset(rest)?
    };
    let utc = PrimitiveDateTime::new(date, time).assume_utc();
    let seconds = utc.unix_timestamp().checked_sub(offset.into())?;
    let millis = u64::try_from(seconds).ok()?.checked_mul(1_000)?;
    Some(Timestamp::from_millis(millis))
}

/// Seconds east of UTC: `Z`, `+01`, `+0100`, `-05:30`.
pub(super) fn parse_offset(text: &str) -> Option<i32> {
    let text = text.trim();
    if text == "Z" {
        return Some(0);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        5 => digits.split_once(':')?,
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn number(digits: &str) -> Option<i32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_databases_write_them() {
        let at = |seconds: u64| Some(Timestamp::from_millis(seconds * 1_000));
        for (text, offset, expected) in [
            ("2026-11-21 08:15:00", 0, at(1_795_248_900)),
            ("2026-11-21 09:15:00", 3_600, at(1_795_248_900)),
            ("2026-11-21 08:15:00.123456", 0, at(1_795_248_900)),
            ("2026-11-21 09:15:00.5+01", 7_200, at(1_795_248_900)),
            ("2026-11-21T08:15:00Z", 7_200, at(1_795_248_900)),
            ("1795248900", 3_600, at(1_795_248_900)),
            ("2026-11-21", 0, None),
            ("2026-13-21 08:15:00", 0, None),
            ("2026-11-21 08:15:00 CET", 0, None),
            ("1969-12-31 23:59:59", 0, None),
            ("", 0, None),
        ] {
            assert_eq!(parse(text, offset), expected, "{text}");
        }
        assert_eq!(parse_offset("-05:30"), Some(-19_800));
        assert_eq!(parse_offset("1"), None);
    }
}

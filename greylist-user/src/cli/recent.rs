//! Rates and latencies, made readable.

use std::time::Duration;

use super::paper::{Paper, number};
use crate::admin::{LatencyFacts, Recent};

/// Writes what happened in the last minute.
pub(super) fn recent(recent: &Recent, paper: &mut Paper) {
    if recent.seconds == 0 {
        return; // The daemon is an older one, and does not tell, or has just started.
    }
    let rate = |count| per_second(count, recent.seconds);
    let of = match recent.seconds {
        60.. => "last minute".to_owned(),
        seconds => format!("last {seconds}s"),
    };
    let mut parts = vec![
        format!("{}/s sessions", rate(recent.sessions)),
        format!("recipients {}/s deferred", rate(recent.deferred)),
        format!("{}/s passed", rate(recent.passed)),
    ];
    for (count, what) in [
        (recent.refused, "refused"),
        (recent.read, "to be read"),
        (recent.dropped, "SYNs dropped"),
    ] {
        if count > 0 {
            parts.push(format!("{}/s {what}", rate(count)));
        }
    }
    paper.row(&of, parts.join(", "));
    for (label, latency) in [
        ("verdict in", &recent.latency),
        ("with waiting", &recent.latency_waited),
    ] {
        if let Some(text) = latency_text(latency) {
            paper.row(label, text);
        }
    }
}

/// `8 µs (median), 95 µs (99 of 100)`; [`None`] if there were no verdicts.
pub(super) fn latency_text(latency: &LatencyFacts) -> Option<String> {
    let (p50, p99) = (latency.p50_micros?, latency.p99_micros?);
    Some(format!(
        "{} (median), {} (99 of 100)",
        short(p50),
        short(p99)
    ))
}

/// A time in its unit.
fn short(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!(
            "{:.1} ms",
            Duration::from_micros(micros).as_secs_f64() * 1e3
        ),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", Duration::from_micros(micros).as_secs_f64()),
    }
}

/// How many a second that is, with a digit behind the point where there are few.
pub(super) fn per_second(count: u64, seconds: u64) -> String {
    let seconds = seconds.max(1);
    let tenths = (count.saturating_mul(10) + seconds / 2) / seconds;
    match tenths {
        0 if count > 0 => "<0.1".to_owned(),
        0..1_000 => format!("{}.{}", tenths / 10, tenths % 10),
        _ => number(tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_as_many_digits_as_they_mean_something() {
        for (count, seconds, expected) in [
            (0, 60, "0.0"),
            (1, 60, "<0.1"),
            (3, 60, "0.1"),
            (600, 60, "10.0"),
            (90_000, 60, "1,500"),
            (5, 0, "5.0"),
        ] {
            assert_eq!(per_second(count, seconds), expected, "{count} in {seconds}");
        }
    }

    #[test]
    fn minute_is_told_in_two_rows() {
        let mut paper = Paper::new(false);
        let minute = Recent {
            seconds: 60,
            sessions: 120,
            deferred: 90,
            passed: 30,
            dropped: 600,
            latency: LatencyFacts {
                turns: 120,
                p50_micros: Some(12),
                p99_micros: Some(2_400),
            },
            ..Recent::default()
        };
        recent(&minute, &mut paper);
        assert_eq!(
            paper.into_text(),
            "last minute   2.0/s sessions, recipients 1.5/s deferred, 0.5/s passed, 10.0/s SYNs dropped\n\
             verdict in    12 µs (median), 2.4 ms (99 of 100)\n"
        );
    }
}

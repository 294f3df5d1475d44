//! The funnel, made readable: what came, what became of it, and what share goes on.

use super::paper::{Paper, number};
use crate::admin::{Amount, FateFact, FunnelFacts, KernelRefusals};

/// Writes the funnel. The sentence about the kernel names its figures an estimate.
pub(super) fn funnel(funnel: &FunnelFacts, paper: &mut Paper) {
    if funnel.since == 0 {
        return; // The daemon is an older one, and does not tell.
    }
    let FunnelFacts { seen, passed, .. } = funnel;
    let unsized_messages = match funnel.unsized_messages {
        0 => String::new(),
        some => format!(", {} of no known size", number(some)),
    };
    paper.row(
        "messages",
        format_args!(
            "{}, {} as announced or read{unsized_messages}; since the start",
            number(seen.messages),
            bytes(seen.bytes)
        ),
    );
    for (word, amount) in [
        ("refused", funnel.refused),
        ("deferred", funnel.deferred),
        ("left", funnel.left),
        ("passed", *passed),
    ] {
        if amount.messages > 0 {
            paper.row(word, place(funnel, word, amount));
        }
    }
    let observed = funnel
        .fates
        .iter()
        .find(|it| it.fate == "passed" && it.by == "observed");
    if let Some(observed) = observed.filter(|it| it.messages > 0) {
        paper.row(
            "observed",
            format_args!(
                "{} ({}) of them passed only since greylisting observes: they would have been deferred",
                number(observed.messages),
                percent(observed.messages, seen.messages)
            ),
        );
    }
    if seen.messages > 0 {
        paper.row("analysed", reach(*passed, *seen));
    }
    let given_up = funnel.given_up;
    paper.row(
        "never back",
        format_args!(
            "{} tuples, {} fingerprints: not passed when their retry window closed",
            number(given_up.tuples),
            number(given_up.contents)
        ),
    );
    if let Some(kernel) = funnel.kernel.filter(|it| it.syns > 0) {
        refused_in_the_kernel(&kernel, funnel, paper);
    }
}

/// How many messages met one fate, and where or by what.
fn place(funnel: &FunnelFacts, word: &str, amount: Amount) -> String {
    let of_word = |it: &&FateFact| it.fate == word && it.messages > 0;
    let by = funnel.fates.iter().filter(of_word);
    let by: Vec<String> = by
        .map(|it| format!("{} {}", it.by.replace('_', " "), number(it.messages)))
        .collect();
    format!(
        "{} ({}): {}",
        number(amount.messages),
        percent(amount.messages, funnel.seen.messages),
        by.join(", ")
    )
}

fn reach(passed: Amount, seen: Amount) -> String {
    let of_bytes = match seen.bytes {
        0 => String::new(),
        all => format!(
            ", {} of {} ({})",
            bytes(passed.bytes),
            bytes(all),
            percent(passed.bytes, all)
        ),
    };
    format!(
        "{} of {} messages ({}) reach content analysis{of_bytes}",
        number(passed.messages),
        number(seen.messages),
        percent(passed.messages, seen.messages)
    )
}

fn refused_in_the_kernel(kernel: &KernelRefusals, funnel: &FunnelFacts, paper: &mut Paper) {
    let (least, most) = (kernel.connections_least, kernel.connections_most);
    paper.row(
        "connections",
        format_args!(
            "{} refused by the kernel: an estimate, from {} SYNs",
            range(&number(least), &number(most)),
            number(kernel.syns)
        ),
    );
    let with = |connections: u64| funnel.seen.messages.saturating_add(connections);
    let passed = funnel.passed.messages;
    paper.row(
        "",
        format_args!(
            "with one message in each, {} would reach content analysis",
            range(&percent(passed, with(most)), &percent(passed, with(least)))
        ),
    );
}

/// `least to most`, or the one where they are the same.
fn range(least: &str, most: &str) -> String {
    if least == most {
        least.to_owned()
    } else {
        format!("{least} to {most}")
    }
}

/// What share `part` is of `whole`, to two digits: of small shares, those after the zeros.
fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    let (part, whole) = (u128::from(part), u128::from(whole));
    let mut scale = 1;
    loop {
        let scaled = (part * 100 * scale + whole / 2) / whole;
        if scaled >= 10 || scale >= MOST_PLACES {
            let places = scale.ilog10() as usize;
            let (digits, rest) = (scaled / scale, scaled % scale);
            return match places {
                0 => format!("{digits} %"),
                _ => format!("{digits}.{rest:0places$} %"),
            };
        }
        scale *= 10;
    }
}

/// Bytes in the unit that leaves one to three digits before the point.
fn bytes(bytes: u64) -> String {
    let mut unit = 1;
    for name in ["bytes", "kB", "MB", "GB", "TB"] {
        if bytes < 1_000 * unit || name == "TB" {
            let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
            return match whole {
                0..10 if unit > 1 => format!("{whole}.{tenths} {name}"),
                _ => format!("{} {name}", number(whole)),
            };
        }
        unit *= 1_000;
    }
    number(bytes)
}

/// The share that is shown as nothing but zeros: less than a millionth of a percent.
const MOST_PLACES: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{DroppedSyns, FunnelCounts};
    use crate::milter::{Fate, Tally};

    fn on_paper(facts: &FunnelFacts) -> String {
        let mut paper = Paper::new(false);
        funnel(facts, &mut paper);
        paper.into_text()
    }

    fn counts(of: &[(Fate, u64, u64)], syns: Option<DroppedSyns>) -> FunnelCounts {
        let tally = |fate| {
            let told = of.iter().find(|(it, _, _)| *it == fate);
            told.map_or_else(Tally::default, |&(_, messages, bytes)| Tally {
                messages,
                bytes,
            })
        };
        FunnelCounts {
            since: 1_795_000_000,
            fates: Fate::ALL.map(|fate| (fate, tally(fate))),
            unsized_messages: 7,
            tuples: 470_000,
            contents: 12,
            syns,
        }
    }

    #[test]
    fn funnel_reads_from_what_came_to_what_is_left() {
        let counts = counts(
            &[
                (Fate::RefusedSentenced, 2_000, 0),
                (Fate::RefusedReputation, 5_369, 0),
                (Fate::DeferredAtRcpt, 460_000, 9_000_000_000),
                (Fate::DeferredAtEnd, 10_000, 900_000_000),
                (Fate::PassedExempt, 60, 600_000),
                (Fate::PassedContent, 100, 2_400_000),
            ],
            Some(DroppedSyns {
                first: 40_000,
                again: 30_000,
            }),
        );
        assert_eq!(
            on_paper(&FunnelFacts::of(&counts)),
            "\
messages      477,529, 9.9 GB as announced or read, 7 of no known size; since the start
refused       7,369 (1.5 %): sentence 2,000, reputation 5,369
deferred      470,000 (98 %): rcpt 460,000, end of message 10,000
passed        160 (0.034 %): exempt 60, content 100
analysed      160 of 477,529 messages (0.034 %) reach content analysis, 3.0 MB of 9.9 GB (0.030 %)
never back    470,000 tuples, 12 fingerprints: not passed when their retry window closed
connections   10,000 to 40,000 refused by the kernel: an estimate, from 70,000 SYNs
              with one message in each, 0.031 % to 0.033 % would reach content analysis
"
        );
    }

    #[test]
    fn nothing_is_said_of_what_there_was_not() {
        let facts = FunnelFacts::of(&FunnelCounts {
            unsized_messages: 0,
            ..counts(&[], None)
        });
        let text = on_paper(&facts);
        let first = "messages      0, 0 bytes as announced or read; since the start\n";
        assert!(text.starts_with(first), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(on_paper(&FunnelFacts::default()), "");
    }

    #[test]
    fn shares_have_two_digits_that_mean_something() {
        for (part, whole, expected) in [
            (160, 477_529, "0.034 %"),
            (3_021, 47_435, "6.4 %"),
            (1, 1, "100 %"),
            (99, 200, "50 %"),
            (0, 5, "0 %"),
            (0, 0, "0 %"),
            (1, u64::MAX, "0.000000 %"),
        ] {
            assert_eq!(percent(part, whole), expected, "{part} of {whole}");
        }
    }

    #[test]
    fn bytes_are_told_in_their_unit() {
        for (count, expected) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (12_345, "12 kB"),
            (9_999_999, "9.9 MB"),
            (u64::MAX, "18,446,744 TB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}

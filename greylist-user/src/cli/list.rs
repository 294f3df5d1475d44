//! `greygate list`: its options, and the answer as aligned columns.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::answer::seconds;
use super::moment::{Now, date};
use super::paper::{Paper, harmless, number};
use crate::admin::{
    ClientRow, Envelope, FingerprintRow, ListOrder, ListQuestion, ListRows, ListTable, Listing,
    PendingRow, SentenceRow, TrustedRow,
};
use crate::config::{InvalidDuration, parse_duration};

/// What is to be listed, and which of it.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// `pending` tuples, `trusted` senders, `clients` with strikes or AUTH, `sentences`, or
    /// `fingerprints` of messages
    #[arg(value_name = "WHAT")]
    pub what: ListTable,

    /// Of pending and fingerprints: those that have passed, instead of those that wait
    #[arg(long)]
    pub passed: bool,

    /// Only clients in this network, such as 192.0.2.0/24, or one address
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub network: Option<IpNet>,

    /// Only those first seen, or given, at least so long ago, such as 2h; of trusted and clients, those
    /// last heard of
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older: Option<Duration>,

    /// Only those first seen, or given, at most so long ago; of trusted and clients, those last heard of
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub newer: Option<Duration>,

    /// Only those with at least so many attempts
    #[arg(long, value_name = "NUMBER")]
    pub least_attempts: Option<u64>,

    /// Only sentences with at least so many dropped connections
    #[arg(long, value_name = "NUMBER")]
    pub least_drops: Option<u64>,

    /// Only those with at least so many passes
    #[arg(long, value_name = "NUMBER")]
    pub least_passes: Option<u64>,

    /// Only clients with at least so many strikes that count
    #[arg(long, value_name = "NUMBER")]
    pub least_strikes: Option<u64>,

    /// Only those whose fingerprint begins so
    #[arg(long, value_name = "HEX")]
    pub fingerprint: Option<String>,

    /// Only of this sender, or of a domain as @example.org; `<>` is the null reverse-path
    #[arg(long, value_name = "SENDER")]
    pub sender: Option<String>,

    /// Only to this recipient, or to a domain as @example.org
    #[arg(long, value_name = "RECIPIENT")]
    pub recipient: Option<String>,

    /// Largest or latest first: `attempts`, `drops`, `first`, `last`, `passes`, `strikes` or `until`
    #[arg(long, value_name = "ORDER")]
    pub sort: Option<ListOrder>,

    /// The other way round
    #[arg(long)]
    pub reverse: bool,

    /// At most so many rows, up to 10000 [default: 50]
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<u64>,
}

impl ListArgs {
    /// The question to the daemon.
    pub(super) fn question(&self) -> ListQuestion {
        let bare = |path: &Option<String>| {
            let path = path.as_deref()?;
            Some(Envelope::bare(path, "").sender)
        };
        ListQuestion {
            what: self.what,
            passed: self.passed,
            network: self.network,
            older: self.older.as_ref().map(Duration::as_secs),
            newer: self.newer.as_ref().map(Duration::as_secs),
            least_attempts: self.least_attempts,
            least_drops: self.least_drops,
            least_passes: self.least_passes,
            least_strikes: self.least_strikes,
            fingerprint: self.fingerprint.clone(),
            sender: bare(&self.sender),
            recipient: bare(&self.recipient),
            sort: self.sort,
            reverse: self.reverse,
            limit: self.limit,
        }
    }
}

/// Writes a list for a person.
pub(super) fn list(listing: &Listing, paper: &mut Paper) {
    let now = Now(listing.now);
    let are_kept = listing.addresses_kept;
    match &listing.rows {
        _ if listing.rows.is_empty() => paper.line("nothing is remembered that matches"),
        ListRows::Clients(rows) => clients(rows, now, paper),
        ListRows::Fingerprints(rows) => fingerprints(rows, now, paper),
        ListRows::Pending(rows) => pending(rows, are_kept, now, paper),
        ListRows::Sentences(rows) => sentences(rows, now, paper),
        ListRows::Trusted(rows) => trusted(rows, are_kept, now, paper),
    }
    if !listing.rows.is_empty() {
        let all = number(listing.matched);
        let at = date(listing.now);
        let shown = number(listing.rows.len() as u64);
        match listing.more {
            0 => paper.line(format_args!("{all} in all, at {at}")),
            more => paper.line(format_args!(
                "{shown} of {all}, and {} more, at {at}",
                number(more)
            )),
        }
    }
    for note in &listing.notes {
        paper.line(paper.dim(note));
    }
}

fn pending(rows: &[PendingRow], are_kept: bool, now: Now, paper: &mut Paper) {
    let until = |row: &PendingRow| match row.passed {
        Some(_) => now.far(row.until),
        None if row.standing == "early" => format!("opens {}", now.far(row.opens)),
        None => format!("closes {}", now.far(row.until)),
    };
    let told = rows.iter().map(|row| {
        [
            row.fingerprint.clone(),
            row.standing.clone(),
            now.far(row.first),
            now.far(row.last),
            number(row.attempts),
            number(row.passes),
            length(row.extra),
            until(row),
        ]
    });
    let head = [
        "fingerprint",
        "standing",
        "first",
        "last",
        "attempts",
        "passes",
        "extra",
        "until",
    ];
    if !are_kept {
        paper.table(head, &told.collect::<Vec<_>>());
        return;
    }
    let with_addresses = told.zip(rows).map(|(cells, row)| {
        let who = [
            known(row.client.as_deref()),
            sender(row.sender.as_deref()),
            known(row.recipient.as_deref()),
        ];
        who_first::<_, 3, 8, 11>(who, cells)
    });
    let head = who_first(["client", "sender", "recipient"], head);
    paper.table(head, &with_addresses.collect::<Vec<_>>());
}

fn trusted(rows: &[TrustedRow], are_kept: bool, now: Now, paper: &mut Paper) {
    let told = rows.iter().map(|row| {
        let passes = match row.wanted {
            0 => number(row.passes),
            wanted => format!("{} of {}", number(row.passes), number(wanted)),
        };
        [
            row.fingerprint.clone(),
            row.standing.clone(),
            row.earned_by.clone(),
            passes,
            now.far(row.last),
            now.far(row.until),
        ]
    });
    let head = ["fingerprint", "standing", "by", "passes", "last", "until"];
    if !are_kept {
        paper.table(head, &told.collect::<Vec<_>>());
        return;
    }
    let with_addresses = told.zip(rows).map(|(cells, row)| {
        let who = [known(row.network.as_deref()), sender(row.sender.as_deref())];
        who_first::<_, 2, 6, 8>(who, cells)
    });
    let head = who_first(["network", "sender"], head);
    paper.table(head, &with_addresses.collect::<Vec<_>>());
}

/// A row that begins with who it is about, and ends with its fingerprint, which is the first of `cells`.
fn who_first<T, const WHO: usize, const CELLS: usize, const ALL: usize>(
    who: [T; WHO],
    cells: [T; CELLS],
) -> [T; ALL] {
    const { assert!(WHO + CELLS == ALL) };
    let mut cells = cells.into_iter();
    let fingerprint = cells.next();
    let mut row = who.into_iter().chain(cells).chain(fingerprint);
    std::array::from_fn(|_| row.next().expect("as many as go in"))
}

fn clients(rows: &[ClientRow], now: Now, paper: &mut Paper) {
    let told = rows.iter().map(|row| {
        let far = |at: Option<u64>| at.map_or_else(nothing, |at| now.far(at));
        [
            row.fingerprint.clone(),
            known(row.client.as_deref()),
            number(row.strikes),
            far(row.last),
            known(row.offence.as_deref()),
            far(row.until),
            far(row.last_auth),
            known(row.repute.as_deref()),
            known(row.sentence.as_deref()),
        ]
    });
    paper.table(
        [
            "fingerprint",
            "client",
            "strikes",
            "last",
            "for",
            "until",
            "AUTH",
            "repute",
            "sentence",
        ],
        &told.collect::<Vec<_>>(),
    );
}

fn sentences(rows: &[SentenceRow], now: Now, paper: &mut Paper) {
    let told = rows.iter().map(|row| {
        let level = match row.carried_out.as_deref() {
            None => format!("{} (void)", row.level),
            Some(carried_out) if carried_out != row.level => {
                format!("{} (as {carried_out})", row.level)
            }
            Some(_) => row.level.clone(),
        };
        let longer = if row.lengthened { ", lengthened" } else { "" };
        [
            row.client.clone(),
            level,
            row.reason.clone(),
            now.far(row.first),
            format!("{}{longer}", now.far(row.until)),
            number(row.drops),
        ]
    });
    paper.table(
        ["client", "level", "reason", "given", "until", "drops"],
        &told.collect::<Vec<_>>(),
    );
}

fn fingerprints(rows: &[FingerprintRow], now: Now, paper: &mut Paper) {
    let told = rows.iter().map(|row| {
        let until = if row.standing == "early" {
            format!("opens {}", now.far(row.opens))
        } else {
            now.far(row.until)
        };
        [
            row.fingerprint.clone(),
            row.standing.clone(),
            now.far(row.first),
            now.far(row.last),
            number(row.attempts),
            number(row.passes),
            until,
        ]
    });
    paper.table(
        [
            "fingerprint",
            "standing",
            "first",
            "last",
            "read",
            "passes",
            "until",
        ],
        &told.collect::<Vec<_>>(),
    );
}

/// A text that a stranger may have chosen, or nothing.
fn known(text: Option<&str>) -> String {
    text.map_or_else(nothing, harmless)
}

/// A sender; the null reverse-path is told from one that is not known.
fn sender(text: Option<&str>) -> String {
    match text {
        Some("") => "<>".to_owned(),
        other => known(other),
    }
}

fn nothing() -> String {
    "-".to_owned()
}

fn length(length: u64) -> String {
    if length == 0 {
        nothing()
    } else {
        seconds(length)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse());
    network.map_err(|_| {
        format!("{text:?} is no network; write one such as \"192.0.2.0/24\" or \"2001:db8::/32\"")
    })
}

fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_paper(listing: &Listing) -> String {
        let mut paper = Paper::new(false);
        list(listing, &mut paper);
        paper.into_text()
    }

    #[test]
    fn tuples_are_told_in_columns_with_what_is_left_out() {
        let row = PendingRow {
            fingerprint: "00ff".repeat(8),
            standing: "early".to_owned(),
            first: 1_795_311_571,
            last: 1_795_311_651,
            attempts: 2,
            opens: 1_795_311_751,
            until: 1_795_397_971,
            ..PendingRow::default()
        };
        let text = on_paper(&Listing {
            now: 1_795_311_661,
            matched: 1_200,
            more: 1_199,
            notes: vec!["addresses are not kept".to_owned()],
            rows: ListRows::Pending(vec![row]),
            ..Listing::default()
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1],
            "00ff00ff00ff00ff00ff00ff00ff00ff  early     1m30s ago  10s ago  2         0       -      \
             opens in 1m30s"
        );
        assert_eq!(
            lines[2],
            "1 of 1,200, and 1,199 more, at 2026-11-22 01:41:01 UTC"
        );
        assert_eq!(lines[3], "addresses are not kept");
    }

    #[test]
    fn kept_addresses_are_columns_and_a_strangers_text_stays_text() {
        let row = PendingRow {
            client: Some("192.0.2.7".to_owned()),
            sender: Some(String::new()),
            recipient: Some("r\u{1b}[2J\n@here.example".to_owned()),
            ..PendingRow::default()
        };
        let text = on_paper(&Listing {
            addresses_kept: true,
            matched: 1,
            rows: ListRows::Pending(vec![row]),
            ..Listing::default()
        });
        let line = text.lines().nth(1).expect("a row");
        let head = r"192.0.2.7  <>      r\u{1b}[2J\n@here.example";
        assert!(line.starts_with(head), "{line}");
    }

    #[test]
    fn empty_list_says_so() {
        let nothing = on_paper(&Listing::default());
        assert_eq!(nothing, "nothing is remembered that matches\n");
    }

    #[test]
    fn sentence_that_is_not_carried_out_says_so() {
        let row = |level: &str, carried_out: Option<&str>| SentenceRow {
            client: "192.0.2.7".to_owned(),
            level: level.to_owned(),
            carried_out: carried_out.map(str::to_owned),
            ..SentenceRow::default()
        };
        let text = on_paper(&Listing {
            matched: 3,
            rows: ListRows::Sentences(vec![
                row("block", Some("block")),
                row("block", Some("observe")),
                row("rate", None),
            ]),
            ..Listing::default()
        });
        for told in ["block  ", "block (as observe)", "rate (void)"] {
            assert!(text.contains(told), "{text}");
        }
    }
}

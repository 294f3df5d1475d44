//! What is remembered, as lists: the question of `greygate list`, and the answer.
//!
//! Times are seconds since the Unix epoch, lengths are seconds; what there is nothing of is absent.
//! The field names are an interface: fields are added, never renamed. A list is bounded: it has as
//! many rows as were asked for, [`ListQuestion::MOST`] at most, and says how many more there are.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

mod rows;
mod told;

pub use rows::{ClientRow, FingerprintRow, ListRows, Listing, PendingRow, SentenceRow, TrustedRow};
pub(super) use told::hex;

/// What is to be listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListTable {
    /// Client addresses of which strikes or AUTH are remembered.
    Clients,
    /// Messages that were read.
    Fingerprints,
    /// Tuples that wait; those that passed, if these are asked for.
    #[default]
    Pending,
    /// Sentences in force.
    Sentences,
    /// Trust, earned or being earned.
    Trusted,
}

/// What a list is sorted by: the largest or latest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListOrder {
    /// Attempts, or how often a message was read.
    Attempts,
    /// New connections that the kernel dropped.
    Drops,
    /// When it was seen first, or given.
    First,
    /// When it was heard of last.
    Last,
    /// Passes.
    Passes,
    /// Strikes.
    Strikes,
    /// When it ends: lapses, if nothing more is heard.
    Until,
}

/// Which rows are wanted of which list. What is absent filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuestion {
    /// The list.
    pub what: ListTable,
    /// Of pending tuples and messages: those that have passed instead of those that wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passed: bool,
    /// Whose client address lies in this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<IpNet>,
    /// Seen first at least so many seconds ago. Of trust and clients it is the last that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older: Option<u64>,
    /// Seen first at most so many seconds ago. Of trust and clients it is the last that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<u64>,
    /// With at least so many attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_attempts: Option<u64>,
    /// With at least so many dropped connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_drops: Option<u64>,
    /// With at least so many passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_passes: Option<u64>,
    /// With at least so many strikes that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_strikes: Option<u64>,
    /// Whose fingerprint begins with these hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Of this sender; empty is the null reverse-path, `@example.org` a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// To this recipient; `@example.org` is a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Sorted by this; without it, as the list is of most use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<ListOrder>,
    /// The smallest or earliest first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reverse: bool,
    /// At most so many rows; without it [`ListQuestion::ROWS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl ListQuestion {
    /// Rows that are listed if nothing is said.
    pub const ROWS: usize = 50;
    /// Most rows that may be asked for.
    pub const MOST: usize = 10_000;

    /// All of a list, as far as the usual number of rows goes.
    pub fn of(what: ListTable) -> Self {
        Self {
            what,
            ..Self::default()
        }
    }

    /// How many rows are wanted.
    pub fn rows(&self) -> usize {
        self.limit.map_or(Self::ROWS, |limit| {
            usize::try_from(limit).map_or(Self::MOST, |limit| limit.min(Self::MOST))
        })
    }

    /// What the list is sorted by.
    pub fn order(&self) -> ListOrder {
        self.sort.unwrap_or(match self.what {
            ListTable::Clients => ListOrder::Strikes,
            ListTable::Fingerprints | ListTable::Pending | ListTable::Trusted => ListOrder::Last,
            ListTable::Sentences => ListOrder::Drops,
        })
    }

    /// Whether it can be answered: what the list does not know cannot filter or sort it.
    pub fn check(&self) -> Result<(), InvalidList> {
        if self
            .limit
            .is_some_and(|limit| limit == 0 || limit > Self::MOST as u64)
        {
            return Err(InvalidList::Limit);
        }
        if let Some(prefix) = &self.fingerprint {
            let is_hex = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
            if prefix.is_empty() || prefix.len() > FINGERPRINT_DIGITS || !is_hex {
                return Err(InvalidList::Fingerprint(prefix.clone()));
            }
        }
        let named = [
            ("passed", self.passed),
            ("network", self.network.is_some()),
            ("least-attempts", self.least_attempts.is_some()),
            ("least-drops", self.least_drops.is_some()),
            ("least-passes", self.least_passes.is_some()),
            ("least-strikes", self.least_strikes.is_some()),
            ("fingerprint", self.fingerprint.is_some()),
            ("sender", self.sender.is_some()),
            ("recipient", self.recipient.is_some()),
        ];
        let known = self.what.filters();
        for (option, is_named) in named {
            if is_named && !known.contains(&option) {
                return Err(InvalidList::Filter {
                    what: self.what,
                    option,
                });
            }
        }
        match self.sort {
            Some(sort) if !self.what.orders().contains(&sort) => Err(InvalidList::Order {
                what: self.what,
                sort,
            }),
            _ => Ok(()),
        }
    }
}

impl ListTable {
    /// The word for it: `pending`, `trusted`, `clients`, `sentences` or `fingerprints`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Fingerprints => "fingerprints",
            Self::Pending => "pending",
            Self::Sentences => "sentences",
            Self::Trusted => "trusted",
        }
    }

    /// The options that filter it, beside those of time.
    fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Clients => &["network", "least-strikes", "fingerprint"],
            Self::Fingerprints => &["passed", "least-attempts", "least-passes", "fingerprint"],
            Self::Pending => &[
                "passed",
                "network",
                "least-attempts",
                "least-passes",
                "fingerprint",
                "sender",
                "recipient",
            ],
            Self::Sentences => &["network", "least-drops"],
            Self::Trusted => &["network", "least-passes", "fingerprint", "sender"],
        }
    }

    /// What it can be sorted by.
    pub fn orders(self) -> &'static [ListOrder] {
        use ListOrder::{Attempts, Drops, First, Last, Passes, Strikes, Until};
        match self {
            Self::Clients => &[Strikes, Last, Until],
            Self::Fingerprints | Self::Pending => &[Attempts, First, Last, Passes, Until],
            Self::Sentences => &[Drops, First, Until],
            Self::Trusted => &[Last, Passes, Until],
        }
    }
}

impl ListOrder {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Drops => "drops",
            Self::First => "first",
            Self::Last => "last",
            Self::Passes => "passes",
            Self::Strikes => "strikes",
            Self::Until => "until",
        }
    }
}

impl FromStr for ListTable {
    type Err = UnknownTable;

    fn from_str(word: &str) -> Result<Self, UnknownTable> {
        ALL_TABLES
            .into_iter()
            .find(|table| table.as_str() == word)
            .ok_or_else(|| UnknownTable(word.to_owned()))
    }
}

/// A word that names no list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no list; write pending, trusted, clients, sentences or fingerprints")]
pub struct UnknownTable(String);

impl FromStr for ListOrder {
    type Err = UnknownOrder;

    fn from_str(word: &str) -> Result<Self, UnknownOrder> {
        ALL_ORDERS
            .into_iter()
            .find(|order| order.as_str() == word)
            .ok_or_else(|| UnknownOrder(word.to_owned()))
    }
}

impl fmt::Display for ListOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that no list is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no order; write attempts, drops, first, last, passes, strikes or until")]
pub struct UnknownOrder(String);

/// Why a list cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidList {
    /// A filter that the list has no field for.
    #[error("{} cannot be filtered by --{option}; what filters them is --older, --newer, {}", what.as_str(), dashed(what.filters()))]
    Filter {
        /// The list.
        what: ListTable,
        /// The option.
        option: &'static str,
    },
    /// No beginning of a fingerprint.
    #[error("{0:?} begins no fingerprint; write hexadecimal digits, {FINGERPRINT_DIGITS} at most")]
    Fingerprint(String),
    /// Too few rows, or too many.
    #[error(
        "a list has from 1 to 10,000 rows; narrow it with its filters, or take a snapshot's worth with `greygate export`"
    )]
    Limit,
    /// An order that the list has no field for.
    #[error("{} cannot be sorted by {sort}; what sorts them is {}", what.as_str(), words(what.orders()))]
    Order {
        /// The list.
        what: ListTable,
        /// The order.
        sort: ListOrder,
    },
}

fn dashed(options: &[&str]) -> String {
    let options: Vec<_> = options.iter().map(|option| format!("--{option}")).collect();
    options.join(", ")
}

fn words(orders: &[ListOrder]) -> String {
    let words: Vec<_> = orders.iter().map(|order| order.as_str()).collect();
    words.join(", ")
}

const ALL_TABLES: [ListTable; 5] = [
    ListTable::Pending,
    ListTable::Trusted,
    ListTable::Clients,
    ListTable::Sentences,
    ListTable::Fingerprints,
];

const ALL_ORDERS: [ListOrder; 7] = [
    ListOrder::Attempts,
    ListOrder::Drops,
    ListOrder::First,
    ListOrder::Last,
    ListOrder::Passes,
    ListOrder::Strikes,
    ListOrder::Until,
];

/// 128 bits.
const FINGERPRINT_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_one_document_under_its_name() {
        let listing = Listing {
            now: 7,
            matched: 3,
            more: 2,
            rows: ListRows::Sentences(vec![SentenceRow {
                client: "192.0.2.7".to_owned(),
                ..SentenceRow::default()
            }]),
            ..Listing::default()
        };
        let json = serde_json::to_value(&listing).expect("plain data");
        assert_eq!(json["what"], "sentences");
        assert_eq!(json["rows"][0]["client"], "192.0.2.7");
        assert_eq!((&json["matched"], &json["more"]), (&3.into(), &2.into()));
        let read: Listing = serde_json::from_value(json).expect("what was written");
        assert_eq!(read, listing);
    }

    #[test]
    fn ten_thousand_rows_may_be_asked_for_and_not_one_more() {
        let asking = |limit| ListQuestion {
            limit: Some(limit),
            ..ListQuestion::default()
        };
        assert_eq!(asking(10_000).check(), Ok(()));
        assert_eq!(asking(10_000).rows(), 10_000);
        for limit in [0, 10_001, u64::MAX] {
            let refused = asking(limit).check().expect_err("too few or too many");
            assert!(
                refused.to_string().contains("from 1 to 10,000"),
                "{refused}"
            );
            assert!(asking(limit).rows() <= ListQuestion::MOST);
        }
        assert_eq!(ListQuestion::default().rows(), 50);
    }

    #[test]
    fn what_a_list_does_not_know_neither_filters_nor_sorts_it() {
        let by_recipient = ListQuestion {
            recipient: Some("r@b.example".to_owned()),
            ..ListQuestion::of(ListTable::Trusted)
        };
        let refused = by_recipient
            .check()
            .expect_err("trust is of all recipients");
        assert_eq!(
            refused.to_string(),
            "trusted cannot be filtered by --recipient; what filters them is --older, --newer, \
             --network, --least-passes, --fingerprint, --sender"
        );
        let by_drops = ListQuestion {
            sort: Some(ListOrder::Drops),
            ..ListQuestion::of(ListTable::Pending)
        };
        assert!(by_drops.check().is_err());
        for prefix in ["", "xyz", "0123456789abcdef0123456789abcdef0"] {
            let question = ListQuestion {
                fingerprint: Some(prefix.to_owned()),
                ..ListQuestion::default()
            };
            assert!(question.check().is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn every_list_can_be_sorted_as_it_is_by_itself() {
        for what in ALL_TABLES {
            assert_eq!(what.as_str().parse(), Ok(what));
            let question = ListQuestion {
                sort: Some(ListQuestion::of(what).order()),
                ..ListQuestion::of(what)
            };
            assert_eq!(question.check(), Ok(()));
        }
        for order in ALL_ORDERS {
            assert_eq!(order.as_str().parse(), Ok(order));
        }
    }
}

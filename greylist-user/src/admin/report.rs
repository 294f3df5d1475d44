//! What became of mail behind greygate, as a content filter or an operator tells it.
//!
//! Pure: says which reports can be believed to mean something; leaves what they count for to the
//! store.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::why::Envelope;

/// What became of mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// It was wanted.
    Ham {
        /// The client that handed it over.
        address: IpAddr,
        /// Its verified reverse name; empty if it has none, absent if that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// It was refused for good, by somebody behind greygate.
    Reject {
        /// The client that handed it over.
        address: IpAddr,
        /// Its sender and recipient.
        mail: Envelope,
        /// Its size as announced at MAIL, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// It was spam.
    Spam {
        /// The client that handed it over.
        address: IpAddr,
        /// Its verified reverse name; empty if it has none, absent if that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

impl Report {
    /// The client that handed the mail over.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Ham { address, .. }
            | Self::Reject { address, .. }
            | Self::Spam { address, .. } => address.to_canonical(),
        }
    }

    /// Whether it can mean anything.
    ///
    /// # Errors
    ///
    /// When no client can have that address, or no mail that recipient: a filter that mixes up its
    /// arguments shall hear of it.
    pub fn check(&self) -> Result<(), InvalidReport> {
        let address = self.address();
        if address.is_unspecified() || address.is_multicast() {
            return Err(InvalidReport::Address(address));
        }
        match self {
            Self::Reject { mail, .. } if mail.recipient.is_empty() => Err(InvalidReport::Recipient),
            _ => Ok(()),
        }
    }

    /// The word for it in log and metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Ham { .. } => "report-ham",
            Self::Reject { .. } => "report-reject",
            Self::Spam { .. } => "report-spam",
        }
    }
}

/// One line: `spam ADDRESS [NAME]`, `ham ADDRESS [NAME]` or `reject ADDRESS SENDER RECIPIENT [SIZE]`,
/// apart by spaces. `<>` is the null reverse-path; `-` as a name is none.
impl FromStr for Report {
    type Err = InvalidReport;

    fn from_str(line: &str) -> Result<Self, InvalidReport> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = |word: &str| word.parse().map_err(|_| InvalidReport::Line);
        let name = |words: &[&str]| match words {
            [] => Ok(None),
            ["-"] => Ok(Some(String::new())),
            [name] => Ok(Some((*name).to_owned())),
            _ => Err(InvalidReport::Line),
        };
        match &words[..] {
            ["ham", of, rest @ ..] => Ok(Self::Ham {
                address: address(of)?,
                name: name(rest)?,
            }),
            ["spam", of, rest @ ..] => Ok(Self::Spam {
                address: address(of)?,
                name: name(rest)?,
            }),
            ["reject", of, sender, recipient, rest @ ..] if rest.len() < 2 => {
                let size = rest.first().map(|size| size.parse()).transpose();
                Ok(Self::Reject {
                    address: address(of)?,
                    mail: Envelope::bare(sender, recipient),
                    size: size.map_err(|_| InvalidReport::Line)?,
                })
            }
            _ => Err(InvalidReport::Line),
        }
    }
}

/// Why a report is not heard.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidReport {
    /// An address that no client has.
    #[error("{0} is no address that a client can have")]
    Address(IpAddr),
    /// A line that is no report.
    #[error(
        "no report; write \"spam ADDRESS [NAME]\", \"ham ADDRESS [NAME]\" or \"reject ADDRESS SENDER RECIPIENT [SIZE]\""
    )]
    Line,
    /// No recipient.
    #[error("a recipient is missing: only the sender may be empty")]
    Recipient,
}

/// A report that was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The client.
    pub client: String,
    /// `ham`, `reject` or `spam`.
    pub what: String,
}

impl Reported {
    /// That `report` was heard.
    pub fn of(report: &Report) -> Self {
        let what = report.word();
        Self {
            client: report.address().to_string(),
            what: what.trim_start_matches("report-").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_a_filter_writes() {
        let address: IpAddr = [192, 0, 2, 7].into();
        let name = Some("mx.example".to_owned());
        let mail = |sender: &str| Envelope {
            sender: sender.to_owned(),
            recipient: "r@b.example".to_owned(),
        };
        let reject = |sender, size| Report::Reject {
            address,
            mail: mail(sender),
            size,
        };
        for (line, expected) in [
            (
                "spam 192.0.2.7",
                Report::Spam {
                    address,
                    name: None,
                },
            ),
            (
                " ham  192.0.2.7 mx.example\r\n",
                Report::Ham { address, name },
            ),
            (
                "spam 192.0.2.7 -",
                Report::Spam {
                    address,
                    name: Some(String::new()),
                },
            ),
            (
                "reject 192.0.2.7 <s@a.example> <r@b.example> 5000",
                reject("s@a.example", Some(5_000)),
            ),
            ("reject 192.0.2.7 <> r@b.example", reject("", None)),
        ] {
            assert_eq!(line.parse(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn refuses_lines_that_are_no_report() {
        for line in [
            "",
            "spam",
            "spam example.org",
            "spam 192.0.2.7 a b",
            "virus 192.0.2.7",
            "reject 192.0.2.7 s@a.example",
            "reject 192.0.2.7 s@a.example r@b.example big",
            "reject 192.0.2.7 s@a.example r@b.example 1 2",
        ] {
            assert_eq!(line.parse::<Report>(), Err(InvalidReport::Line), "{line}");
        }
    }

    #[test]
    fn reports_of_nobody_or_to_nobody_are_refused() {
        for line in ["spam 0.0.0.0", "ham ::", "spam 224.0.0.1"] {
            let report: Report = line.parse().expect("it is a report");
            let refused = report.check();
            assert!(matches!(refused, Err(InvalidReport::Address(_))), "{line}");
        }
        let report: Report = "reject 192.0.2.7 s@a.example <>".parse().expect("a report");
        assert_eq!(report.check(), Err(InvalidReport::Recipient));
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in ".*") {
            let _ = line.parse::<Report>();
        }
    }
}

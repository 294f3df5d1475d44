//! SQLgrey's tables as CSV, of version 1.8 (`create_connect_table` and its like in its source):
//!
//! - `connect`: sender_name, sender_domain, src, rcpt, first_seen: a pending tuple;
//! - `from_awl`: sender_name, sender_domain, src, first_seen, last_seen: a trusted sender;
//! - `domain_awl`: sender_domain, src, first_seen, last_seen: a client trusted with a domain.
//!
//! `src` is an address, the first three numbers of one, or of IPv6 the first four groups. In the sender
//! name of `from_awl`, `#` stands for what changes from mail to mail, much as in greygate's trust. A
//! line of column names may come first, in any order. Fields are parted by commas, tabs or bars.

use std::net::IpAddr;

use csv::{ReaderBuilder, StringRecord};
use ipnet::IpNet;

use super::civil;
use super::format::{Options, Parsed, Parser};
use super::item::Item;

/// Reads one table.
pub(super) struct SqlGrey {
    offset: i32,
    /// In milliseconds.
    now: u64,
    /// What parts the fields, once a line was seen.
    delimiter: Option<u8>,
    columns: Option<Columns>,
}

/// Where each column is.
#[derive(Clone, Copy, Debug, Default)]
struct Columns {
    sender_name: Option<usize>,
    sender_domain: Option<usize>,
    src: Option<usize>,
    rcpt: Option<usize>,
    first_seen: Option<usize>,
    last_seen: Option<usize>,
}

impl SqlGrey {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            offset: options.offset,
            now: options.now.as_millis(),
            delimiter: None,
            columns: None,
        }
    }

    fn row(&self, columns: Columns, record: &StringRecord) -> Result<Parsed, String> {
        let field = |at: Option<usize>, name: &str| {
            let field = at.and_then(|at| record.get(at)).map(str::trim);
            field.ok_or_else(|| format!("the line has no {name}"))
        };
        let time = |at, name| {
            let text = field(at, name)?;
            let time = civil::parse(text, self.offset).map(|it| it.as_millis().min(self.now));
            time.ok_or_else(|| format!("{name} {text:?} is no time; write 2026-11-21 08:15:00"))
        };
        let src = field(columns.src, "src")?;
        let client = client(src)
            .ok_or_else(|| format!("src {src:?} is neither an address nor a part of one"))?;
        let domain = known(field(columns.sender_domain, "sender_domain")?);
        let name = match columns.sender_name {
            Some(_) => Some(known(field(columns.sender_name, "sender_name")?)),
            None => None,
        };
        let sender = match (name, domain) {
            (Some(""), "") => String::new(),
            (Some(name), "") => name.to_owned(),
            (Some(name), domain) => format!("{name}@{domain}"),
            (None, _) => String::new(),
        };
        Ok(match (name, columns.rcpt) {
            (Some(_), Some(_)) => {
                let recipient = field(columns.rcpt, "rcpt")?.to_owned();
                let first_seen = time(columns.first_seen, "first_seen")?;
                Parsed::Item(Item::ForeignTuple {
                    client,
                    sender,
                    recipient,
                    first_seen,
                    last_seen: first_seen,
                    passed: false,
                })
            }
            (Some(_), None) if sender.is_empty() => {
                Parsed::NoCounterpart("trust in the null reverse-path, which everybody may use")
            }
            (Some(_), None) => Parsed::Item(Item::ForeignSender {
                client,
                sender,
                last_used: time(columns.last_seen, "last_seen")?,
            }),
            (None, _) if domain.is_empty() => {
                Parsed::NoCounterpart("trust in the null reverse-path, which everybody may use")
            }
            (None, _) => Parsed::Item(Item::ForeignDomain {
                client,
                domain: domain.to_owned(),
                last_used: time(columns.last_seen, "last_seen")?,
            }),
        })
    }
}

impl Parser for SqlGrey {
    fn line(&mut self, line: &str) -> Result<Parsed, String> {
        if line.trim().is_empty() {
            return Ok(Parsed::Nothing);
        }
        let delimiter = *self.delimiter.get_or_insert_with(|| delimiter_of(line));
        let record = fields(line, delimiter)?;
        if self.columns.is_none()
            && let Some(columns) = Columns::named(&record)
        {
            columns.check()?;
            self.columns = Some(columns);
            return Ok(Parsed::Nothing);
        }
        let columns = match self.columns {
            Some(columns) => columns,
            None => Columns::guessed(&record, self.offset).ok_or(EXPECTED)?,
        };
        let row = self.row(columns, &record)?;
        self.columns = Some(columns);
        Ok(row)
    }
}

impl Columns {
    /// Out of a line of names.
    fn named(record: &StringRecord) -> Option<Self> {
        let at = |name: &str| {
            let is_name = |field: &str| field.trim().eq_ignore_ascii_case(name);
            record.iter().position(is_name)
        };
        at("src")?;
        Some(Self {
            sender_name: at("sender_name"),
            sender_domain: at("sender_domain"),
            src: at("src"),
            rcpt: at("rcpt"),
            first_seen: at("first_seen"),
            last_seen: at("last_seen"),
        })
    }

    fn check(self) -> Result<(), String> {
        let has_time = match self.rcpt {
            Some(_) => self.first_seen,
            None => self.last_seen,
        };
        match (self.sender_domain, has_time) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(EXPECTED.to_owned()),
        }
    }

    /// As the tables have them, told by how many there are and where the times are.
    fn guessed(record: &StringRecord, offset: i32) -> Option<Self> {
        let is_time = |at: usize| {
            let field = record.get(at).unwrap_or_default();
            civil::parse(field, offset).is_some()
        };
        let columns = match record.len() {
            4 if is_time(2) && is_time(3) => Self {
                sender_domain: Some(0),
                src: Some(1),
                first_seen: Some(2),
                last_seen: Some(3),
                ..Self::default()
            },
            5 if is_time(4) => {
                let named = Self {
                    sender_name: Some(0),
                    sender_domain: Some(1),
                    src: Some(2),
                    ..Self::default()
                };
                if is_time(3) {
                    Self {
                        first_seen: Some(3),
                        last_seen: Some(4),
                        ..named
                    }
                } else {
                    Self {
                        rcpt: Some(3),
                        first_seen: Some(4),
                        ..named
                    }
                }
            }
            _ => return None,
        };
        client(record.get(columns.src?)?.trim()).map(|_| columns)
    }
}

/// A client as far as it is told.
fn client(src: &str) -> Option<IpNet> {
    if let Ok(address) = src.parse::<IpAddr>() {
        return Some(address.to_canonical().into());
    }
    if src.contains(':') {
        let network = format!("{src}::").parse().map(IpAddr::V6).ok()?;
        return (src.split(':').count() == 4).then(|| IpNet::new(network, 64).ok())?;
    }
    let network = format!("{src}.0").parse().map(IpAddr::V4).ok()?;
    IpNet::new(network, 24).ok()
}

/// What SQLgrey writes where a part of a path is missing.
fn known(part: &str) -> &str {
    if part == "-undef-" { "" } else { part }
}

fn delimiter_of(line: &str) -> u8 {
    let parts = |delimiter: char| line.contains(delimiter);
    match (parts('\t'), parts(','), parts('|')) {
        (true, _, _) => b'\t',
        (false, false, true) => b'|',
        _ => b',',
    }
}

fn fields(line: &str, delimiter: u8) -> Result<StringRecord, String> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .buffer_capacity(line.len() + 1)
        .from_reader(line.as_bytes());
    let mut record = StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record),
        Err(error) => Err(format!("the line is no CSV: {error}")),
    }
}

const EXPECTED: &str = "not the columns of connect, from_awl or domain_awl; export whole tables, best with a line \
                        of column names";

#[cfg(test)]
mod tests {
    use crate::policy::Timestamp;

    use super::*;

    fn read(text: &str) -> Vec<Result<Parsed, String>> {
        let mut parser = SqlGrey::new(&Options {
            now: Timestamp::from_millis(1_795_300_000_000),
            ..Options::default()
        });
        let lines = text.lines().map(|line| parser.line(line));
        lines.filter(|it| *it != Ok(Parsed::Nothing)).collect()
    }

    fn network(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn tables_are_told_apart_with_and_without_their_column_names() {
        let tuple = Ok(Parsed::Item(Item::ForeignTuple {
            client: network("192.0.2.0/24"),
            sender: "a@b.example".to_owned(),
            recipient: "c@d.example".to_owned(),
            first_seen: 1_795_248_900_000,
            last_seen: 1_795_248_900_000,
            passed: false,
        }));
        let sender = Ok(Parsed::Item(Item::ForeignSender {
            client: network("192.0.2.7/32"),
            sender: "list-#@b.example".to_owned(),
            last_used: 1_795_248_900_000,
        }));
        let domain = Ok(Parsed::Item(Item::ForeignDomain {
            client: network("2001:db8:0:1::/64"),
            domain: "b.example".to_owned(),
            last_used: 1_795_248_900_000,
        }));
        let null = "trust in the null reverse-path, which everybody may use";
        for (text, expected) in [
            (
                "a,b.example,192.0.2,c@d.example,2026-11-21 08:15:00\n",
                &tuple,
            ),
            (
                "rcpt,first_seen,src,sender_domain,sender_name\n\
                 c@d.example,2026-11-21 08:15:00,192.0.2,b.example,a\n",
                &tuple,
            ),
            (
                "sender_name\tsender_domain\tsrc\trcpt\tfirst_seen\n\
                 a\tb.example\t192.0.2\tc@d.example\t2026-11-21 08:15:00\n",
                &tuple,
            ),
            ("a|b.example|192.0.2|c@d.example|1795248900\n", &tuple),
            (
                "list-#,b.example,192.0.2.7,2026-11-01 00:00:00,2026-11-21 08:15:00\n",
                &sender,
            ),
            (
                "\"list-#\",\"b.example\",\"192.0.2.7\",2026-11-01 00:00:00,2026-11-21 09:15:00+01\n",
                &sender,
            ),
            (
                "b.example,2001:db8:0:1,2026-11-01 00:00:00,2026-11-21 08:15:00.25\n",
                &domain,
            ),
            (
                "-undef-,-undef-,192.0.2.7,2026-11-01 00:00:00,2026-11-21 08:15:00\n",
                &Ok(Parsed::NoCounterpart(null)),
            ),
        ] {
            assert_eq!(read(text), [expected.clone()], "{text}");
        }
    }

    #[test]
    fn what_is_no_row_is_said() {
        for (text, expected) in [
            ("a,b\n", "not the columns"),
            (
                "src,sender_domain\n192.0.2.7,b.example\n",
                "not the columns",
            ),
            (
                "sender_domain,src,last_seen\nb.example,host,1795248900\n",
                "src \"host\"",
            ),
            (
                "sender_domain,src,last_seen\nb.example,192.0.2\n",
                "the line has no last_seen",
            ),
            (
                "sender_domain,src,last_seen\nb.example,192.0.2,x\n",
                "last_seen \"x\" is no time",
            ),
        ] {
            let said = read(text);
            let error = said[0].as_ref().expect_err("it is none");
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

//! Postgrey's databases through `db_dump` (`smtpd_access_policy` in its source, version 1.37):
//!
//! `postgrey.db` has `network/sender/recipient`, lower case, with `first,last` in seconds; older ones
//! add the last number of the client's address. The network is cut to `/24` and `/64`; with
//! `--lookup-by-host` it is the address with its own length. A tuple passed if its last attempt came
//! `--delay` after its first. `postgrey_clients.db` has an address with `count,last`. `--privacy` hashes
//! the keys of both. In a sender, `#` stands for numbers, and nothing says which.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::db_dump::{DbDump, Dumped};
use super::format::{Options, Parsed, Parser};
use super::item::Item;

/// Reads a dump of either database.
pub(super) struct Postgrey {
    dump: DbDump,
    /// In seconds.
    delay: u64,
    /// In milliseconds.
    now: u64,
}

impl Postgrey {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            dump: DbDump::default(),
            delay: options.delay.unwrap_or(DELAY).as_secs(),
            now: options.now.as_millis(),
        }
    }

    fn entry(&self, key: &str, value: &str) -> Result<Parsed, String> {
        if key.len() == HASHED && key.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Ok(Parsed::NoCounterpart("keys hashed by --privacy"));
        }
        let mut numbers = value.split(',');
        let mut number = || numbers.next().and_then(|it| it.trim().parse::<u64>().ok());
        let (Some(first), Some(last)) = (number(), number()) else {
            return Err(format!("{value:?} is no pair of numbers"));
        };
        let millis = |seconds: u64| seconds.saturating_mul(1_000).min(self.now);
        if let Ok(client) = key.parse::<IpAddr>() {
            return Ok(Parsed::Item(Item::ForeignClient {
                client: client.to_canonical().into(),
                last_used: millis(last),
            }));
        }
        let host = value
            .split(',')
            .nth(2)
            .and_then(|it| it.trim().parse::<u8>().ok());
        let (client, mail) = split_client(key).ok_or_else(|| expected(key))?;
        let client = network(client, host).ok_or_else(|| expected(key))?;
        let (sender, recipient) = split_mail(mail).ok_or_else(|| expected(key))?;
        if sender.contains('#') {
            return Ok(Parsed::NoCounterpart(
                "senders whose numbers Postgrey took out",
            ));
        }
        Ok(Parsed::Item(Item::ForeignTuple {
            client,
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
            first_seen: millis(first),
            last_seen: millis(last.max(first)),
            passed: last.saturating_sub(first) >= self.delay,
        }))
    }
}

impl Parser for Postgrey {
    fn line(&mut self, line: &str) -> Result<Parsed, String> {
        let Dumped::Entry(key, value) = self.dump.line(line)? else {
            return Ok(Parsed::Nothing);
        };
        match (str::from_utf8(&key), str::from_utf8(&value)) {
            (Ok(key), Ok(value)) => self.entry(key, value),
            _ => Err("the entry is not UTF-8".to_owned()),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.dump.end()
    }
}

/// The client and what follows it. A client may have a length of its own, which is no sender.
fn split_client(key: &str) -> Option<(&str, &str)> {
    let slash = key.find('/')?;
    let rest = &key[slash + 1..];
    if let Some((length, _)) = rest.split_once('/')
        && !length.is_empty()
        && length.bytes().all(|it| it.is_ascii_digit())
    {
        let end = slash + 1 + length.len();
        return Some((&key[..end], &key[end + 1..]));
    }
    Some((&key[..slash], rest))
}

/// The client as far as it is known: `host` is what was cut off its network.
fn network(client: &str, host: Option<u8>) -> Option<IpNet> {
    if let Ok(network) = client.parse::<IpNet>() {
        return Some(network.trunc());
    }
    let address = match client.parse::<IpAddr>() {
        Ok(address) => address.to_canonical(),
        // Old ones wrote no zero for what was cut.
        Err(_) => format!("{client}.0").parse().map(IpAddr::V4).ok()?,
    };
    let known = match (address, host) {
        (IpAddr::V4(address), Some(host)) => {
            let [a, b, c, _] = address.octets();
            IpNet::from(IpAddr::V4(Ipv4Addr::new(a, b, c, host)))
        }
        (IpAddr::V4(v4), None) if v4.octets()[3] == 0 => IpNet::new(address, 24).ok()?,
        (IpAddr::V6(v6), _) if v6.segments()[4..] == [0; 4] => IpNet::new(address, 64).ok()?,
        _ => address.into(),
    };
    Some(known)
}

/// Sender and recipient, in either of which a slash is legal.
fn split_mail(mail: &str) -> Option<(&str, &str)> {
    let splits = mail
        .match_indices('/')
        .map(|(at, _)| (&mail[..at], &mail[at + 1..]));
    let is_likely = |(sender, recipient): &(&str, &str)| {
        (sender.is_empty() || sender.contains('@')) && recipient.contains('@')
    };
    splits.clone().find(is_likely).or_else(|| splits.last())
}

fn expected(key: &str) -> String {
    format!("{key:?} is neither NETWORK/SENDER/RECIPIENT nor an address")
}

/// `--delay`.
const DELAY: Duration = Duration::from_mins(5);

/// Hexadecimal digits of SHA-1.
const HASHED: usize = 40;

#[cfg(test)]
mod tests {
    use crate::policy::Timestamp;

    use super::*;

    fn parser() -> Postgrey {
        Postgrey::new(&Options {
            now: Timestamp::from_millis(1_795_300_000_000),
            ..Options::default()
        })
    }

    fn entry(key: &str, value: &str) -> Result<Parsed, String> {
        parser().entry(key, value)
    }

    fn tuple(client: &str, sender: &str, first: u64, last: u64, passed: bool) -> Parsed {
        Parsed::Item(Item::ForeignTuple {
            client: client.parse().expect("a network"),
            sender: sender.to_owned(),
            recipient: "c@d.example".to_owned(),
            first_seen: first * 1_000,
            last_seen: last * 1_000,
            passed,
        })
    }

    #[test]
    fn entries_are_tuples_and_clients() {
        let (first, last) = (1_795_248_000, 1_795_248_301);
        let value = "1795248000,1795248301";
        for (key, value, expected) in [
            (
                "192.0.2.0/a@b.example/c@d.example",
                value,
                tuple("192.0.2.0/24", "a@b.example", first, last, true),
            ),
            (
                "192.0.2.0//c@d.example",
                "1795248000,1795248299",
                tuple("192.0.2.0/24", "", first, last - 2, false),
            ),
            (
                "192.0.2.0/a@b.example/c@d.example",
                "1795248000,1795248301,7",
                tuple("192.0.2.7/32", "a@b.example", first, last, true),
            ),
            (
                "192.0.2/a@b.example/c@d.example",
                value,
                tuple("192.0.2.0/24", "a@b.example", first, last, true),
            ),
            (
                "192.0.2.7/32/a/x@b.example/c@d.example",
                value,
                tuple("192.0.2.7/32", "a/x@b.example", first, last, true),
            ),
            (
                "2001:db8:0:0:0:0:0:0/a@b.example/c@d.example",
                value,
                tuple("2001:db8::/64", "a@b.example", first, last, true),
            ),
            (
                "192.0.2.7",
                "6,1795248301",
                Parsed::Item(Item::ForeignClient {
                    client: "192.0.2.7/32".parse().expect("an address"),
                    last_used: last * 1_000,
                }),
            ),
            (
                "da39a3ee5e6b4b0d3255bfef95601890afd80709",
                value,
                Parsed::NoCounterpart("keys hashed by --privacy"),
            ),
            (
                "192.0.2.0/list-#@b.example/c@d.example",
                value,
                Parsed::NoCounterpart("senders whose numbers Postgrey took out"),
            ),
        ] {
            assert_eq!(entry(key, value), Ok(expected), "{key}");
        }
        for (key, value) in [
            ("192.0.2.0/a@b.example/c@d.example", "soon"),
            ("mail.example", value),
            ("mail.example/a@b.example/c@d.example", value),
        ] {
            assert!(entry(key, value).is_err(), "{key}");
        }
    }

    #[test]
    fn dump_is_read_in_both_its_forms_and_one_that_is_cut_is_told() {
        let head = "VERSION=3\nformat=print\ntype=btree\ndb_pagesize=4096\nHEADER=END\n";
        let entry = " 192.0.2.0/o\\5c\\27a@b.example/c@d.example\n 1795248000,1795248301\n";
        let read = |text: &str| {
            let mut parser = parser();
            let lines = text.lines().map(|line| parser.line(line));
            let parsed: Result<Vec<_>, _> = lines.collect();
            parser.end().and(parsed)
        };
        let items = read(&format!("{head}{entry}DATA=END\n")).expect("it is whole");
        let items: Vec<_> = items
            .into_iter()
            .filter(|it| *it != Parsed::Nothing)
            .collect();
        let expected = tuple(
            "192.0.2.0/24",
            "o\\'a@b.example",
            1_795_248_000,
            1_795_248_301,
            true,
        );
        assert_eq!(items, [expected]);
        assert!(read(&format!("{head}{entry}")).is_err());
        assert!(read(&format!("{head} x\nDATA=END\n")).is_err());

        let hex: String = "192.0.2.7".bytes().map(|it| format!("{it:02x}")).collect();
        let value: String = "5,1795248301"
            .bytes()
            .map(|it| format!("{it:02x}"))
            .collect();
        let head = head.replace("print", "bytevalue");
        let items = read(&format!("{head} {hex}\n {value}\nDATA=END\n")).expect("it is whole");
        assert!(items.iter().any(|it| it.kind().is_some()), "{items:?}");
    }
}

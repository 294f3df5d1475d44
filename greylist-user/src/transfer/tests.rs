//! What the real programs wrote: Postgrey 1.37 and `SQLgrey` 1.8.0 of Debian 12 were asked about the same
//! mail over their policy ports, with a `--delay` of 3 s of the one; `db5.3_dump` and `sqlite3 -csv
//! -header` wrote the rest.

use std::time::Duration;

use super::*;
use crate::policy::Timestamp;

const POSTGREY: &str = include_str!("samples/postgrey.db.txt");
const POSTGREY_HEX: &str = include_str!("samples/postgrey.db.hex.txt");
const POSTGREY_CLIENTS: &str = include_str!("samples/postgrey_clients.db.hex.txt");
const CONNECT: &str = include_str!("samples/sqlgrey_connect.csv");
const FROM_AWL: &str = include_str!("samples/sqlgrey_from_awl.csv");
const DOMAIN_AWL: &str = include_str!("samples/sqlgrey_domain_awl.csv");

/// Everything a file says that is no nothing, as it is recognised by itself.
fn read(text: &str) -> Vec<Parsed> {
    let format = Format::of(text.as_bytes()).expect("it is known");
    let options = Options {
        delay: Some(Duration::from_secs(3)),
        now: Timestamp::from_millis(1_795_400_000_000),
        ..Options::default()
    };
    let mut lines = Lines::new(text.as_bytes(), format, &options);
    let mut read = Vec::new();
    while let Some(line) = lines.next_line().expect("memory is readable") {
        match line.expect("it is whole") {
            Parsed::Nothing => {}
            said => read.push(said),
        }
    }
    read
}

fn tuple(client: &str, sender: &str, recipient: &str, seen: [u64; 2], passed: bool) -> Parsed {
    Parsed::Item(Item::ForeignTuple {
        client: client.parse().expect("a network"),
        sender: sender.to_owned(),
        recipient: recipient.to_owned(),
        first_seen: seen[0] * 1_000,
        last_seen: seen[1] * 1_000,
        passed,
    })
}

#[test]
fn what_postgrey_kept_is_read_from_either_dump() {
    let (bert, seen) = ("bert@recipient.example", [1_795_334_031, 1_795_334_035]);
    let later = [1_795_334_035, 1_795_334_039];
    let once = [seen[0], seen[0]];
    let network = "192.0.2.0/24";
    let expected = [
        tuple(network, "anna@sender.example", bert, seen, true),
        Parsed::NoCounterpart("senders whose numbers Postgrey took out"),
        tuple(network, "usera@sender.example", bert, later, true),
        tuple(network, "userb@sender.example", bert, later, true),
        tuple(network, "userc@sender.example", bert, later, true),
        tuple(
            "198.51.100.0/24",
            "",
            "carla@recipient.example",
            once,
            false,
        ),
        tuple("2001:db8::/64", "six@six.example", bert, seen, true),
        tuple(
            "203.0.113.0/24",
            "a/slash@sender.example",
            bert,
            once,
            false,
        ),
    ];
    assert_eq!(read(POSTGREY), expected);
    assert_eq!(read(POSTGREY_HEX), expected);
    let not_yet = Parsed::NoCounterpart("clients that Postgrey did not trust yet");
    assert_eq!(read(POSTGREY_CLIENTS), vec![not_yet; 3]);
}

#[test]
fn what_sqlgrey_kept_is_read_with_its_column_names() {
    let pending = read(CONNECT);
    let [Parsed::Item(first), Parsed::Item(second)] = &pending[..] else {
        panic!("two are pending: {pending:?}");
    };
    let facts = |item: &Item| match item {
        Item::ForeignTuple {
            client,
            sender,
            passed,
            ..
        } => (client.to_string(), sender.clone(), *passed),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        facts(first),
        (
            "198.51.100.0/24".to_owned(),
            "dora@new.example".to_owned(),
            false
        )
    );
    assert_eq!(
        facts(second),
        ("198.51.100.98/32".to_owned(), String::new(), false)
    );

    let trusted: Vec<_> = read(FROM_AWL)
        .into_iter()
        .map(|said| match said {
            Parsed::Item(Item::ForeignSender { client, sender, .. }) => {
                format!("{client} {sender}")
            }
            Parsed::NoCounterpart(what) => what.to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        trusted,
        [
            "192.0.2.0/24 bounces-#@list.example",
            "2001:db8::25/128 six@six.example",
            "trust in the null reverse-path, which everybody may use",
            "203.0.113.5/32 a/slash@sender.example",
        ]
    );
    let domains = read(DOMAIN_AWL);
    let [
        Parsed::Item(Item::ForeignDomain {
            client,
            domain,
            last_used,
        }),
    ] = &domains[..]
    else {
        panic!("one is trusted: {domains:?}");
    };
    assert_eq!(
        (client.to_string().as_str(), domain.as_str()),
        ("192.0.2.0/24", "sender.example")
    );
    assert_eq!(last_used % 1_000, 0);
}

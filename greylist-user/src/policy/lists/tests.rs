use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::policy::fixture::{ATTEMPT, allowing};
use crate::policy::{Policy, Refusing, denial, exempt, is_spared, spares_the_wait};

fn entry(text: &str) -> Entry {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn list<'t>(entries: impl IntoIterator<Item = &'t str>) -> List {
    let listed = |text| Listed {
        entry: entry(text),
        source: Source::Host,
    };
    List::of(entries.into_iter().map(listed))
}

/// What of `list` names `attempt`, as it is written.
fn found(list: &List, attempt: &Attempt<'_>) -> Option<String> {
    list.find(attempt).map(|it| it.entry.to_string())
}

fn from(client: &str) -> Attempt<'static> {
    Attempt {
        client: client.parse().expect("an address"),
        client_name: b"",
        helo: b"",
        reverse_path: b"",
        recipient: b"",
        ..ATTEMPT
    }
}

#[test]
fn longest_network_that_holds_the_client_is_found() {
    let list = list([
        "192.0.0.0/8",
        "192.0.2.0/24",
        "192.0.2.7",
        "2001:db8::/32",
        "2001:db8:1::/48",
    ]);
    for (client, expected) in [
        ("192.0.2.7", Some("192.0.2.7")),
        ("::ffff:192.0.2.7", Some("192.0.2.7")),
        ("192.0.2.8", Some("192.0.2.0/24")),
        ("192.255.0.1", Some("192.0.0.0/8")),
        ("193.0.2.7", None),
        ("2001:db8:1::7", Some("2001:db8:1::/48")),
        ("2001:db8:2::7", Some("2001:db8::/32")),
        ("2001:db9::7", None),
    ] {
        assert_eq!(found(&list, &from(client)).as_deref(), expected, "{client}");
    }
    let all = self::list(["0.0.0.0/0"]);
    assert!(all.find(&from("203.0.113.1")).is_some());
    assert!(all.find(&from("2001:db8::1")).is_none());
}

#[test]
fn name_falls_under_whole_labels_in_any_case_and_the_longest_counts() {
    let list = list([
        ".example.org",
        "mail.example.org",
        ".a.example.org",
        "example.net",
    ]);
    for (name, expected) in [
        ("mail.example.org", Some("mail.example.org")),
        ("MAIL.Example.ORG.", Some("mail.example.org")),
        ("example.org", Some(".example.org")),
        ("b.example.org", Some(".example.org")),
        ("c.b.a.example.org", Some(".a.example.org")),
        ("x.mail.example.org", Some(".example.org")),
        ("badexample.org", None),
        ("example.org.evil.example", None),
        ("org", None),
        ("example.net", Some("example.net")),
        ("www.example.net", None),
        ("", None),
        (".", None),
        ("..example.org", Some(".example.org")),
    ] {
        let attempt = Attempt {
            client_name: name.as_bytes(),
            ..from("192.0.2.7")
        };
        assert_eq!(found(&list, &attempt).as_deref(), expected, "{name}");
    }
}

#[test]
fn address_counts_before_its_domain_and_that_before_what_it_lies_below() {
    let list = list([
        "from .example.org",
        "from @lists.example.org",
        "from News@lists.example.org",
        "from <>",
        "to abuse@here.example",
        "helo .bad.example",
        "helo ylmf-pc",
    ]);
    let sent = |path: &'static str| Attempt {
        reverse_path: path.as_bytes(),
        recipient: b"r@here.example",
        ..from("192.0.2.7")
    };
    for (path, expected) in [
        (
            "news@LISTS.example.org",
            Some("from news@lists.example.org"),
        ),
        (
            "\"odd@x\"@lists.example.org",
            Some("from @lists.example.org"),
        ),
        ("other@lists.example.org", Some("from @lists.example.org")),
        ("news@a.lists.example.org", Some("from .example.org")),
        ("news@example.org", Some("from .example.org")),
        ("news@badexample.org", None),
        ("lists.example.org", None),
        ("", Some("from <>")),
    ] {
        assert_eq!(found(&list, &sent(path)).as_deref(), expected, "{path}");
    }
    let to = Attempt {
        recipient: b"Abuse@Here.example",
        ..sent("s@sender.example")
    };
    assert_eq!(found(&list, &to).as_deref(), Some("to abuse@here.example"));
    for (helo, expected) in [
        (&b"YLMF-PC"[..], Some("helo ylmf-pc")),
        (b"x.bad.example", Some("helo .bad.example")),
        (b"notbad.example", None),
    ] {
        let attempt = Attempt {
            helo,
            ..sent("s@sender.example")
        };
        assert_eq!(found(&list, &attempt).as_deref(), expected);
    }
}

#[test]
fn what_is_hardest_to_forge_is_named_of_several_kinds() {
    let all = [
        "helo mail.sender.example",
        "to r@here.example",
        "from @sender.example",
        "mail.sender.example",
        "192.0.2.7",
    ];
    for kinds in (1..=all.len()).rev() {
        let list = list(all[..kinds].iter().copied());
        assert_eq!(found(&list, &ATTEMPT).as_deref(), Some(all[kinds - 1]));
    }
}

#[test]
fn text_longer_than_any_name_is_no_match_and_no_harm() {
    let list = list([".example.org", "from .example.org", "helo .example.org"]);
    let long = [&b"x.".repeat(200)[..], b"example.org"].concat();
    let attempt = Attempt {
        client_name: &long,
        helo: &long,
        reverse_path: &long,
        ..ATTEMPT
    };
    assert_eq!(found(&list, &attempt), None);
}

#[test]
fn entry_that_names_nobody_is_refused_with_what_to_write() {
    for (text, hint) in [
        ("", "remove it"),
        ("*.example.org", "write \".example.org\""),
        ("example", "no whole host name"),
        ("*", "no name of DNS"),
        (".", "no name of DNS"),
        ("a..example", "no name of DNS"),
        ("b\u{fc}cher.example", "\"xn--\""),
        ("192.0.2.7/24", "write \"192.0.2.0/24\""),
        ("192.0.2", "is no network"),
        ("192.0.2.0/33", "is no network"),
        ("::ffff:192.0.2.7", "write 192.0.2.7"),
        ("a@example.org", "write \"from a@example.org\""),
        ("from example.org", "write \"from @example.org\""),
        ("from *@example.org", "\"@example.org\" for all"),
        ("from a@.example.org", "write \"a@example.org\""),
        ("from a b@example.org", "names nobody"),
        ("to <>", "mail has a recipient"),
        ("helo a b", "names nobody"),
        ("helo #a", "names nobody"),
        ("frm @example.org", "is no entry"),
        ("mail.example.org other", "is no entry"),
    ] {
        let error = text.parse::<Entry>().expect_err(text).to_string();
        assert!(error.contains(hint), "{text}: {error}");
    }
}

#[test]
fn wide_entries_are_known() {
    for (text, is_wide) in [
        ("64.0.0.0/7", true),
        ("64.0.0.0/8", false),
        ("2000::/15", true),
        ("2000::/16", false),
        (".org", true),
        (".example.org", false),
        ("from .com", true),
        ("from a@example.com", false),
        ("helo localhost", false),
    ] {
        assert_eq!(entry(text).is_wide(), is_wide, "{text}");
    }
}

#[test]
fn look_up_asks_as_often_of_a_hundred_thousand_entries_as_of_ten() {
    let of = |count: u32| {
        let networks = (0..count).map(|it| Ipv4Addr::from(0x0b00_0000 + it));
        let names = (0..count).map(|it| format!(".h{it}.example.org"));
        let entries = networks.map(|it| it.to_string()).chain(names);
        let entries: Vec<_> = entries.collect();
        list(entries.iter().map(String::as_str))
    };
    let (few, many) = (of(10), of(100_000));
    let probes = |list: &List| (list.clients.probes(), list.names.probes());
    assert_eq!(probes(&few), probes(&many));
    assert_eq!(probes(&many), (1, 4));
    let last = Attempt {
        client_name: b"a.b.h99999.example.org",
        ..from("192.0.2.7")
    };
    assert_eq!(found(&many, &last).as_deref(), Some(".h99999.example.org"));
    assert!(many.find(&from("11.1.134.159")).is_some(), "the last one");
    assert!(many.find(&from("11.1.134.160")).is_none());
}

#[test]
fn allow_wins_over_deny_and_local_and_authenticated_mail_is_not_denied() {
    let mut lists = Lists {
        deny: list(["192.0.2.0/24"]),
        ..Lists::default()
    };
    let policy = |lists: &Lists| Policy {
        lists: Arc::new(lists.clone()),
        ..Policy::default()
    };
    let refuses = |policy: &Policy, attempt: &Attempt<'_>| {
        exempt(policy, attempt).is_none() && denial(policy, attempt).is_some()
    };
    assert!(refuses(&policy(&lists), &ATTEMPT));
    let authenticated = Attempt {
        authenticated: true,
        ..ATTEMPT
    };
    assert!(!refuses(&policy(&lists), &authenticated));
    lists.local = list(["192.0.2.7"]);
    assert!(!refuses(&policy(&lists), &ATTEMPT));
    lists.local = List::default();
    for allowed in [
        "192.0.0.0/8",
        "to r@here.example",
        "helo mail.sender.example",
    ] {
        lists.allow = list([allowed]);
        assert!(!refuses(&policy(&lists), &ATTEMPT), "{allowed}");
    }
    let observing = Policy {
        deny: Refusing::Observe,
        ..policy(&Lists {
            allow: List::default(),
            ..lists
        })
    };
    let (_, reason) = denial(&observing, &ATTEMPT).expect("it is named");
    assert_eq!(reason, None);
}

#[test]
fn what_a_client_says_of_itself_exempts_and_shields_nobody() {
    for (allowed, is_shielded) in [
        ("192.0.2.7", true),
        (".sender.example", true),
        ("from @sender.example", false),
        ("helo mail.sender.example", false),
        ("to r@here.example", false),
    ] {
        let policy = Policy {
            lists: Arc::new(Lists {
                allow: list([allowed]),
                ..Lists::default()
            }),
            ..Policy::default()
        };
        assert!(exempt(&policy, &ATTEMPT).is_some(), "{allowed}");
        assert_eq!(is_spared(&policy, &ATTEMPT), is_shielded, "{allowed}");
    }
}

#[test]
fn sender_that_does_not_retry_is_spared_the_wait_and_nothing_else() {
    let policy = Policy {
        lists: Arc::new(Lists {
            no_retry: list([".sender.example"]),
            ..Lists::default()
        }),
        ..Policy::default()
    };
    assert_eq!(exempt(&policy, &ATTEMPT), None);
    assert!(!is_spared(&policy, &ATTEMPT));
    let spared = spares_the_wait(&policy, &ATTEMPT);
    assert_eq!(spared, Some(crate::policy::PassReason::NoRetry));
}

fn rules(patterns: &[&str], policy: Policy) -> RecipientPolicy {
    let patterns = patterns.iter().map(|it| it.parse().expect("a pattern"));
    RecipientPolicy {
        recipients: patterns.collect(),
        source: Source::Host,
        policy,
    }
}

#[test]
fn recipient_has_the_policy_of_its_address_domain_or_what_that_lies_below() {
    let of = |minutes| Policy {
        delay: std::time::Duration::from_mins(minutes),
        ..Policy::default()
    };
    let recipients = Recipients::of(vec![
        rules(&[".example.org"], of(1)),
        rules(&["lists.example.org", "example.net"], of(2)),
        rules(&["info@lists.example.org"], of(4)),
    ]);
    let policy = Policy {
        recipients: Arc::new(recipients),
        ..of(10)
    };
    for (recipient, minutes) in [
        ("Info@Lists.Example.org", 4),
        ("other@lists.example.org", 2),
        ("a@b.lists.example.org", 1),
        ("a@example.org", 1),
        ("a@example.net", 2),
        ("a@www.example.net", 10),
        ("a@badexample.org", 10),
        ("postmaster", 10),
        ("", 10),
    ] {
        let own = policy.for_recipient(recipient.as_bytes());
        assert_eq!(own.delay.as_secs(), minutes * 60, "{recipient}");
    }
    let lists = allowing(["192.0.2.0/24"]);
    let relisted = policy.with_lists(&lists);
    let own = relisted.for_recipient(b"a@example.net");
    assert_eq!(own.lists, lists, "the lists are the site's");
    assert_eq!(own.delay.as_secs(), 120);
}

prop_compose! {
    /// Few labels, so that names meet.
    fn name()(labels in proptest::collection::vec("[ab]{1,2}", 1..5)) -> String {
        labels.join(".")
    }
}

proptest! {
    #[test]
    fn names_are_found_as_by_comparing_one_after_the_other(
        patterns in proptest::collection::vec((name(), any::<bool>()), 0..8),
        asked in name(),
    ) {
        let patterns: Vec<_> = patterns
            .into_iter()
            .map(|(name, below)| DomainPattern { name: format!("{name}.x"), below })
            .collect();
        let listed = patterns.iter().map(|it| Listed {
            entry: Entry::Name(it.clone()),
            source: Source::Host,
        });
        let asked = format!("{asked}.x");
        let attempt = Attempt { client_name: asked.as_bytes(), ..from("192.0.2.7") };
        let matches = |it: &&DomainPattern| {
            *it.name == asked || (it.below && asked.ends_with(&format!(".{}", it.name)))
        };
        let rank = |it: &DomainPattern| (it.name.len(), !it.below);
        let expected = patterns.iter().filter(matches).map(rank).max();
        let list = List::of(listed);
        let found = list.find(&attempt).map(|it| match &it.entry {
            Entry::Name(it) => rank(it),
            _ => unreachable!("there are only names"),
        });
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn networks_are_found_as_by_comparing_one_after_the_other(
        networks in proptest::collection::vec((0..16_u32, 20..=32_u8, any::<bool>()), 0..8),
        asked in 0..64_u32,
        (as_v6, prefix) in (any::<bool>(), 20..=32_u8),
    ) {
        let network = |bits: u32, prefix: u8, as_v6: bool| {
            let bits = 0xc000_0200 + bits;
            let address: IpAddr = if as_v6 {
                Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(bits)).into()
            } else {
                Ipv4Addr::from(bits).into()
            };
            let prefix = if as_v6 { prefix + 96 } else { prefix };
            IpNet::new(address, prefix).expect("a legal prefix").trunc()
        };
        let networks: Vec<_> = networks.into_iter().map(|(a, p, v6)| network(a * 4, p, v6)).collect();
        let list: List = networks.iter().copied().collect();
        let client = network(asked, 32, as_v6);
        let longest = |holds: &dyn Fn(&IpNet) -> bool| {
            networks.iter().filter(|it| holds(it)).map(IpNet::prefix_len).max()
        };
        let found = list.find_host(client.addr(), b"").map(|it| match &it.entry {
            Entry::Client(network) => network.prefix_len(),
            _ => unreachable!("there are only networks"),
        });
        prop_assert_eq!(found, longest(&|it| it.contains(&client)));
        let around = network(asked, prefix, as_v6);
        let overlaps = networks.iter().any(|it| it.contains(&around) || around.contains(it));
        prop_assert_eq!(list.overlapping_network(around).is_some(), overlaps);
    }

    #[test]
    fn entry_is_read_as_it_is_shown(text in "[a-zA-Z0-9.@:/ <>_#-]{1,40}|(from|to|helo) [a-zA-Z.@#]{1,20}") {
        if let Ok(entry) = text.parse::<Entry>() {
            let shown = entry.to_string();
            prop_assert_eq!(shown.parse::<Entry>(), Ok(entry), "{}", shown);
        }
    }
}

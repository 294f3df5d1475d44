//! Which attempts share a key, and which must not.

use proptest::prelude::*;

use super::*;
use crate::policy::{Evidence, Origin, Policy, ServerMark, Timestamp};

const SEED: Seed = seed(1);

/// Bytes that differ from each other: XXH3 combines parts of its secret by exclusive or.
const fn seed(first: u8) -> Seed {
    let mut bytes = [first; Seed::LENGTH];
    let mut at = 1;
    while at < bytes.len() {
        bytes[at] = bytes[at - 1].wrapping_mul(37).wrapping_add(11);
        at += 1;
    }
    Seed::from_bytes(bytes)
}

fn attempt<'a>(client: &str, reverse_path: &'a str, recipient: &'a str) -> Attempt<'a> {
    Attempt {
        client: client.parse().expect("an address"),
        client_name: b"mail.sender.example",
        helo: b"",
        reverse_path: reverse_path.as_bytes(),
        recipient: recipient.as_bytes(),
        announced_size: 0,
        connected: Timestamp::NEVER,
        server: ServerMark::UNKNOWN,
        authenticated: false,
        origin: Origin::ThisHost,
        evidence: Evidence::default(),
    }
}

fn tuple(client: &str, reverse_path: &str, recipient: &str) -> TupleKey {
    key(
        &Policy::default(),
        &attempt(client, reverse_path, recipient),
    )
}

fn trust(client: &str, reverse_path: &str) -> TrustKey {
    let attempt = attempt(client, reverse_path, "r@example");
    SEED.trust_key(ClientNetwork::of(&Policy::default(), &attempt), &attempt)
}

fn key(policy: &Policy, attempt: &Attempt<'_>) -> TupleKey {
    SEED.tuple_key(ClientNetwork::of(policy, attempt), attempt)
}

#[test]
fn neighbours_in_the_client_network_share_a_tuple() {
    let first = tuple("192.0.2.7", "s@a.example", "r@b.example");
    assert_eq!(first, tuple("192.0.2.200", "s@a.example", "r@b.example"));
    assert_eq!(
        first,
        tuple("::ffff:192.0.2.7", "s@a.example", "r@b.example")
    );
    assert_ne!(first, tuple("192.0.3.7", "s@a.example", "r@b.example"));
    assert_eq!(
        tuple("2001:db8:1:2::3", "", "r@b.example"),
        tuple("2001:db8:1:2:ffff::4", "", "r@b.example")
    );
    assert_ne!(
        tuple("2001:db8:1:2::3", "", "r@b.example"),
        tuple("2001:db8:1:3::3", "", "r@b.example")
    );
}

#[test]
fn domain_is_case_insensitive_and_local_part_is_not() {
    let first = tuple("192.0.2.7", "s@a.example", "r@b.example");
    assert_eq!(first, tuple("192.0.2.7", "s@A.Example", "r@B.EXAMPLE"));
    assert_ne!(first, tuple("192.0.2.7", "S@a.example", "r@b.example"));
    assert_ne!(first, tuple("192.0.2.7", "s@a.example", "R@b.example"));
}

#[test]
fn fields_cannot_flow_into_each_other() {
    assert_ne!(
        tuple("192.0.2.7", "a@b", "c@d"),
        tuple("192.0.2.7", "a@bc", "@d")
    );
    assert_ne!(tuple("192.0.2.7", "", "ab"), tuple("192.0.2.7", "ab", ""));
}

#[test]
fn exact_prefixes_and_the_whole_internet_are_legal() {
    let sender = attempt("192.0.2.7", "s@a.example", "r@b.example");
    let neighbour = attempt("192.0.2.8", "s@a.example", "r@b.example");
    let exact = Policy {
        ipv4_prefix: 32,
        ..Policy::default()
    };
    let all = Policy {
        ipv4_prefix: 0,
        ..Policy::default()
    };
    assert_ne!(key(&exact, &sender), key(&exact, &neighbour));
    assert_eq!(key(&all, &sender), key(&all, &neighbour));
}

#[test]
fn another_seed_makes_other_keys() {
    let other = seed(2);
    let attempt = attempt("192.0.2.7", "s@a.example", "r@b.example");
    let policy = Policy::default();
    assert_ne!(
        key(&policy, &attempt),
        other.tuple_key(ClientNetwork::of(&policy, &attempt), &attempt)
    );
    assert_ne!(SEED.fingerprint(), other.fingerprint());
    assert_eq!(format!("{SEED:?}"), "Seed(secret)");
}

#[test]
fn host_mark_tells_addresses_apart_where_a_sentence_does() {
    let mark = |prefix, address: &str| {
        let address = address.parse().expect("an address");
        HostMark::of(ClientNetwork::cut(address, 24, prefix), address)
    };
    assert_ne!(mark(64, "192.0.2.7"), mark(64, "192.0.2.8"));
    assert_ne!(mark(64, "2001:db8:1:2::3"), mark(64, "2001:db8:1:2::4"));
    assert_ne!(mark(48, "2001:db8:1:2::3"), mark(48, "2001:db8:1:3::3"));
    assert_eq!(mark(48, "2001:db8:1:2::3"), mark(48, "2001:db8:9:2::3"));
}

#[test]
fn trust_is_keyed_by_network_and_folded_sender_only() {
    let list = trust("192.0.2.7", "bounce-20931@l.example");
    assert_eq!(list, trust("192.0.2.9", "bounce-20932@L.example"));
    assert_ne!(list, trust("192.0.2.7", "other@l.example"));
    assert_ne!(list, trust("198.51.100.7", "bounce-20931@l.example"));
}

#[test]
fn pair_is_known_from_any_client_by_half_of_its_key() {
    let pair =
        |client, reverse_path, recipient| SEED.pair_key(&attempt(client, reverse_path, recipient));
    let first = pair("192.0.2.7", "s@a.example", "r@b.example");
    assert_eq!(first, pair("2001:db8::1", "s@A.example", "r@B.EXAMPLE"));
    for other in [
        pair("192.0.2.7", "S@a.example", "r@b.example"),
        pair("192.0.2.7", "s@a.example", "R@b.example"),
        pair("192.0.2.7", "r@b.example", "s@a.example"),
        pair("192.0.2.7", "", "s@a.exampler@b.example"),
    ] {
        assert_ne!(other, first);
        assert_ne!(other.tag(), first.tag());
    }
    assert_eq!(first.tag().to_bytes(), first.to_bytes()[..8]);
    assert_eq!(PairTag::from_bytes(first.tag().to_bytes()), first.tag());
}

#[test]
fn trust_by_content_is_of_one_address_and_of_a_domain_or_all() {
    use ContentTrust::{Address, Domain, Off};

    let key = |scope, client, reverse_path| {
        SEED.content_trust_key(scope, &attempt(client, reverse_path, "r@b.example"))
    };
    let (here, neighbour) = ("2001:db8:1:2::3", "2001:db8:1:2::4");
    let domain = key(Domain, here, "s@a.example");
    assert_eq!(domain, key(Domain, here, "t+1@A.Example"));
    assert_ne!(domain, key(Domain, here, "s@b.example"));
    assert_ne!(domain, key(Domain, here, "s@sub.a.example"));
    assert_eq!(key(Domain, here, ""), None, "it names no domain");
    assert_eq!(key(Domain, here, "s"), None);
    assert_ne!(domain, key(Domain, neighbour, "s@a.example"));
    let all = key(Address, here, "s@a.example");
    assert_eq!(all, key(Address, here, "s@b.example"));
    assert_ne!(all, key(Address, neighbour, "s@a.example"));
    assert_ne!(all, domain);
    assert_eq!(all, key(Address, here, ""));
    assert_ne!(all, key(Domain, here, "@A"), "a scope is no sender");
    assert_eq!(key(Off, here, "s@a.example"), None);
    let (v4, mapped) = ("192.0.2.7", "::ffff:192.0.2.7");
    assert_eq!(
        key(Domain, v4, "s@a.example"),
        key(Domain, mapped, "s@a.example")
    );
}

#[test]
fn part_of_a_mark_tells_nearly_all_networks_apart() {
    let parts: std::collections::BTreeSet<_> = (0..=255)
        .map(|number| {
            let network = ClientNetwork::cut(IpAddr::from([203, 0, number, 25]), 24, 64);
            SEED.network_key(network).mark().part()
        })
        .collect();
    // As many as chance leaves: 256 (1 - 1/e).
    assert!(parts.len() > 140, "{} parts of 256 networks", parts.len());
}

#[test]
fn one_mailbox_is_one_recipient_and_many_are_many() {
    let mark = |recipient: &str| SEED.recipient_mark(recipient.as_bytes());
    for same in ["R@here.example", "r+1@here.example", "r+2@HERE.example"] {
        assert_eq!(mark(same), mark("r@here.example"), "{same}");
    }
    let marks: std::collections::BTreeSet<_> = (0..200)
        .map(|number| mark(&format!("r{number}@here.example")))
        .collect();
    assert!(marks.len() > 50, "{} marks of 200 recipients", marks.len());
}

proptest! {
    /// In whatever pieces, and however long: the hash that the first greygate's files were
    /// keyed by.
    #[test]
    fn hash_is_that_of_the_stream(
        pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..200),
            0..8,
        ),
    ) {
        let mut hasher = SEED.hasher(b'X');
        let mut stream = Xxh3::with_secret(SEED.0);
        stream.update(b"X");
        for piece in &pieces {
            hasher.raw(piece);
            stream.update(piece);
        }
        prop_assert_eq!(hasher.finish(), stream.digest128().to_le_bytes());
    }

    #[test]
    fn case_of_any_domain_makes_no_difference(
        local_part in "[a-z]{0,80}",
        domain in "[a-zA-Z0-9.-]{0,200}",
    ) {
        let lower = format!("{local_part}@{}", domain.to_ascii_lowercase());
        let upper = format!("{local_part}@{}", domain.to_ascii_uppercase());
        prop_assert_eq!(
            tuple("192.0.2.7", &lower, "r@b"),
            tuple("192.0.2.7", &upper, "r@b")
        );
        prop_assert_eq!(trust("192.0.2.7", &lower), trust("192.0.2.7", &upper));
    }
}

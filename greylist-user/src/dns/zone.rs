//! Lists in the DNS (RFC 5782): the name to ask for a client, and what the answer means.
//!
//! Knows the codes of the big lists. An answer that is no address of 127.0.0.0/8 is none of a list's:
//! a domain that was sold, or a resolver that answers whatever is asked.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::settings::Zone;

/// What a list says of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It has it: of an allowlist, with this score.
    Listed(u8),
    /// It has not.
    Unlisted,
    /// It refuses to answer this resolver.
    Refused(Ipv4Addr),
    /// What came is no answer of a list.
    Nonsense(Ipv4Addr),
}

/// The name under which `zone` has `client`, with the dot of the root.
pub(super) fn name_in(zone: &Zone, client: IpAddr) -> String {
    let mut name = String::new();
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            // Writing to a text cannot fail.
            let _ = write!(name, "{d}.{c}.{b}.{a}.");
        }
        IpAddr::V6(address) => {
            for byte in address.octets().into_iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", byte & 15, byte >> 4);
            }
        }
    }
    name.push_str(zone.as_str());
    name.push('.');
    name
}

/// What a blocklist says by `answers`: any code is a hit, but for those that mean a refusal.
pub(super) fn blocklist_says(answers: impl IntoIterator<Item = Ipv4Addr>) -> Word {
    says(answers, |_| Word::Listed(0))
}

/// What an allowlist says by `answers`, which are 127.0.X.Y with a category X and a score Y: the best
/// score counts. A score that there is none of is how dnswl.org refuses.
pub(super) fn allowlist_says(answers: impl IntoIterator<Item = Ipv4Addr>) -> Word {
    says(answers, |answer| match answer.octets() {
        [127, 0, _, score @ 0..=BEST_SCORE] => Word::Listed(score),
        [127, 0, _, _] => Word::Refused(answer),
        _ => Word::Nonsense(answer),
    })
}

/// The best of what `answers` mean: a hit, else a refusal, else nonsense. No answer is no hit.
fn says(answers: impl IntoIterator<Item = Ipv4Addr>, of_list: impl Fn(Ipv4Addr) -> Word) -> Word {
    let mut word = Word::Unlisted;
    for answer in answers.into_iter().take(MOST_ANSWERS) {
        let next = match answer.octets() {
            [127, 255, 255, _] => Word::Refused(answer),
            [127, ..] => of_list(answer),
            _ => Word::Nonsense(answer),
        };
        word = match (word, next) {
            (Word::Listed(one), Word::Listed(other)) => Word::Listed(one.max(other)),
            (Word::Listed(_), _) | (Word::Refused(_), Word::Nonsense(_)) => word,
            _ => next,
        };
    }
    word
}

/// The best score of dnswl.org and its like.
const BEST_SCORE: u8 = 3;

/// No list has more to say; who sends more is not read on.
const MOST_ANSWERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_rfc_5782_says() {
        let zone: Zone = "List.Example".parse().expect("a zone");
        let name = |client: &str| name_in(&zone, client.parse().expect("an address"));
        assert_eq!(name("192.0.2.99"), "99.2.0.192.list.example.");
        assert_eq!(name("::ffff:192.0.2.99"), "99.2.0.192.list.example.");
        assert_eq!(
            name("2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.list.example."
        );
    }

    #[test]
    fn codes_mean_what_the_lists_say() {
        let address = |text: &str| text.parse::<Ipv4Addr>().expect("an address");
        for (answers, block, allow) in [
            (&[][..], Word::Unlisted, Word::Unlisted),
            (
                &["127.0.0.11", "127.0.0.4"],
                Word::Listed(0),
                Word::Refused(address("127.0.0.4")),
            ),
            (
                &["127.0.5.1", "127.0.9.3"],
                Word::Listed(0),
                Word::Listed(3),
            ),
            (
                &["127.255.255.254"],
                Word::Refused(address("127.255.255.254")),
                Word::Refused(address("127.255.255.254")),
            ),
            (
                &["127.0.0.255"],
                Word::Listed(0),
                Word::Refused(address("127.0.0.255")),
            ),
            (
                &["203.0.113.9"],
                Word::Nonsense(address("203.0.113.9")),
                Word::Nonsense(address("203.0.113.9")),
            ),
            (
                &["203.0.113.9", "127.0.0.2"],
                Word::Listed(0),
                Word::Listed(2),
            ),
        ] {
            let given = || answers.iter().map(|it| address(it));
            assert_eq!(blocklist_says(given()), block, "{answers:?}");
            assert_eq!(allowlist_says(given()), allow, "{answers:?}");
        }
    }

    #[test]
    fn endless_answer_is_read_to_its_bound() {
        let nonsense = Ipv4Addr::new(203, 0, 113, 9);
        let answers = std::iter::repeat_n(nonsense, MOST_ANSWERS);
        let word = blocklist_says(answers.chain([Ipv4Addr::new(127, 0, 0, 2)]));
        assert_eq!(word, Word::Nonsense(nonsense));
    }
}

//! What is known of one mail, made readable, and what its next attempt would get.

use super::super::answer::seconds;
use super::super::moment::Now;
use super::super::paper::{Paper, number};
use super::{offence, plural};
use crate::admin::{
    ContentTrustFacts, FailureFacts, MailFacts, NextFacts, PairFacts, TrustFacts, TupleFacts, Why,
};
use crate::policy::Mode;

/// Writes what is known of a mail, and last what follows from it.
pub(super) fn mail(why: &Why, mail: &MailFacts, now: Now, paper: &mut Paper) {
    tuple(why, mail.tuple.as_ref(), now, paper);
    trust(mail.trust.as_ref(), now, paper);
    if let Some(trust) = &mail.content_trust {
        content_trust(why, trust, now, paper);
    }
    if let Some(it) = &mail.pair {
        pair(why, it, now, paper);
    }
    failure(mail, now, paper);
    next(why, mail, now, paper);
}

fn tuple(why: &Why, tuple: Option<&TupleFacts>, now: Now, paper: &mut Paper) {
    let Some(tuple) = tuple else {
        paper.row("tuple", "not seen before");
        return;
    };
    let standing = match (tuple.standing.as_str(), tuple.opens) {
        ("early" | "in-window", _) if why.mode == CONTENT => {
            "waits: under mode content its message must come again".to_owned()
        }
        ("early", Some(opens)) => format!("waits: a retry passes from {}", now.tell(opens)),
        ("early", None) => "waits".to_owned(),
        ("in-window", _) => "waits, and a retry passes now".to_owned(),
        ("passed", _) => "has passed".to_owned(),
        _ => "has lapsed: its next attempt counts as the first".to_owned(),
    };
    paper.row("tuple", standing);
    paper.row(
        "",
        format_args!("first seen {}", now.tell(tuple.first_seen)),
    );
    paper.row("", format_args!("last seen {}", now.tell(tuple.last_seen)));
    let passes = match tuple.passed {
        Some(at) => format!("{} passed, first {}", number(tuple.passes), now.tell(at)),
        None => "none passed".to_owned(),
    };
    paper.row(
        "",
        format_args!("{}, {passes}", plural(tuple.attempts, "attempt")),
    );
    if tuple.extra > 0 {
        let extra = seconds(tuple.extra);
        let why = "for early retries, or for a HELO argument caught at relay hopping";
        paper.row("", format_args!("waits {extra} longer, {why}"));
    }
    if tuple.rapid > 0 {
        let rapid = number(tuple.rapid);
        paper.row("", format_args!("{rapid} rapid retries in a row"));
    }
    if tuple.standing != "lapsed" {
        paper.row(
            "",
            format_args!(
                "lapses {} if unused; life {}",
                now.tell(tuple.lapses),
                tuple.life
            ),
        );
    }
}

fn trust(trust: Option<&TrustFacts>, now: Now, paper: &mut Paper) {
    let Some(trust) = trust else {
        paper.row("trust", "none");
        return;
    };
    let earned = if trust.trusted {
        "earned: this sender is not greylisted"
    } else {
        "being earned"
    };
    paper.row(
        "trust",
        format_args!(
            "{earned}; {} counted, last {}, lapses {}",
            match trust.passes {
                1 => "1 pass".to_owned(),
                passes => format!("{} passes", number(passes)),
            },
            now.tell(trust.last_used),
            now.tell(trust.lapses)
        ),
    );
}

/// What the client address has earned by a message that came again.
fn content_trust(why: &Why, trust: &ContentTrustFacts, now: Now, paper: &mut Paper) {
    let scope = match trust.scope.as_str() {
        "address" => "all it sends",
        _ => "senders of this domain",
    };
    paper.row(
        "by content",
        format_args!(
            "trust in {} for {scope}, earned by a message that came again",
            why.client
        ),
    );
    let (used, lapses) = (now.tell(trust.last_used), now.tell(trust.lapses));
    paper.row("", format_args!("last used {used}, lapses {lapses}"));
}

/// The sender and recipient, from whatever network.
fn pair(why: &Why, pair: &PairFacts, now: Now, paper: &mut Paper) {
    let since = now.tell(pair.since);
    let contacts = plural(pair.contacts, "contact");
    if pair.pool {
        let what = "known for a pool's: a message passed";
        paper.row("pair", format_args!("{what}, {since}; {contacts} since"));
    } else {
        paper.row(
            "pair",
            format_args!("{contacts} since {since}, from whatever network"),
        );
    }
    if why.mode == HYBRID {
        let what = match pair.roams {
            _ if pair.pool => "an attempt is read, from whatever network".to_owned(),
            roams if roams > now.0 => format!("{FROM_ELSEWHERE} from {}", now.tell(roams)),
            _ => FROM_ELSEWHERE.to_owned(),
        };
        paper.row("", format_args!("{what}"));
    }
    paper.row("", way_out(pair, now));
    paper.row(
        "",
        format_args!("forgotten {} if not tried again", now.tell(pair.lapses)),
    );
}

/// When mail of a pair passes though it never comes again.
fn way_out(pair: &PairFacts, now: Now) -> String {
    if pair.persisted {
        return "the way out is open: its next message that is read passes whatever it says"
            .to_owned();
    }
    let Some(opens) = pair.way_out else {
        return "no way out: [content] contacts_after is longer than contacts are remembered"
            .to_owned();
    };
    let wanted = match pair.contacts_needed.saturating_sub(pair.contacts) {
        0 => "a message passes whatever it says".to_owned(),
        more => {
            let contacts = plural(more, "contact");
            format!("a message passes whatever it says at the last of {contacts} more")
        }
    };
    if opens > now.0 {
        format!("the way out: {wanted}, from {}", now.tell(opens))
    } else {
        format!("the way out: {wanted}")
    }
}

fn failure(mail: &MailFacts, now: Now, paper: &mut Paper) {
    if let Some(FailureFacts {
        since,
        retries,
        allowed,
        until,
    }) = &mail.failure
    {
        paper.row(
            "failure",
            format_args!(
                "refused for good {}; {} since, {} are no offence, until {}",
                now.tell(*since),
                retried(*retries),
                number(*allowed),
                now.tell(*until)
            ),
        );
    }
}

pub(super) fn next(why: &Why, mail: &MailFacts, now: Now, paper: &mut Paper) {
    let next = &mail.next;
    let verdict = match next.verdict.as_str() {
        "passed" => paper.good("passes"),
        "deferred" => paper.bad("is deferred"),
        "refused" => paper.bad("is refused"),
        "read" => paper.bold("goes on to the end of message"),
        other => paper.bold(other),
    };
    paper.row(
        "next attempt",
        format_args!("{verdict} ({}): {}", next.reason, because(why, next, now)),
    );
    if let Some(delay) = next.content_delay {
        paper.row("", at_its_end(mail.pair.as_ref(), delay));
        if why.contents_full {
            paper.row("", NO_ROOM);
        }
    }
    if next.helo_hops {
        let why = "its HELO argument was caught at relay hopping";
        paper.row("", format_args!("and waits longer: {why}"));
    }
    if next.would_be_refused {
        let why = "the network's reputation is bad, and [reputation] action only observes";
        paper.row("", format_args!("and would be refused: {why}"));
    }
    if next.wants_content && next.content_delay.is_none() {
        paper.row("", "at end of message, once its content is read");
    }
    if let Some(done) = &next.offence {
        paper.row(
            "",
            format_args!("and would be an offence: {}", offence(done)),
        );
    }
}

/// What becomes of a message that is read, `delay` seconds being asked for.
fn at_its_end(pair: Option<&PairFacts>, delay: u64) -> String {
    match pair {
        Some(pair) if pair.persisted => {
            let contacts = plural(pair.contacts, "contact");
            format!("and passes there whatever it says, after {contacts}")
        }
        _ => format!(
            "there it passes if this message was first read {} before, and is deferred if not",
            seconds(delay)
        ),
    }
}

/// The reason for a verdict, in plain words.
pub(super) fn because(why: &Why, next: &NextFacts, now: Now) -> String {
    let waits = |left: u64| format!("a retry passes from {}", now.tell(why.now + left));
    match (next.reason.as_str(), next.left, next.waited) {
        ("allowed", ..) => "[lists] allow names the client".to_owned(),
        ("authenticated", ..) => "the client authenticated".to_owned(),
        ("local", ..) => "the client is this host's or this site's own".to_owned(),
        ("trusted", ..) => "the sender has earned trust from this network".to_owned(),
        ("passed", ..) => "this sender and recipient passed before".to_owned(),
        ("waited", _, Some(waited)) => format!("it has waited {}", seconds(waited)),
        ("observed", ..) => "[greylist] action only observes; it would be deferred".to_owned(),
        ("unrecorded", ..) => "the store is full".to_owned(),
        ("unsuspicious", ..) => {
            "only who looks suspicious is greylisted, and it does not".to_owned()
        }
        ("vouched", ..) => "others vouch for the client".to_owned(),
        ("early" | "content-early", Some(left), _) => waits(left),
        ("content-new", ..) => "this message was not read before".to_owned(),
        ("content", _, Some(waited)) => {
            format!(
                "this message came again, {} after the first",
                seconds(waited)
            )
        }
        ("content-again", ..) => "this message passed some minutes ago".to_owned(),
        ("content-trusted", ..) => {
            "the client address has earned trust by a message that came again".to_owned()
        }
        ("persisted", _, Some(waited)) => format!(
            "this sender and recipient have tried for {}, with other content each time",
            seconds(waited)
        ),
        ("mode", ..) => "under mode content the message decides".to_owned(),
        ("probe", ..) => "null and probe senders are not refused before".to_owned(),
        ("roaming", ..) => "this sender and recipient came from another network before".to_owned(),
        ("late", ..) => "it was not tried again in time, and begins anew".to_owned(),
        ("new", ..) => "this network, sender and recipient were not seen before".to_owned(),
        ("sentenced", ..) => "the session is told 421 and whom to ask".to_owned(),
        ("bad-reputation", ..) => "the network's reputation is bad".to_owned(),
        (other, ..) => other.to_owned(),
    }
}

fn retried(count: u64) -> String {
    match count {
        1 => "1 retry".to_owned(),
        count => format!("{} retries", number(count)),
    }
}

const CONTENT: &str = Mode::Content.as_str();
const HYBRID: &str = Mode::Hybrid.as_str();

/// Of messages that are not remembered yet.
const NO_ROOM: &str =
    "no further message can be remembered ([store] contents): a new one waits for its tuple";

/// Of a pair that is not known for a pool's.
const FROM_ELSEWHERE: &str = "an attempt from another network than the first is read";

#[cfg(test)]
mod tests {
    use super::*;

    fn on_paper(mode: &str, known: &MailFacts) -> String {
        let why = Why {
            client: "192.0.2.7".to_owned(),
            now: NOW,
            mode: mode.to_owned(),
            ..Why::default()
        };
        let mut paper = Paper::new(false);
        mail(&why, known, Now(NOW), &mut paper);
        paper.into_text()
    }

    fn pending() -> PairFacts {
        PairFacts {
            since: NOW - 600,
            pool: false,
            contacts: 3,
            contacts_needed: 6,
            roams: NOW - 420,
            way_out: Some(NOW + 3_000),
            persisted: false,
            lapses: NOW + 85_800,
        }
    }

    fn read(reason: &str) -> NextFacts {
        NextFacts {
            verdict: "read".to_owned(),
            reason: reason.to_owned(),
            content_delay: Some(60),
            wants_content: true,
            ..NextFacts::default()
        }
    }

    #[test]
    fn mail_of_a_pool_is_told_with_what_its_sender_has_tried_and_what_comes_next() {
        let known = MailFacts {
            content_trust: Some(ContentTrustFacts {
                scope: "domain".to_owned(),
                last_used: NOW - 3_600,
                lapses: NOW + 3_600,
            }),
            pair: Some(pending()),
            next: read("roaming"),
            ..MailFacts::default()
        };
        assert_eq!(on_paper("hybrid", &known), POOL.join("\n"));
    }

    #[test]
    fn way_out_says_what_is_missing() {
        let told = |pair: PairFacts| {
            let known = MailFacts {
                pair: Some(pair),
                next: read("roaming"),
                ..MailFacts::default()
            };
            on_paper("hybrid", &known)
        };
        let cases = [
            (
                PairFacts {
                    contacts: 5,
                    way_out: Some(NOW - 1),
                    ..pending()
                },
                "the way out: a message passes whatever it says at the last of 1 contact more\n",
            ),
            (
                PairFacts {
                    contacts: 7,
                    ..pending()
                },
                "the way out: a message passes whatever it says, from 2026-11-22 02:31:01 UTC (in 50m)\n",
            ),
            (
                PairFacts {
                    way_out: None,
                    ..pending()
                },
                "no way out: [content] contacts_after is longer than contacts are remembered\n",
            ),
        ];
        for (pair, expected) in cases {
            let text = told(pair);
            assert!(text.contains(expected), "{text}");
        }
        let open = told(PairFacts {
            contacts: 7,
            persisted: true,
            ..pending()
        });
        assert!(open.contains("the way out is open"), "{open}");
        let passes = "and passes there whatever it says, after 7 contacts\n";
        assert!(open.contains(passes), "{open}");
        assert!(!open.contains("is deferred if not"), "{open}");
    }

    #[test]
    fn table_without_room_is_told_where_a_message_would_be_read() {
        let mail = MailFacts {
            pair: Some(pending()),
            next: read("roaming"),
            ..MailFacts::default()
        };
        let told = |contents_full| {
            let why = Why {
                now: NOW,
                mode: "hybrid".to_owned(),
                contents_full,
                ..Why::default()
            };
            let mut paper = Paper::new(false);
            next(&why, &mail, Now(NOW), &mut paper);
            paper.into_text()
        };
        assert!(
            told(true).contains("waits for its tuple\n"),
            "{}",
            told(true)
        );
        assert!(!told(false).contains("waits for its tuple"));
    }

    #[test]
    fn pool_that_passed_is_known_for_one() {
        let known = MailFacts {
            pair: Some(PairFacts {
                pool: true,
                contacts: 0,
                roams: NOW - 600,
                ..pending()
            }),
            next: read("roaming"),
            ..MailFacts::default()
        };
        let text = on_paper("hybrid", &known);
        assert!(
            text.contains("pair          known for a pool's: "),
            "{text}"
        );
        let at_once = "an attempt is read, from whatever network\n";
        assert!(text.contains(at_once), "{text}");
        let waiting = MailFacts {
            pair: Some(PairFacts {
                roams: NOW + 60,
                ..pending()
            }),
            next: read("roaming"),
            ..MailFacts::default()
        };
        let text = on_paper("hybrid", &waiting);
        let from = "is read from 2026-11-22 01:42:01 UTC (in 1m)\n";
        assert!(text.contains(from), "{text}");
    }

    #[test]
    fn wait_of_a_tuple_promises_nothing_where_the_message_decides() {
        for standing in ["early", "in-window"] {
            let known = MailFacts {
                tuple: Some(TupleFacts {
                    standing: standing.to_owned(),
                    opens: (standing == "early").then_some(NOW + 60),
                    ..TupleFacts::default()
                }),
                pair: Some(pending()),
                next: read("mode"),
                ..MailFacts::default()
            };
            let text = on_paper("content", &known);
            assert!(
                text.contains("waits: under mode content its message must come again\n"),
                "{text}"
            );
            assert!(!text.contains("a retry passes"), "{text}");
            assert!(!text.contains("another network than the first"), "{text}");
        }
    }

    /// 2026-11-22 01:41:01 UTC.
    const NOW: u64 = 1_795_311_661;

    /// A pool's mail, on paper.
    const POOL: [&str; 11] = [
        "tuple         not seen before",
        "trust         none",
        "by content    trust in 192.0.2.7 for senders of this domain, earned by a message that came again",
        "              last used 2026-11-22 00:41:01 UTC (1h ago), lapses 2026-11-22 02:41:01 UTC (in 1h)",
        "pair          3 contacts since 2026-11-22 01:31:01 UTC (10m ago), from whatever network",
        "              an attempt from another network than the first is read",
        "              the way out: a message passes whatever it says at the last of 3 contacts more, from 2026-11-22 02:31:01 UTC (in 50m)",
        "              forgotten 2026-11-23 01:31:01 UTC (in 23h50m) if not tried again",
        "next attempt  goes on to the end of message (roaming): this sender and recipient came from another network before",
        "              there it passes if this message was first read 1m before, and is deferred if not",
        "",
    ];
}

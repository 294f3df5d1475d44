//! What the operator wants: the times, the limits and the lists that decisions are made by.
//!
//! Knows legal values and their defaults with the reason; leaves reading them from a file to
//! `config`.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::attempt::Attempt;
use super::evidence::EvidenceRules;
use super::history::History;
use super::lists::{AddressPattern, Listed, Lists, RecipientPolicy, Recipients};
use super::ranges;
use super::sentence::{Sentence, SentenceLevel, SentenceReason, SentencedClient};
use super::shield::Shield;
use super::time::Timestamp;

mod content;
mod punish;
mod reputation;

pub use content::{ContentRules, ContentTrust, Mode};
pub use punish::Punish;
pub use reputation::{Refusing, ReputationRules};

/// The rules of one policy. Immutable: a reload replaces it whole. Verdicts follow the new one at
/// once; a session keeps what it began with of [`rcpt_deferrals`](Self::rcpt_deferrals) and
/// [`probe_senders`](Self::probe_senders), so that its course does not change half-way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// By what unknown mail is told when it comes again. Default by its tuple, and by its content where
    /// a pool of addresses sends it.
    pub mode: Mode,
    /// Whether unknown tuples are deferred, or passed and counted.
    pub action: Action,
    /// From the first attempt to the opening of the retry window. Default 3 min: many senders
    /// retry after 200 to 285 s and then only after hours.
    pub delay: Duration,
    /// From the first attempt to the closing of the retry window. Default 24 h (RFC 6647, 5).
    pub retry_window: Duration,
    /// How long a passed tuple, and trust, last after their last use. Default 36 d, so that a
    /// monthly list is not delayed each month.
    pub trust: Duration,
    /// Passes until a client network and folded reverse-path are trusted. Default 5; 0 means never.
    pub trust_after: u16,
    /// Least time between two passes that count towards trust. Default 1 h.
    pub trust_interval: Duration,
    /// Pending recipients of one session that are refused at RCPT; further ones are answered at
    /// DATA. Default 8, since Postfix slows a client from its 10th error; 0 means never at RCPT.
    pub rcpt_deferrals: u32,
    /// Reverse-paths that probe rather than send, beside the null reverse-path: never refused at
    /// RCPT. A trailing `*` stands for the domain part. Default `double-bounce@*`, Postfix's probe.
    pub probe_senders: Vec<String>,
    /// Bits of an IPv4 address that make the client network, if its reverse name tells a server.
    /// Default 24.
    pub ipv4_prefix: u8,
    /// Bits of an IPv4 address that make the client network, if it has no reverse name or one that
    /// looks dynamic. Default 32: its neighbours are other people's.
    pub ipv4_prefix_unnamed: u8,
    /// Bits of an IPv6 address that make the client network. Default 64.
    pub ipv6_prefix: u8,
    /// Whether mail is greylisted under this policy at all. Default yes; no where a recipient is opted
    /// out, or was not opted in.
    pub greylists: bool,
    /// Whom the operator names. Shared by the policies of all recipients.
    pub lists: Arc<Lists>,
    /// What becomes of whom the deny list names. Default 5yz: that is what an operator means by it.
    pub deny: Refusing,
    /// The policies of recipients that have their own; empty in those themselves.
    pub recipients: Arc<Recipients>,
    /// Who is greylisted, and who is vouched for.
    pub evidence: EvidenceRules,
    /// When a message passes for what it says.
    pub content: ContentRules,
    /// When behaviour becomes an offence, and what it costs.
    pub punish: Punish,
    /// What a client network's past is worth.
    pub reputation: ReputationRules,
}

/// Whether a consequence is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Carried out.
    Enforce,
    /// Counted and logged only.
    Observe,
}

impl Action {
    /// The word for it in configuration and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

impl Policy {
    /// Whether `reverse_path` probes rather than sends: the null reverse-path (empty), or one of
    /// [`probe_senders`](Self::probe_senders).
    ///
    /// Local parts are compared exactly, domains without regard to ASCII case (RFC 5321, 2.4).
    pub fn is_probe_sender(&self, reverse_path: &[u8]) -> bool {
        reverse_path.is_empty()
            || self
                .probe_senders
                .iter()
                .any(|pattern| matches_address(pattern.as_bytes(), reverse_path))
    }

    /// The policy for mail to `recipient`: that of its address, its domain or what that lies below, else
    /// this one.
    pub fn for_recipient(&self, recipient: &[u8]) -> &Self {
        self.of_recipient(recipient)
            .map_or(self, |(_, it)| &it.policy)
    }

    /// What gives `recipient` a policy of its own, if it has one, and the pattern that says so.
    pub fn of_recipient(&self, recipient: &[u8]) -> Option<(&AddressPattern, &RecipientPolicy)> {
        self.recipients.find(recipient)
    }

    /// This policy and that of every recipient, with other lists.
    #[must_use]
    pub fn with_lists(&self, lists: &Arc<Lists>) -> Self {
        let relisted = |policy: &Self| Self {
            lists: Arc::clone(lists),
            ..policy.clone()
        };
        Self {
            recipients: self.recipients.map(relisted),
            ..relisted(self)
        }
    }

    /// This policy and that of every recipient, with other rules of selective greylisting.
    #[must_use]
    pub fn with_evidence(&self, evidence: &EvidenceRules) -> Self {
        let changed = |policy: &Self| Self {
            evidence: evidence.clone(),
            ..policy.clone()
        };
        Self {
            recipients: self.recipients.map(changed),
            ..changed(self)
        }
    }

    /// Whether messages are read under this policy or that of a recipient.
    pub fn reads_anywhere(&self) -> bool {
        let of_recipients = self.recipients.policies().iter();
        self.mode.reads() || of_recipients.map(|it| it.policy.mode).any(Mode::reads)
    }

    /// The longest that mail waits at first, under this policy or that of a recipient.
    pub fn longest_delay(&self) -> Duration {
        let of_recipients = self.recipients.policies().iter().map(|it| &it.policy);
        let all = of_recipients.chain([self]);
        let delays = all.map(|it| it.delay.max(it.content.delay));
        delays.max().unwrap_or_default()
    }

    /// The entry by which the client of `attempt` is never sentenced, whatever it does: one of its network
    /// or verified name. What a client says of itself shields nobody.
    pub fn shielding(&self, attempt: &Attempt<'_>) -> Option<&Listed> {
        let allow = &self.lists.allow;
        allow.find_host(attempt.client, attempt.client_name)
    }

    /// How long so many contacts of a reverse-path and recipient are remembered: a retry window each,
    /// as far as contacts count.
    pub fn contacts_window(&self, contacts: u8) -> Duration {
        let windows = contacts.min(self.content.contacts).max(1);
        self.retry_window.saturating_mul(windows.into())
    }

    /// Whether no offence may sentence `client`, because an allow-listed, local or private host
    /// would be hit: the sentence of a network falls on all of it.
    pub fn shields(&self, client: SentencedClient) -> bool {
        let mut ranges = self.ranges();
        ranges.any(|network| client.overlaps(*network))
            || self.lists.allow.overlapping(client).is_some()
            || self.lists.local.overlapping(client).is_some()
    }

    /// The networks that [`shields`](Self::shields) looks at.
    fn shielded(&self) -> impl Iterator<Item = &IpNet> {
        let (allow, local) = (&self.lists.allow, &self.lists.local);
        self.ranges()
            .chain(allow.networks())
            .chain(local.networks())
    }

    /// The addresses that are no stranger's.
    fn ranges(&self) -> impl Iterator<Item = &IpNet> {
        let private: &[IpNet] = if self.punish.private {
            &[]
        } else {
            &ranges::PRIVATE
        };
        ranges::UNTOUCHABLE.iter().chain(private)
    }

    /// What is left of a sentence at `now` under these rules, which may be newer than it: nothing
    /// where its client is shielded now, and observing where punishing only observes now or a block
    /// comes before the `history` is long enough for one. An operator's own sentence stands.
    pub fn uphold(&self, sentence: Sentence, history: History, now: Timestamp) -> Option<Sentence> {
        let blocks = history.blocks(self, now);
        self.uphold_unless(sentence, blocks, |client| self.shields(client))
    }

    /// What is left of `sentences`, each as by [`uphold`](Self::uphold).
    pub fn uphold_all(
        &self,
        sentences: Vec<Sentence>,
        history: History,
        now: Timestamp,
    ) -> Vec<Sentence> {
        let uphold = self.upholding(history, now);
        sentences.into_iter().filter_map(uphold).collect()
    }

    /// [`uphold`](Self::uphold) for very many: some work now, and little for each.
    pub fn upholding(
        &self,
        history: History,
        now: Timestamp,
    ) -> impl Fn(Sentence) -> Option<Sentence> {
        let shield = Shield::of(self.shielded());
        let blocks = history.blocks(self, now);
        move |it| self.uphold_unless(it, blocks, |client| shield.overlaps(client))
    }

    fn uphold_unless(
        &self,
        sentence: Sentence,
        blocks: bool,
        is_shielded: impl Fn(SentencedClient) -> bool,
    ) -> Option<Sentence> {
        if sentence.reason == SentenceReason::Operator {
            return Some(sentence);
        }
        let observes = self.punish.action == Action::Observe
            || (sentence.level == SentenceLevel::Block && !blocks);
        let level = if observes {
            SentenceLevel::Observe
        } else {
            sentence.level
        };
        (!is_shielded(sentence.client)).then_some(Sentence { level, ..sentence })
    }
}

/// Whether `pattern`, an address whose domain may be `*`, stands for `address`.
fn matches_address(pattern: &[u8], address: &[u8]) -> bool {
    // Asked of every attempt: most differ in their first byte.
    if pattern.first() != address.first() {
        return false;
    }
    let (local, domain) = split_address(address);
    let (wanted_local, wanted_domain) = split_address(pattern);
    local == wanted_local
        && match (domain, wanted_domain) {
            (Some(_), Some(b"*")) | (None, None) => true,
            (Some(domain), Some(wanted)) => domain.eq_ignore_ascii_case(wanted),
            _ => false,
        }
}

/// Local part and domain. The last `@` divides them: a quoted local part may hold others.
fn split_address(address: &[u8]) -> (&[u8], Option<&[u8]>) {
    match address.iter().rposition(|&byte| byte == b'@') {
        Some(at) => (&address[..at], Some(&address[at + 1..])),
        None => (address, None),
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            action: Action::Enforce,
            delay: Duration::from_mins(3),
            retry_window: Duration::from_hours(24),
            trust: Duration::from_hours(36 * 24),
            trust_after: 5,
            trust_interval: Duration::from_hours(1),
            rcpt_deferrals: 8,
            probe_senders: vec!["double-bounce@*".to_owned()],
            ipv4_prefix: 24,
            ipv4_prefix_unnamed: 32,
            ipv6_prefix: 64,
            greylists: true,
            lists: Arc::default(),
            deny: Refusing::Reject,
            recipients: Arc::default(),
            evidence: EvidenceRules::default(),
            content: ContentRules::default(),
            punish: Punish::default(),
            reputation: ReputationRules::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use crate::policy::{Offence, Persistence, Timestamp};

    use super::*;
    use crate::policy::fixture::{OLD, T0, allowing, local};

    fn client(address: &str) -> SentencedClient {
        SentencedClient::of(address.parse::<IpAddr>().expect("an address"))
    }

    fn listing(network: &str) -> Policy {
        Policy {
            lists: local([network]),
            ..Policy::default()
        }
    }

    #[test]
    fn host_of_ours_shields_its_whole_64_and_no_more() {
        let policy = listing("2001:db8:1:2::25/128");
        assert!(policy.shields(client("2001:db8:1:2::bad")));
        assert!(!policy.shields(client("2001:db8:1:3::bad")));
        let policy = listing("192.0.2.25/32");
        assert!(!policy.shields(client("192.0.2.26")));
        assert!(policy.shields(client("192.0.2.25")));
    }

    #[test]
    fn private_clients_are_shielded_unless_the_operator_opts_in() {
        let mut policy = Policy::default();
        assert!(policy.shields(client("10.1.2.3")));
        assert!(policy.shields(client("fd00::1")));
        assert!(!policy.shields(client("192.0.2.1")));
        policy.punish.private = true;
        assert!(!policy.shields(client("10.1.2.3")));
        assert!(!policy.shields(client("fd00::1")));
        for always in ["127.0.0.1", "169.254.0.1", "::1", "fe80::1"] {
            assert!(policy.shields(client(always)), "{always}");
        }
    }

    #[test]
    fn newer_rules_lift_and_soften_what_was_earned_but_not_the_operators_word() {
        let earned = Sentence {
            client: client("192.0.2.25"),
            level: SentenceLevel::Block,
            reason: SentenceReason::Offence(Offence::RapidRetries),
            since: Timestamp::from_millis(1),
            until: Timestamp::from_millis(2),
            persistence: Persistence::default(),
        };
        let ordered = Sentence {
            reason: SentenceReason::Operator,
            ..earned
        };
        assert_eq!(Policy::default().uphold(earned, OLD, T0), Some(earned));
        let mut policy = listing("192.0.2.0/24");
        assert_eq!(policy.uphold(earned, OLD, T0), None);
        assert_eq!(policy.uphold(ordered, OLD, T0), Some(ordered));
        policy.lists = Arc::default();
        policy.punish.action = Action::Observe;
        let observed = Sentence {
            level: SentenceLevel::Observe,
            ..earned
        };
        assert_eq!(policy.uphold(earned, OLD, T0), Some(observed));
        assert_eq!(policy.uphold(ordered, OLD, T0), Some(ordered));
        assert_eq!(
            policy.uphold_all(vec![earned, ordered], OLD, T0),
            [observed, ordered]
        );
        policy.lists = allowing(["192.0.2.25/32"]);
        assert_eq!(policy.uphold_all(vec![earned, ordered], OLD, T0), [ordered]);
    }

    #[test]
    fn earned_block_is_observed_until_the_history_is_a_week_old() {
        let policy = Policy::default();
        let history = History { begun: T0 };
        let earned = |level| Sentence {
            client: client("192.0.2.25"),
            level,
            reason: SentenceReason::Neighbours,
            since: T0,
            until: T0.after(policy.punish.warmup * 2),
            persistence: Persistence::default(),
        };
        let level_at = |sentence, now| policy.uphold(sentence, history, now).map(|it| it.level);
        let (rate, block) = (SentenceLevel::Rate, SentenceLevel::Block);
        let almost = T0.after(
            policy
                .punish
                .warmup
                .saturating_sub(Duration::from_millis(1)),
        );
        assert_eq!(
            level_at(earned(block), almost),
            Some(SentenceLevel::Observe)
        );
        assert_eq!(level_at(earned(rate), almost), Some(rate));
        let warm = T0.after(policy.punish.warmup);
        assert_eq!(level_at(earned(block), warm), Some(block));
        let ordered = Sentence {
            reason: SentenceReason::Operator,
            ..earned(block)
        };
        assert_eq!(level_at(ordered, almost), Some(block));
    }

    proptest! {
        #[test]
        fn many_are_upheld_as_one_after_the_other(
            allow in proptest::collection::vec((0..16_u32, 26..=32_u8), 0..4),
            observes: bool,
            warm: bool,
            clients in proptest::collection::vec((0..16_u32, any::<bool>(), any::<bool>()), 0..20),
        ) {
            let address = |number| IpAddr::from(Ipv4Addr::from(0xc000_0200 + number * 16));
            let allow = allow.into_iter();
            let allow = allow.map(|(number, bits)| IpNet::new_assert(address(number), bits).trunc());
            let lists = Lists { allow: allow.collect(), ..Lists::default() };
            let mut policy = Policy { lists: Arc::new(lists), ..Policy::default() };
            if observes {
                policy.punish.action = Action::Observe;
            }
            let history = if warm { OLD } else { History { begun: T0 } };
            let given = |(number, by_operator, is_network)| Sentence {
                client: SentencedClient::covering(address(number))[usize::from(is_network)],
                level: SentenceLevel::Block,
                reason: if by_operator {
                    SentenceReason::Operator
                } else {
                    SentenceReason::Offence(Offence::RapidRetries)
                },
                since: Timestamp::from_millis(1),
                until: Timestamp::from_millis(2),
                persistence: Persistence::default(),
            };
            let sentences: Vec<_> = clients.into_iter().map(given).collect();
            let one_by_one: Vec<_> = sentences.iter().filter_map(|it| policy.uphold(*it, history, T0)).collect();
            prop_assert_eq!(policy.uphold_all(sentences, history, T0), one_by_one);
        }
    }

    #[test]
    fn null_reverse_path_is_a_probe() {
        let policy = Policy {
            probe_senders: Vec::new(),
            ..Policy::default()
        };
        assert!(policy.is_probe_sender(b""));
        assert!(!policy.is_probe_sender(b"double-bounce@mx.example"));
    }

    #[test]
    fn probe_sender_matches_any_domain_but_the_exact_local_part() {
        let policy = Policy::default();
        assert!(policy.is_probe_sender(b"double-bounce@mx.example"));
        assert!(!policy.is_probe_sender(b"Double-Bounce@mx.example"));
        assert!(!policy.is_probe_sender(b"double-bounce"));
        assert!(!policy.is_probe_sender(b"double-bounce2@mx.example"));
    }

    #[test]
    fn probe_sender_with_a_domain_matches_it_in_any_case() {
        let policy = Policy {
            probe_senders: vec!["verify@mx.example".to_owned()],
            ..Policy::default()
        };
        assert!(policy.is_probe_sender(b"verify@MX.Example"));
        assert!(!policy.is_probe_sender(b"verify@other.example"));
    }
}

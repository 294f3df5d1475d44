//! What is known of a client and of one mail of it, and what its next attempt would get: the facts
//! behind `greygate why`.
//!
//! The way down the ladder is that of `judge`, with the same functions of `policy`, but it asks
//! copies: nothing is counted, renewed or remembered, and nobody hears of it. What other clients do
//! at the same moment is not foretold: the attempt that completes relay hopping. It is no part of the
//! milter path. A story in `tests/store/explain.rs` holds the two against each other.

use std::net::IpAddr;
use std::time::Duration;

use crate::policy::{
    self, AddressPattern, Attempt, Bearing, Circumstances, ClientNetwork, ClientRecord, Evidence,
    Failure, History, HoppingHelo, Judgement, Listed, Mode, Neighbours, Offence, Origin,
    PairRecord, PassReason, Policy, Protection, Record, RefuseReason, Reputation, Repute, Sentence,
    SentencedClient, ServerMark, Sign, Source, Timestamp, TrustRecord, Verdict, Wanted, Who,
};

use super::Store;
use super::judge::judgement_of;
use super::trust::never_trusts;

/// Of whom, and of what, an explanation is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The client address.
    pub client: IpAddr,
    /// Its verified reverse name, empty if it has none; [`None`] if that is not known.
    pub name: Option<&'a [u8]>,
    /// The HELO argument; empty if that is not known.
    pub helo: &'a [u8],
    /// Reverse-path and recipient; [`None`] if only the client is asked about.
    pub mail: Option<(&'a [u8], &'a [u8])>,
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListName {
    /// `allow`.
    Allow,
    /// `deny`.
    Deny,
    /// `local`.
    Local,
    /// `never_trust`.
    NeverTrust,
    /// `no_retry`.
    NoRetry,
}

impl ListName {
    /// Its key in `[lists]`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Local => "local",
            Self::NeverTrust => "never_trust",
            Self::NoRetry => "no_retry",
        }
    }
}

/// What a recipient's own policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPolicy {
    /// The pattern by which it applies.
    pub pattern: AddressPattern,
    /// Where it stands.
    pub source: Source,
    /// Whether mail is greylisted.
    pub greylists: bool,
    /// By what mail is told when it comes again.
    pub mode: Mode,
    /// How long it waits.
    pub delay: Duration,
}

/// The whole standing of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Why its mail is not greylisted at all, if so.
    pub exempt: Option<PassReason>,
    /// The entries that name it, or the mail that is asked about, the list that decides first.
    pub listed: Vec<(ListName, Listed)>,
    /// The policy of the recipient that is asked about, if it has its own.
    pub recipient: Option<OwnPolicy>,
    /// Whether an allow-listed, local or private host lies in it, so that no offence sentences it.
    pub shielded: bool,
    /// Whether somebody authenticated there lately.
    pub authenticated: bool,
    /// Its strikes.
    pub record: Option<ClientRecord>,
    /// The strikes of the network around it.
    pub neighbours: Option<Neighbours>,
    /// The sentences in force that cover it, its own first.
    pub sentences: Vec<CoveringSentence>,
    /// What is remembered of the HELO argument.
    pub helo: Option<HoppingHelo>,
    /// Since when there is a history.
    pub history: History,
    /// Whether as many messages are remembered as may be: of others the envelope decides alone.
    pub contents_full: bool,
    /// What is known of its client network; of both that it may be, where its reverse name is not
    /// known and makes a difference.
    pub networks: Vec<NetworkStanding>,
}

/// A sentence, and what is left of it under the rules of the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoveringSentence {
    /// As it was given.
    pub sentence: Sentence,
    /// As it is carried out; [`None`] if it is void.
    pub upheld: Option<Sentence>,
}

/// What is known of one client network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkStanding {
    /// Whether the client was taken to have a reverse name that tells a server.
    pub named: bool,
    /// What looks suspicious about it, where only the suspicious are greylisted.
    pub sign: Option<Sign>,
    /// What would be asked of a witness about its next mail, which is not done here.
    pub wanted: Wanted,
    /// The bits of the address that make the network.
    pub prefix: u8,
    /// Its reputation.
    pub reputation: Option<Reputation>,
    /// What that says.
    pub repute: Repute,
    /// What the client's past protects it from.
    pub protection: Protection,
    /// What is known of the mail, if one was asked about.
    pub mail: Option<MailStanding>,
}

/// What is known of one reverse-path and recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailStanding {
    /// The tuple.
    pub tuple: Option<Record>,
    /// Trust in the sender, earned or being earned.
    pub trust: Option<TrustRecord>,
    /// Whether it is earned.
    pub trusted: bool,
    /// Trust that a message which came again has earned the client address.
    pub content_trust: Option<TrustRecord>,
    /// Whether that holds, in the mode and scope of the present.
    pub content_trusted: bool,
    /// The reverse-path and recipient, while mail of theirs is pending, from whatever network.
    pub pair: Option<PairRecord>,
    /// A permanent failure of the hour.
    pub failure: Option<Failure>,
    /// What the next attempt would get, made now in a session of its own.
    pub next: Judgement,
    /// The offence that it would complete.
    pub offence: Option<Offence>,
}

impl Store {
    /// What is known at `now` of whom `question` asks about, and what its next attempt would get.
    /// Changes nothing.
    pub fn explain(&self, question: &Question<'_>, now: Timestamp) -> Explanation {
        let policy = self.policy.load();
        let history = self.history();
        let host = SentencedClient::host(question.client);
        let [_, around] = SentencedClient::covering(question.client);
        let client_key = self.seed.client_key(host);
        let network_key = self.seed.client_key(around);
        let asked = question.attempt(question.name.unwrap_or_default(), now);
        let sentences = SentencedClient::covering(question.client).into_iter();
        Explanation {
            exempt: policy::exempt(&policy, &asked),
            listed: listed(&policy, &asked),
            recipient: own_policy(&policy, question),
            shielded: policy.shields(host) || policy.shielding(&asked).is_some(),
            authenticated: self.clients.has_authenticated(
                &policy,
                &self.seed,
                question.client,
                now,
            ),
            record: self.clients.by_address.get(&client_key),
            neighbours: self.clients.by_network.get(&network_key),
            sentences: sentences
                .filter_map(|client| self.sentences.of(client, now))
                .map(|sentence| CoveringSentence {
                    sentence,
                    upheld: policy.uphold(sentence, history, now),
                })
                .collect(),
            helo: self.remembered_helo(&policy, &asked, now),
            history,
            contents_full: self.contents.by_message.len() >= self.contents.by_message.capacity(),
            networks: self.networks(&policy, question, now),
        }
    }

    fn networks(
        &self,
        policy: &Policy,
        question: &Question<'_>,
        now: Timestamp,
    ) -> Vec<NetworkStanding> {
        let names = match question.name {
            Some(name) => vec![name],
            None => vec![&b""[..], A_SERVER],
        };
        let mut standings: Vec<(ClientNetwork, NetworkStanding)> = Vec::new();
        for name in names {
            let attempt = question.attempt(name, now);
            let network = ClientNetwork::of(policy, &attempt);
            if standings.iter().all(|(known, _)| *known != network) {
                let standing = self.network(policy, question, &attempt, now);
                standings.push((network, standing));
            }
        }
        standings.into_iter().map(|(_, it)| it).collect()
    }

    fn network(
        &self,
        policy: &Policy,
        question: &Question<'_>,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> NetworkStanding {
        let network = ClientNetwork::of(policy, attempt);
        let key = self.seed.network_key(network);
        let repute = self.reputations.standing(policy, &key, now);
        NetworkStanding {
            named: !attempt.client_name.is_empty(),
            sign: sign_of(policy, attempt),
            wanted: policy::wanted(policy, &said(attempt)),
            prefix: network.prefix(),
            reputation: self.reputations.by_network.get(&key),
            repute,
            protection: self.protection(policy, attempt.client, &key, now),
            mail: question.mail.map(|_| {
                let policy = policy.for_recipient(attempt.recipient);
                self.mail(policy, attempt, network, repute, now)
            }),
        }
    }

    fn mail(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        network: ClientNetwork,
        repute: Repute,
        now: Timestamp,
    ) -> MailStanding {
        let tuple_key = self.seed.tuple_key(network, attempt);
        let trust_key = self.seed.trust_key(network, attempt);
        let failure_key =
            self.seed
                .failure_key(attempt.client, attempt.reverse_path, attempt.recipient);
        let failure = self.failures.by_message.get(&failure_key);
        let trust = self.trust.get(&trust_key);
        let may_trust = never_trusts(policy, attempt).is_none();
        let content_trust_key = self.seed.content_trust_key(policy.content.trust, attempt);
        let pair = self.pairs.get(self.seed.pair_key(attempt).tag());
        let known = MailStanding {
            tuple: self.find_tuple(&tuple_key, now),
            trust,
            trusted: may_trust && trust.is_some_and(|it| it.is_trusted(policy, repute, now)),
            content_trust: content_trust_key.and_then(|it| self.trust.get(&it)),
            content_trusted: may_trust && self.content_trust(policy, attempt, now).is_some(),
            pair: pair.filter(|it| !it.has_lapsed(policy, now)),
            failure: failure.filter(|it| !it.has_lapsed(policy, now)),
            next: Verdict::Pass(PassReason::Unrecorded).into(),
            offence: None,
        };
        self.next(policy, attempt, (network, repute), known, now)
    }

    /// `known` with what `attempt` would get: rung after rung as `judge` goes.
    fn next(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        (network, repute): (ClientNetwork, Repute),
        known: MailStanding,
        now: Timestamp,
    ) -> MailStanding {
        let gets = |verdict: Verdict| MailStanding {
            next: verdict.into(),
            ..known
        };
        if let Some(reason) = policy::exempt(policy, attempt) {
            return gets(Verdict::Pass(reason));
        }
        if let Some((_, Some(reason))) = policy::denial(policy, attempt) {
            return gets(Verdict::Refuse(reason));
        }
        if self.is_turned_away(policy, attempt, now) {
            return gets(Verdict::Refuse(RefuseReason::Sentenced));
        }
        if let Some(reason) = policy::refusal(policy, repute) {
            return gets(Verdict::Refuse(reason));
        }
        if let Some(reason) = policy::spares_the_wait(policy, attempt) {
            return gets(Verdict::Pass(reason));
        }
        if known.trusted {
            return gets(Verdict::Pass(PassReason::Trusted));
        }
        if known.content_trusted {
            return gets(Verdict::Pass(PassReason::ContentTrusted));
        }
        if let Some(reason) = policy::excused(policy, &said(attempt)) {
            return gets(Verdict::Pass(reason));
        }
        let mark = self.seed.network_key(network).mark();
        let is_new = known.tuple.is_none();
        let roams = known
            .pair
            .is_some_and(|it| it.roams(policy, mark, is_new, now));
        let circumstances = Circumstances {
            helo_hops: self.hops.slows(policy, &self.seed, network, attempt, now),
            after_failure: known.failure.is_some_and(|failure| {
                failure.bearing(policy, attempt, now) == Bearing::WantsContent
            }),
            reads: policy::reads(policy, attempt, false),
        };
        let decision = policy::decide(policy, known.tuple.as_ref(), attempt, circumstances, now)
            .roaming(policy, attempt, roams);
        MailStanding {
            next: judgement_of(&decision, circumstances, policy),
            offence: decision.offence,
            ..known
        }
    }

    fn remembered_helo(
        &self,
        policy: &Policy,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<HoppingHelo> {
        let key = self.seed.helo_key(attempt.helo);
        let found = self.hops.helos.get(&key);
        found.filter(|it| !it.has_lapsed(policy, now))
    }
}

/// The entries that name `attempt`.
fn listed(policy: &Policy, attempt: &Attempt<'_>) -> Vec<(ListName, Listed)> {
    let lists = &policy.lists;
    [
        (ListName::Allow, &lists.allow),
        (ListName::Local, &lists.local),
        (ListName::Deny, &lists.deny),
        (ListName::NoRetry, &lists.no_retry),
        (ListName::NeverTrust, &lists.never_trust),
    ]
    .into_iter()
    .filter_map(|(name, list)| Some((name, list.find(attempt)?.clone())))
    .collect()
}

fn own_policy(policy: &Policy, question: &Question<'_>) -> Option<OwnPolicy> {
    let (_, recipient) = question.mail?;
    let (pattern, own) = policy.of_recipient(recipient)?;
    Some(OwnPolicy {
        pattern: pattern.clone(),
        source: own.source.clone(),
        greylists: own.policy.greylists,
        mode: own.policy.mode,
        delay: own.policy.delay,
    })
}

/// What looks suspicious about the client of `attempt`, where that matters.
fn sign_of(policy: &Policy, attempt: &Attempt<'_>) -> Option<Sign> {
    if policy.evidence.who == Who::Everyone {
        return None;
    }
    policy::sign_of_client(attempt.client, attempt.client_name)
        .or_else(|| policy::sign_of_helo(policy, said(attempt).helo))
}

/// The attempt with a HELO argument that nobody doubts, if none was told: that it is not known here
/// says nothing of the client.
fn said<'a>(attempt: &Attempt<'a>) -> Attempt<'a> {
    let helo = if attempt.helo.is_empty() {
        A_GREETING
    } else {
        attempt.helo
    };
    Attempt { helo, ..*attempt }
}

impl<'a> Question<'a> {
    /// The attempt that is asked about, made at `now` by a client of that `name`.
    fn attempt(&self, name: &'a [u8], now: Timestamp) -> Attempt<'a> {
        let (reverse_path, recipient) = self.mail.unwrap_or_default();
        Attempt {
            client: self.client.to_canonical(),
            client_name: name,
            helo: self.helo,
            reverse_path,
            recipient,
            announced_size: 0,
            connected: now,
            server: ServerMark::UNKNOWN,
            authenticated: false,
            origin: Origin::ThisHost,
            evidence: Evidence::default(),
        }
    }
}

/// What a server with nothing to hide greets with, for a HELO argument that is not known.
const A_GREETING: &[u8] = b"mail.example.org";

/// Looks like a server's name, and is nobody's (RFC 2606): stands for the name that is not known.
const A_SERVER: &[u8] = b"mx.invalid";

//! One replay: mail of the past through a store of its own, by the clock of the log.
//!
//! The engine is the daemon's, entered as the milter enters it: each recipient is judged, what must
//! be read is judged by its content, what Postfix rejected is told. This knows what a log cannot
//! tell and what stands in for it; it decides nothing that the engine decides.
//!
//! A log tells no content. What the log's own greylister deferred is taken for the same message as
//! long as its sender and recipient wait; what was taken in is told from other mail by its
//! Message-ID.

mod attempt;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use attempt::{Envelope, Retry, attempt, greeting, pair, sender};

use super::gather::{Fate, Mail};
use super::model::{End, Model};
use super::report::{Bound, GivenSentence, Hour, Outcome, Ranked, Ranking, Verdicts};
use super::tally::{Distribution, Share, Top};
use crate::policy::{
    Attempt, Effect, Evidence, History, Judge as _, Judgement, MessageHasher, Origin, Policy, Seed,
    Sentence, SentencedClient, ServerMark, Timestamp, Verdict,
};
use crate::store::{Metrics, Settings, Store, Sweeper};

/// What a replay is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What the log shows, and nothing else.
    Shown,
    /// The sentences that would be given if what came again so soon was the same message.
    Suspected,
    /// What senders do as assumed who were taken in.
    Assumed(Model, End),
}

/// A store, its clock, and what came of it.
pub(super) struct Replay {
    purpose: Purpose,
    store: Store,
    policy: Arc<ArcSwap<Policy>>,
    effects: mpsc::Receiver<Effect>,
    sweeper: Sweeper,
    now: Timestamp,
    swept: Timestamp,
    serial: u64,
    waiting: HashMap<u64, Waiting, BuildHasherDefault<Keyed>>,
    retries: BinaryHeap<Reverse<Retry>>,
    sentences: HashMap<SentencedClient, Given>,
    outcome: Outcome,
    verdicts: BTreeMap<(&'static str, &'static str), u64>,
    delays: Distribution,
    domains: Top<Box<[u8]>>,
    addresses: Top<Box<[u8]>>,
    clients: Top<IpAddr>,
    hours: BTreeMap<u64, Hour>,
    bounds: Vec<Bound>,
}

/// Mail of one sender to one recipient that is awaited.
struct Waiting {
    first: Timestamp,
    last: Timestamp,
    identity: u64,
    /// It passed here, while the log's own greylister had it wait on.
    has_passed: bool,
}

struct Given {
    first: Timestamp,
    sentence: Sentence,
    times: u64,
}

impl Replay {
    /// Begins at `begun` with an empty store, as greygate would that was installed then; or, if
    /// `warmed_up`, one that has watched for long.
    pub(super) fn new(
        purpose: Purpose,
        settings: &Settings,
        policy: &Policy,
        begun: Timestamp,
        warmed_up: bool,
    ) -> Self {
        let policy = Arc::new(ArcSwap::from_pointee(policy.clone()));
        let (sender, effects) = mpsc::channel(EFFECTS);
        let history = History {
            begun: if warmed_up { Timestamp::NEVER } else { begun },
        };
        let store = Store::in_memory(
            settings.clone(),
            Seed::from_bytes(seed()),
            Arc::clone(&policy),
            sender,
            Arc::new(Metrics::default()),
            history,
        );
        let sweeper = Sweeper::new(&store, begun);
        Self {
            purpose,
            store,
            policy,
            effects,
            sweeper,
            now: begun,
            swept: begun,
            serial: 0,
            waiting: HashMap::default(),
            retries: BinaryHeap::new(),
            sentences: HashMap::new(),
            outcome: Outcome::default(),
            verdicts: BTreeMap::new(),
            delays: Distribution::default(),
            domains: Top::of(MOST_RANKED),
            addresses: Top::of(MOST_RANKED),
            clients: Top::of(MOST_RANKED),
            hours: BTreeMap::new(),
            bounds: Vec::new(),
        }
    }

    /// Has a message tried.
    pub(super) fn take(&mut self, mail: &Mail) {
        self.make_retries(mail.time);
        self.turn_to(mail.time);
        let mut was_analysed = false;
        let mut is_saved = true;
        for at in 0..mail.recipients.len() {
            let attempt = attempt(mail, at);
            let fate = mail.recipients[at].fate;
            if fate == Fate::Rejected {
                self.store.note_rejected(&attempt, self.now);
                self.hear_effects();
                continue;
            }
            was_analysed |= matches!(fate, Fate::Accepted | Fate::RefusedBehind);
            is_saved &= self.take_recipient(mail, &attempt, fate);
        }
        if was_analysed && is_saved {
            self.outcome.saved_messages += 1;
            self.outcome.saved_bytes += mail.size.unwrap_or(0);
        }
    }

    /// Lets what is assumed after the log's end happen, and gives the result.
    pub(super) fn end(mut self) -> Finished {
        let log_ends = self.now;
        self.make_retries(Timestamp::from_millis(u64::MAX));
        let window = self.policy.load().retry_window;
        for waiting in self.waiting.values().filter(|it| !it.has_passed) {
            if log_ends.since(waiting.last) > window {
                self.outcome.never_returned += 1;
            } else {
                self.outcome.still_waiting += 1;
            }
        }
        let is_cut = self.domains.is_cut() || self.addresses.is_cut() || self.clients.is_cut();
        if is_cut {
            self.reach(Bound::Ranked);
        }
        let verdicts = self
            .verdicts
            .iter()
            .map(|((verdict, reason), count)| Verdicts {
                verdict: (*verdict).to_owned(),
                reason: (*reason).to_owned(),
                attempts: *count,
            });
        let outcome = Outcome {
            verdicts: verdicts.collect(),
            delay: self.delays.delays(),
            delay_classes: self.delays.by_class(),
            delayed_domains: ranking(&self.domains, true, |key| harmless(key)),
            delayed_addresses: ranking(&self.addresses, true, |key| harmless(key)),
            deferred_clients: ranking(&self.clients, false, ToString::to_string),
            ..self.outcome
        };
        let mut sentences: Vec<_> = self.sentences.into_values().collect();
        sentences.sort_by_key(|it| (it.first, it.sentence.client.to_string()));
        Finished {
            outcome,
            sentences: sentences.iter().map(Given::told).collect(),
            hours: self.hours.into_values().collect(),
            bounds: self.bounds,
        }
    }

    /// Judges a recipient. Whether its message comes to nobody's eyes by that.
    fn take_recipient(&mut self, mail: &Mail, attempt: &Attempt<'_>, fate: Fate) -> bool {
        let key = pair(attempt);
        let window = self.policy.load().retry_window;
        let waiting = self.waiting.remove(&key);
        let waiting = match waiting {
            Some(it) if self.now.since(it.last) > window => {
                self.outcome.never_returned += u64::from(!it.has_passed);
                None
            }
            other => other,
        };
        if let Some(passed) = waiting.as_ref().filter(|it| it.has_passed) {
            self.outcome.not_repeated += 1;
            if fate == Fate::Greylisted {
                let last = self.now;
                self.await_pair(key, Waiting { last, ..*passed });
            }
            return false;
        }
        self.serial += 1;
        let identity = match (&waiting, mail.message_id) {
            (Some(waiting), _) => waiting.identity,
            (None, Some(message_id)) => message_id,
            (None, None) => self.serial,
        };
        let verdict = self.judge(attempt, identity);
        self.note_hour(verdict);
        let first = waiting.as_ref().map_or(self.now, |it| it.first);
        match verdict {
            Verdict::Pass(_) => {
                match waiting {
                    Some(_) => self.note_delay(attempt, first),
                    None => self.outcome.passed_at_once += 1,
                }
                if fate == Fate::Greylisted {
                    let waiting = Waiting {
                        first,
                        last: self.now,
                        identity,
                        has_passed: true,
                    };
                    self.await_pair(key, waiting);
                }
                false
            }
            Verdict::Refuse(_) => {
                self.outcome.refused += 1;
                true
            }
            Verdict::Defer(_) | Verdict::Read(_) => {
                self.outcome.deferrals += 1;
                self.outcome.deferred += u64::from(waiting.is_none());
                self.clients.add(attempt.client, 1);
                if fate == Fate::Greylisted {
                    let waiting = Waiting {
                        first,
                        last: self.now,
                        identity,
                        has_passed: false,
                    };
                    self.await_pair(key, waiting);
                    return false;
                }
                self.outcome.retry_not_shown += 1;
                self.assume_retry(mail, attempt, first, identity)
            }
        }
    }

    /// What the engine says.
    fn judge(&mut self, attempt: &Attempt<'_>, identity: u64) -> Verdict {
        let now = self.now;
        let mut judgement = self.store.judge(attempt, now);
        if let Verdict::Read(_) = judgement.verdict {
            self.outcome.read += 1;
            judgement = self.read(attempt, identity);
        } else if judgement.wants_content {
            self.outcome.read += 1;
            if self.purpose == Purpose::Suspected {
                let message = self.message(identity);
                self.store.note_content(attempt, &message, now);
            }
        }
        self.hear_effects();
        let verdict = judgement.verdict;
        if verdict.reason() == "unrecorded" {
            self.reach(Bound::Store);
        }
        *self
            .verdicts
            .entry((verdict.word(), verdict.reason()))
            .or_default() += 1;
        verdict
    }

    fn read(&self, attempt: &Attempt<'_>, identity: u64) -> Judgement {
        let message = self.message(identity);
        let judgement = self.store.judge_content(attempt, &message, self.now);
        if matches!(judgement.verdict, Verdict::Pass(_)) {
            self.store.note_content_pass(attempt, &message, self.now);
        }
        judgement
    }

    /// What stands in for a message: no log tells its content.
    fn message(&self, identity: u64) -> MessageHasher {
        let mut message = self.store.message_hasher();
        message.header(b"Message-ID", identity.to_string().as_bytes());
        message.body(b"as the log does not tell\r\n");
        message
    }

    /// Whether nobody will see the message: its sender never comes again.
    fn assume_retry(
        &mut self,
        mail: &Mail,
        attempt: &Attempt<'_>,
        first: Timestamp,
        identity: u64,
    ) -> bool {
        let Purpose::Assumed(model, end) = self.purpose else {
            return false;
        };
        let sender = sender(mail);
        if model.gives_up(end, &sender) {
            self.outcome.never_returned += 1;
            return true;
        }
        if self.retries.len() >= MOST_RETRIES {
            self.reach(Bound::Retries);
            return false;
        }
        let retry = Retry {
            at: self.now,
            serial: self.serial,
            first,
            number: 0,
            identity,
            envelope: Arc::new(Envelope {
                client: attempt.client,
                name: attempt.client_name.into(),
                helo: attempt.helo.into(),
                reverse_path: attempt.reverse_path.into(),
                recipient: attempt.recipient.into(),
                sender,
            }),
        };
        self.plan(retry, model, end);
        false
    }

    /// Puts the next attempt off to its time, if there is one.
    fn plan(&mut self, mut retry: Retry, model: Model, end: End) {
        // What the log shows of its earlier attempts was made by the same queue.
        loop {
            retry.number += 1;
            let Some(after) = model.retry(end, &retry.envelope.sender, retry.number) else {
                self.outcome.never_returned += 1;
                return;
            };
            let at = retry.first.after(after);
            if at > retry.at {
                retry.at = at;
                break;
            }
        }
        self.retries.push(Reverse(retry));
    }

    /// Makes the attempts that are assumed until `until`.
    fn make_retries(&mut self, until: Timestamp) {
        let Purpose::Assumed(model, end) = self.purpose else {
            return;
        };
        while self
            .retries
            .peek()
            .is_some_and(|Reverse(it)| it.at <= until)
        {
            let Some(Reverse(retry)) = self.retries.pop() else {
                return;
            };
            self.turn_to(retry.at);
            let envelope = Arc::clone(&retry.envelope);
            let attempt = Attempt {
                client: envelope.client,
                client_name: &envelope.name,
                helo: greeting(&envelope.helo, &envelope.name),
                reverse_path: &envelope.reverse_path,
                recipient: &envelope.recipient,
                announced_size: 0,
                connected: self.now,
                server: ServerMark::UNKNOWN,
                authenticated: false,
                // Nobody is sentenced for what is assumed: the engine takes nobody's word but this
                // host's for that.
                origin: Origin::AnotherHost,
                evidence: Evidence::default(),
            };
            match self.judge(&attempt, retry.identity) {
                Verdict::Pass(_) => self.note_delay(&attempt, retry.first),
                Verdict::Refuse(_) => self.outcome.refused += 1,
                Verdict::Defer(_) | Verdict::Read(_) => {
                    self.outcome.deferrals += 1;
                    self.clients.add(attempt.client, 1);
                    self.plan(retry, model, end);
                }
            }
        }
    }

    fn turn_to(&mut self, time: Timestamp) {
        self.now = self.now.max(time);
        if self.now.since(self.swept) >= ROUND {
            self.swept = self.now;
            self.sweeper.round(&self.store, self.now);
        }
    }

    fn note_delay(&mut self, attempt: &Attempt<'_>, first: Timestamp) {
        self.outcome.passed_after += 1;
        let waited = self.now.since(first);
        self.delays.add(waited);
        let path = attempt.reverse_path;
        let domain = path.iter().rposition(|&byte| byte == b'@');
        let domain = domain.map_or(path, |at| &path[at + 1..]);
        let named = |text: &[u8]| match text {
            b"" => Box::from(&b"<>"[..]),
            text => text.to_ascii_lowercase().into_boxed_slice(),
        };
        self.domains.add(named(domain), waited.as_secs());
        self.addresses.add(named(path), waited.as_secs());
    }

    fn note_hour(&mut self, verdict: Verdict) {
        if self.purpose != Purpose::Shown {
            return;
        }
        let at = self.now.as_millis() / 3_600_000 * 3_600;
        if self.hours.len() >= MOST_HOURS && !self.hours.contains_key(&at) {
            self.reach(Bound::Hours);
            return;
        }
        let hour = self.hours.entry(at).or_insert_with(|| Hour {
            at,
            ..Hour::default()
        });
        match verdict {
            Verdict::Pass(_) => hour.passed += 1,
            Verdict::Refuse(_) => hour.refused += 1,
            Verdict::Defer(_) | Verdict::Read(_) => hour.deferred += 1,
        }
    }

    fn await_pair(&mut self, key: u64, waiting: Waiting) {
        if self.waiting.len() >= MOST_WAITING {
            let (now, window) = (self.now, self.policy.load().retry_window);
            let mut never_returned = 0;
            self.waiting.retain(|_, it| {
                let is_over = now.since(it.last) > window;
                never_returned += u64::from(is_over && !it.has_passed);
                !is_over
            });
            self.outcome.never_returned += never_returned;
        }
        if self.waiting.len() >= MOST_WAITING {
            self.reach(Bound::Waiting);
        } else {
            self.waiting.insert(key, waiting);
        }
    }

    fn hear_effects(&mut self) {
        while let Ok(effect) = self.effects.try_recv() {
            let Effect::Punish(sentence) = effect else {
                continue;
            };
            let is_full = self.sentences.len() >= MOST_SENTENCED;
            if is_full && !self.sentences.contains_key(&sentence.client) {
                self.reach(Bound::Sentenced);
                continue;
            }
            let first = self.now;
            let given = self.sentences.entry(sentence.client).or_insert(Given {
                first,
                sentence,
                times: 0,
            });
            given.times += 1;
            given.sentence = given.sentence.merge(sentence);
        }
    }

    fn reach(&mut self, bound: Bound) {
        if !self.bounds.contains(&bound) {
            self.bounds.push(bound);
        }
    }
}

/// What came of a replay.
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    pub(super) sentences: Vec<GivenSentence>,
    pub(super) hours: Vec<Hour>,
    pub(super) bounds: Vec<Bound>,
}

impl Given {
    fn told(&self) -> GivenSentence {
        let sentence = &self.sentence;
        GivenSentence {
            client: sentence.client.to_string(),
            level: sentence.level.as_str().to_owned(),
            reason: sentence.reason.as_str().to_owned(),
            at: self.first.as_millis() / 1_000,
            until: sentence.until.as_millis() / 1_000,
            times: self.times,
        }
    }
}

/// A stranger's text, without what a terminal or a reader could be led astray by.
fn harmless(text: &[u8]) -> String {
    let is_harmful = |it: char| {
        it.is_control()
            || matches!(it, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let text = String::from_utf8_lossy(text);
    text.chars()
        .map(|it| {
            if is_harmful(it) {
                char::REPLACEMENT_CHARACTER
            } else {
                it
            }
        })
        .collect()
}

fn ranking<K: Clone + Eq + std::hash::Hash + Ord>(
    top: &Top<K>,
    has_seconds: bool,
    name: impl Fn(&K) -> String,
) -> Ranking {
    let (first, others) = top.first(RANKED);
    let ranked = |name: String, share: &Share| Ranked {
        name,
        count: share.count,
        seconds: if has_seconds { share.weight } else { 0 },
        longest: if has_seconds { share.longest } else { 0 },
    };
    Ranking {
        first: first
            .iter()
            .map(|(key, share)| ranked(name(key), share))
            .collect(),
        others: (others.count > 0).then(|| ranked("others".to_owned(), &others)),
    }
}

/// A known one, so that the same log says the same twice. Nobody can aim at keys of the past.
fn seed() -> [u8; Seed::LENGTH] {
    std::array::from_fn(|at| at.to_le_bytes()[0].wrapping_mul(151).wrapping_add(43))
}

/// The keys are hashes.
#[derive(Default)]
struct Keyed(u64);

impl Hasher for Keyed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Sentences that one attempt can bring; they are heard after each.
const EFFECTS: usize = 4_096;
/// The keeper makes its round as often.
const ROUND: Duration = Duration::from_secs(1);
const MOST_WAITING: usize = 1_000_000;
const MOST_RETRIES: usize = 500_000;
const MOST_SENTENCED: usize = 10_000;
const MOST_RANKED: usize = 8_192;
const MOST_HOURS: usize = 20_000;
/// What a ranking shows.
const RANKED: usize = 10;

#[cfg(test)]
mod tests;

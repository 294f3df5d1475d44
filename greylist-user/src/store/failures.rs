//! The permanent failures of the last hour, who keeps trying in spite of them, and whom nearly every
//! recipient is rejected.
//!
//! What a failure means is `policy`'s word; this knows two tables, bounded, and asks them so that
//! honest mail pays little: nothing while nothing has failed, and a probe that takes no write lock
//! otherwise. They are not written to disk: an hour's memory is no loss at a restart.
//!
//! Full, the two hold some 25 MB and 5 MB. A failure that finds no room is counted and not
//! remembered: nobody is struck for it.

use std::net::IpAddr;

use prometheus_client::metrics::counter::Counter;

use crate::policy::{
    self, Attempt, Bearing, ClientKey, Failure, FailureKey, Fingerprint, Offence, Origin, Policy,
    Rejections, Seed, SentencedClient, Timestamp,
};

use super::Store;
use super::table::Table;

/// The tables of failures.
#[derive(Debug)]
pub(super) struct Failures {
    pub(super) by_message: Table<FailureKey, Failure>,
    pub(super) by_client: Table<ClientKey, Rejections>,
    /// Counts what found no room.
    unrecorded: Counter,
}

/// What is known of an attempt after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AfterFailure {
    /// The offence that it completed.
    pub(super) offence: Option<Offence>,
    /// Whether only the content of its message can tell if it is a retry.
    pub(super) wants_content: bool,
}

impl Failures {
    /// Empty tables.
    pub(super) fn new(unrecorded: Counter) -> Self {
        Self {
            by_message: Table::growing(FAILURES),
            by_client: Table::growing(CLIENTS),
            unrecorded,
        }
    }

    /// Failures remembered, some of which may have lapsed since the last sweep.
    pub(super) fn len(&self) -> usize {
        self.by_message.len()
    }

    /// Notes a recipient that the MTA did not reject itself, whatever becomes of it.
    pub(super) fn note_named(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) {
        if self.by_client.len() == 0 || !policy::counts_rejections(policy, attempt) {
            return;
        }
        let key = client_key(seed, attempt);
        let counts = self.by_client.get(&key);
        if counts.is_some_and(|it| !it.has_lapsed(policy, now)) {
            self.by_client.alter(&key, Rejections::note_named);
        }
    }

    /// Notes an attempt that the MTA did not reject itself.
    pub(super) fn note_attempt(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> AfterFailure {
        if self.by_message.len() == 0 {
            return AfterFailure::default();
        }
        let key = failure_key(seed, attempt);
        let Some(failure) = self.by_message.get(&key) else {
            return AfterFailure::default();
        };
        match failure.bearing(policy, attempt, now) {
            Bearing::None => AfterFailure::default(),
            Bearing::WantsContent => AfterFailure {
                offence: None,
                wants_content: true,
            },
            Bearing::Retry => AfterFailure {
                offence: self.note_retry(&key, |it| it.note_attempt(policy, attempt, now)),
                wants_content: false,
            },
        }
    }

    /// Notes what the message of an attempt turned out to be.
    pub(super) fn note_content(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Option<Offence> {
        if self.by_message.len() == 0 {
            return None;
        }
        self.note_retry(&failure_key(seed, attempt), |failure| {
            failure.note_content(policy, attempt, fingerprint, now)
        })
    }

    /// Notes that the MTA rejected a recipient.
    pub(super) fn note_rejected(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        let (is_new, offence) = self.note_failure(policy, seed, attempt, now);
        if is_new && policy::counts_rejections(policy, attempt) {
            self.note_rejection(policy, client_key(seed, attempt), now)
        } else {
            offence
        }
    }

    /// Notes that a message is refused for good for what its client is, not for its recipient.
    pub(super) fn note_refused(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> Option<Offence> {
        self.note_failure(policy, seed, attempt, now).1
    }

    /// Enters the failure of an attempt, or counts it as a retry. Says whether it is not known to be
    /// one, and what offence it completed. The word of another host enters nothing.
    fn note_failure(
        &self,
        policy: &Policy,
        seed: &Seed,
        attempt: &Attempt<'_>,
        now: Timestamp,
    ) -> (bool, Option<Offence>) {
        if attempt.origin == Origin::AnotherHost {
            return (false, None);
        }
        let noted = self.by_message.update(failure_key(seed, attempt), |prior| {
            let is_new = prior.is_none_or(|prior| prior.has_lapsed(policy, now));
            let (next, offends) = Failure::rejected(policy, prior, attempt, now);
            let offence = offends.then_some(Offence::RejectedRetries);
            (next, (is_new, offence))
        });
        // Not taken for new: a retry that cannot be told from it is no further recipient.
        noted.unwrap_or_else(|_| {
            self.unrecorded.inc();
            (false, None)
        })
    }

    /// Counts a recipient that was rejected to a client.
    fn note_rejection(&self, policy: &Policy, key: ClientKey, now: Timestamp) -> Option<Offence> {
        let noted = self
            .by_client
            .update(key, |prior| Rejections::rejected(policy, prior, now));
        let attacks = noted.unwrap_or_else(|_| {
            self.unrecorded.inc();
            false
        });
        attacks.then_some(Offence::RejectedRecipients)
    }

    /// Forgets how many recipients were refused to `client`, and says whether any was.
    pub(super) fn forgive(&self, seed: &Seed, client: SentencedClient) -> bool {
        self.by_client.take(&seed.client_key(client)).is_some()
    }

    fn note_retry(
        &self,
        key: &FailureKey,
        note: impl FnOnce(&mut Failure) -> bool,
    ) -> Option<Offence> {
        let offends = self.by_message.alter(key, note);
        (offends == Some(true)).then_some(Offence::RejectedRetries)
    }
}

impl Store {
    /// Hears from another filter that it rejected a message: from `address`, of
    /// `reverse_path`, to `recipient`, and of what size it was announced at MAIL, if that is known.
    /// Retries of it are counted from now on. Says whether there is room to remember it.
    pub fn report_reject(
        &self,
        address: IpAddr,
        reverse_path: &[u8],
        recipient: &[u8],
        size: Option<u64>,
        now: Timestamp,
    ) -> bool {
        let policy = self.policy.load();
        let key = self.seed.failure_key(address, reverse_path, recipient);
        // What an announced size tells of a bounce or a probe is nothing.
        let size = size.filter(|_| !policy.is_probe_sender(reverse_path));
        let entered = self.failures.by_message.update(key, |prior| {
            (Failure::reported(&policy, prior, size, now), ())
        });
        if entered.is_err() {
            self.metrics.failures_unrecorded.inc();
        }
        entered.is_ok()
    }
}

fn failure_key(seed: &Seed, attempt: &Attempt<'_>) -> FailureKey {
    seed.failure_key(attempt.client, attempt.reverse_path, attempt.recipient)
}

fn client_key(seed: &Seed, attempt: &Attempt<'_>) -> ClientKey {
    seed.client_key(SentencedClient::host(attempt.client))
}

/// Failures remembered at once, of 40 bytes each: 73 a second for an hour.
const FAILURES: usize = 262_144;

/// Client addresses whose rejected recipients are counted at once, of 32 bytes each.
const CLIENTS: usize = 65_536;

/// Hundreds of thousands are held: larger ones are a decision, not an accident.
const _: () = assert!(size_of::<(FailureKey, Failure)>() <= 40);
const _: () = assert!(size_of::<(ClientKey, Rejections)>() <= 32);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::fixture::{T0, UNSIZED};

    struct Watch {
        failures: Failures,
        seed: Seed,
        policy: Policy,
    }

    impl Watch {
        fn new() -> Self {
            Self {
                failures: Failures::new(Counter::default()),
                seed: Seed::from_bytes(std::array::from_fn(|at| at.to_le_bytes()[0])),
                policy: Policy::default(),
            }
        }

        fn tries(&self, attempt: &Attempt<'_>, minute: u64) -> AfterFailure {
            let now = T0.after(Duration::from_mins(minute));
            self.failures
                .note_named(&self.policy, &self.seed, attempt, now);
            self.failures
                .note_attempt(&self.policy, &self.seed, attempt, now)
        }

        fn shows(&self, attempt: &Attempt<'_>, content: u8, minute: u64) -> Option<Offence> {
            let fingerprint = Fingerprint::from_bytes([content; 16]);
            let now = T0.after(Duration::from_mins(minute));
            self.failures
                .note_content(&self.policy, &self.seed, attempt, fingerprint, now)
        }

        fn rejected(&self, attempt: &Attempt<'_>, minute: u64) -> Option<Offence> {
            let now = T0.after(Duration::from_mins(minute));
            self.failures
                .note_rejected(&self.policy, &self.seed, attempt, now)
        }
    }

    #[test]
    fn content_is_asked_for_and_its_sixth_repetition_is_an_offence() {
        let watch = Watch::new();
        assert_eq!(watch.tries(&UNSIZED, 0), AfterFailure::default());
        assert_eq!(watch.rejected(&UNSIZED, 0), None);
        for minute in 1..=6 {
            let after = watch.tries(&UNSIZED, minute);
            assert!(after.wants_content, "nothing else can tell");
            assert_eq!(after.offence, None);
            // The first content is taken for the message that failed.
            let expected = (minute == 6).then_some(Offence::RejectedRetries);
            assert_eq!(watch.shows(&UNSIZED, 7, minute), expected, "{minute}");
            assert_eq!(watch.shows(&UNSIZED, 8, minute), None, "other mail");
        }
    }

    #[test]
    fn named_recipients_are_counted_for_clients_with_rejected_ones_alone() {
        let watch = Watch::new();
        for minute in 0..5 {
            watch.tries(&UNSIZED, minute);
        }
        assert_eq!(watch.failures.by_client.len(), 0);
        watch.rejected(&UNSIZED, 5);
        watch.tries(&UNSIZED, 6);
        let key = client_key(&watch.seed, &UNSIZED);
        let counts = watch.failures.by_client.get(&key).expect("it is counted");
        assert_eq!((counts.rejected, counts.named), (1, 2));
        watch.tries(&UNSIZED, 70);
        let later = watch.failures.by_client.get(&key);
        assert_eq!(later, Some(counts), "its hour is over");
    }

    #[test]
    fn recipient_rejected_again_is_a_retry_and_not_counted_again() {
        let watch = Watch::new();
        for minute in 0..50 {
            watch.rejected(&UNSIZED, minute);
        }
        let key = client_key(&watch.seed, &UNSIZED);
        let counts = watch.failures.by_client.get(&key).expect("it is counted");
        assert_eq!(counts.rejected, 1);
    }

    #[test]
    fn our_own_5yz_makes_retries_and_no_dictionary_attack() {
        let watch = Watch::new();
        let refused = |attempt: &Attempt<'_>, minute: u64| {
            let now = T0.after(Duration::from_mins(minute));
            watch
                .failures
                .note_refused(&watch.policy, &watch.seed, attempt, now)
        };
        let sized = Attempt {
            announced_size: 5_000,
            ..UNSIZED
        };
        for number in 0..500 {
            let recipient = format!("r{number}@here.example");
            let attempt = Attempt {
                recipient: recipient.as_bytes(),
                ..sized
            };
            assert_eq!(refused(&attempt, 0), None);
        }
        assert_eq!(watch.failures.by_client.len(), 0);
        let offences = (0..=6).filter(|&minute| refused(&sized, minute).is_some());
        assert_eq!(offences.collect::<Vec<_>>(), [6]);
    }

    fn watch_of_at_most(failures: usize, clients: usize) -> Watch {
        Watch {
            failures: Failures {
                by_message: Table::growing(failures),
                by_client: Table::growing(clients),
                unrecorded: Counter::default(),
            },
            ..Watch::new()
        }
    }

    #[test]
    fn full_table_forgets_new_failures_counts_them_and_keeps_the_old() {
        let watch = watch_of_at_most(1, 10);
        let sized = Attempt {
            announced_size: 5_000,
            ..UNSIZED
        };
        watch.rejected(&sized, 0);
        let another = Attempt {
            recipient: b"another@here.example",
            ..sized
        };
        // Not a hundred recipients, but as far as anybody knows one.
        for _ in 0..200 {
            assert_eq!(watch.rejected(&another, 0), None);
        }
        assert_eq!(watch.failures.len(), 1);
        assert_eq!(watch.failures.unrecorded.get(), 200);
        let offences = (1..=6).filter(|&minute| watch.rejected(&sized, minute).is_some());
        assert_eq!(offences.collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn full_table_of_clients_counts_the_rejections_that_find_no_room() {
        let watch = watch_of_at_most(10, 1);
        watch.rejected(&UNSIZED, 0);
        let other = Attempt {
            client: std::net::Ipv4Addr::new(192, 0, 2, 8).into(),
            ..UNSIZED
        };
        assert_eq!(watch.rejected(&other, 0), None);
        let failures = &watch.failures;
        assert_eq!((failures.len(), failures.by_client.len()), (2, 1));
        assert_eq!(failures.unrecorded.get(), 1);
    }
}

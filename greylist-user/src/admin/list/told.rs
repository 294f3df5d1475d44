//! What the store lists, told as plain rows.
//!
//! Knows which facts answer a question and how they are worded; leaves the walk to `store`, and what
//! has lapsed to `policy`.

use ipnet::IpNet;

use super::{
    ClientRow, FingerprintRow, ListOrder, ListQuestion, ListRows, ListTable, Listing, PendingRow,
    SentenceRow, TrustedRow,
};
use crate::policy::{
    ClientKey, ClientRecord, ContentRecord, ContentStanding, ContentTrust, Fingerprint, Policy,
    Record, Repute, Second, Sentence, Standing, Strike, Timestamp, TrustKey, TrustRecord, TupleKey,
    passes_wanted,
};
use crate::store::{Kept, ListedClient, ListedRecord, Pick, Store};

impl Listing {
    /// What `store` holds of what is asked for, at `now` and under `policy`.
    pub fn of(store: &Store, question: &ListQuestion, policy: &Policy, now: Timestamp) -> Self {
        let asked = Asked {
            store,
            question,
            prefix: Prefix::of(question.fingerprint.as_deref().unwrap_or_default()),
            policy,
            now,
        };
        let (rows, matched) = match question.what {
            ListTable::Clients => asked.clients(),
            ListTable::Fingerprints => asked.fingerprints(),
            ListTable::Pending => asked.pending(),
            ListTable::Sentences => asked.sentences(),
            ListTable::Trusted => asked.trusted(),
        };
        let mut listing = Self {
            now: seconds(now),
            matched,
            more: matched - rows.len() as u64,
            addresses_kept: store.keeps_addresses(),
            notes: asked.notes(),
            rows,
        };
        listing.fit(LARGEST);
        listing
    }

    /// Leaves off the last rows until it has no more than `most` bytes, or one row.
    fn fit(&mut self, most: usize) {
        let mut bytes = 0;
        let mut fitting = 0;
        let sizes = self.rows.sizes();
        while let Some(size) = sizes.get(fitting)
            && (fitting == 0 || bytes + size <= most)
        {
            bytes += size;
            fitting += 1;
        }
        if fitting < sizes.len() {
            self.rows.truncate(fitting);
            self.more = self.matched - fitting as u64;
            self.notes.push(format!(
                "only the first {fitting} rows are told: with their addresses the others are too much \
                 for one answer; narrow the list with its filters"
            ));
        }
    }
}

impl ListRows {
    /// Bytes that each row is written in.
    fn sizes(&self) -> Vec<usize> {
        fn of<T: serde::Serialize>(rows: &[T]) -> Vec<usize> {
            let size = |row| serde_json::to_string(row).map_or(0, |json| json.len() + 1);
            rows.iter().map(size).collect()
        }
        match self {
            Self::Clients(rows) => of(rows),
            Self::Fingerprints(rows) => of(rows),
            Self::Pending(rows) => of(rows),
            Self::Sentences(rows) => of(rows),
            Self::Trusted(rows) => of(rows),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Clients(all) => all.truncate(rows),
            Self::Fingerprints(all) => all.truncate(rows),
            Self::Pending(all) => all.truncate(rows),
            Self::Sentences(all) => all.truncate(rows),
            Self::Trusted(all) => all.truncate(rows),
        }
    }
}

/// A question, and what it is answered from.
struct Asked<'a> {
    store: &'a Store,
    question: &'a ListQuestion,
    prefix: Prefix,
    policy: &'a Policy,
    now: Timestamp,
}

impl Asked<'_> {
    fn pending(&self) -> (ListRows, u64) {
        let wanted = |key: &TupleKey, record: &Record| {
            record.has_passed() == self.question.passed
                && self.is_of_time(record.first_seen)
                && reaches(record.attempts, self.question.least_attempts)
                && reaches(record.passes, self.question.least_passes)
                && self.prefix.begins(key.to_bytes())
                && !record.has_lapsed(self.policy, self.now)
        };
        let addresses = |kept: &Kept| self.is_addressed(kept);
        let listed = self.store.list_tuples(&Pick {
            wanted: &wanted,
            addresses: self.asks_for_addresses().then_some(&addresses),
            rank: &|record| {
                self.ranked(match self.question.order() {
                    ListOrder::Attempts => record.attempts.into(),
                    ListOrder::First => record.first_seen.as_millis(),
                    ListOrder::Passes => record.passes.into(),
                    ListOrder::Until => record.lapses(self.policy).as_millis(),
                    _ => record.last_seen.as_millis(),
                })
            },
            limit: self.question.rows(),
        });
        let rows = listed.rows.iter().map(|row| self.pending_row(row));
        (ListRows::Pending(rows.collect()), listed.matched)
    }

    fn pending_row(&self, row: &ListedRecord<TupleKey, Record>) -> PendingRow {
        let record = &row.record;
        let kept = row.kept.as_ref();
        let standing = match record.standing(self.policy, self.now) {
            Standing::Early { .. } => "early",
            Standing::InWindow { .. } => "in-window",
            Standing::Passed => "passed",
            Standing::Lapsed => "lapsed",
        };
        PendingRow {
            fingerprint: hex(row.key.to_bytes()),
            standing: standing.to_owned(),
            first: seconds(record.first_seen),
            last: seconds(record.last_seen),
            attempts: record.attempts.into(),
            passes: record.passes.into(),
            extra: record.extra().as_secs(),
            opens: seconds(record.first_seen.after(record.delay(self.policy))),
            until: seconds(record.lapses(self.policy)),
            passed: happened(record.passed),
            client: kept.map(|kept| client(kept.client())),
            sender: kept.map(|kept| path(kept.sender())),
            recipient: kept.map(|kept| path(kept.recipient())),
        }
    }

    fn trusted(&self) -> (ListRows, u64) {
        let wanted = |key: &TrustKey, record: &TrustRecord| {
            self.is_of_time(record.last_used)
                && reaches(record.passes, self.question.least_passes)
                && self.prefix.begins(key.to_bytes())
                && !record.has_lapsed(self.policy, self.now)
        };
        let addresses = |kept: &Kept| self.is_addressed(kept);
        let listed = self.store.list_trust(&Pick {
            wanted: &wanted,
            addresses: self.asks_for_addresses().then_some(&addresses),
            rank: &|record| {
                self.ranked(match self.question.order() {
                    ListOrder::Passes => record.passes.into(),
                    // All of them are kept for as long after their last use.
                    _ => record.last_used.as_millis(),
                })
            },
            limit: self.question.rows(),
        });
        let rows = listed.rows.iter().map(|row| self.trusted_row(row));
        (ListRows::Trusted(rows.collect()), listed.matched)
    }

    fn trusted_row(&self, row: &ListedRecord<TrustKey, TrustRecord>) -> TrustedRow {
        let record = &row.record;
        let kept = row.kept.as_ref();
        let by_content = record.by_content;
        let repute = kept.map_or(Repute::Unknown, |kept| {
            self.store.repute_of_network(kept.client(), self.now)
        });
        let wanted = if by_content {
            0
        } else {
            passes_wanted(self.policy, repute)
        };
        let (is_off, is_trusted) = if by_content {
            (
                self.policy.content.trust == ContentTrust::Off || !self.policy.mode.reads(),
                true,
            )
        } else {
            let trusts = record.is_trusted(self.policy, repute, self.now);
            (self.policy.trust_after == 0, trusts)
        };
        let standing = match (is_off, is_trusted) {
            (true, _) => "off",
            (false, true) => "trusted",
            (false, false) => "earning",
        };
        TrustedRow {
            fingerprint: hex(row.key.to_bytes()),
            earned_by: if by_content { "content" } else { "passes" }.to_owned(),
            standing: standing.to_owned(),
            passes: record.passes.into(),
            wanted: wanted.into(),
            last: seconds(record.last_used),
            until: seconds(record.last_used.after(self.policy.trust)),
            network: kept.map(|kept| client(kept.client())),
            sender: kept.map(|kept| path(kept.sender())),
        }
    }

    fn clients(&self) -> (ListRows, u64) {
        let wanted = |key: &ClientKey, record: &ClientRecord| {
            let strikes = record.strikes(self.policy, self.now);
            reaches(strikes, self.question.least_strikes)
                && self.is_of_time(last_of(record).into())
                && self.prefix.begins(key.to_bytes())
                && !record.has_lapsed(self.policy, self.now)
        };
        let pick = Pick {
            wanted: &wanted,
            addresses: None,
            rank: &|record| {
                let strikes = u64::from(record.strikes(self.policy, self.now));
                let last = u64::from(last_of(record).as_seconds());
                self.ranked(match self.question.order() {
                    // Of equally many the latest.
                    ListOrder::Strikes => strikes << 32 | last,
                    _ => last,
                })
            },
            limit: self.question.rows(),
        };
        let network = self.question.network;
        let listed = self.store.list_clients(&pick, network, self.now);
        let rows = listed.rows.iter().map(|row| self.client_row(row));
        (ListRows::Clients(rows.collect()), listed.matched)
    }

    fn client_row(&self, row: &ListedClient) -> ClientRow {
        let record = &row.record;
        let strikes = record.strikes(self.policy, self.now);
        let latest = latest_strike(record);
        let forgive_after = self.policy.punish.forgive_after;
        ClientRow {
            fingerprint: hex(row.key.to_bytes()),
            client: row.client.map(client),
            strikes: strikes.into(),
            last: latest.map(|strike| second(strike.at)),
            offence: latest.map(|strike| strike.offence.as_str().to_owned()),
            until: latest
                .filter(|_| strikes > 0)
                .map(|strike| seconds(Timestamp::from(strike.at).after(forgive_after))),
            last_auth: happened(record.authenticated),
            authenticated: record.has_authenticated(self.policy, self.now),
            repute: row.repute.map(|repute| repute.as_str().to_owned()),
            sentence: row.sentence.map(|it| it.level.as_str().to_owned()),
        }
    }

    fn sentences(&self) -> (ListRows, u64) {
        let network = self.question.network.map(|network| network.trunc());
        let wanted = |sentence: &Sentence| {
            let client = sentence.client.network();
            let lies_within = network.is_none_or(|network| network.contains(&client));
            let drops = sentence.persistence.drops;
            lies_within
                && self.is_of_time(sentence.since)
                && self.question.least_drops.is_none_or(|least| drops >= least)
        };
        let rank = |sentence: &Sentence| {
            self.ranked(match self.question.order() {
                ListOrder::First => sentence.since.as_millis(),
                ListOrder::Until => sentence.until.as_millis(),
                _ => sentence.persistence.drops,
            })
        };
        let limit = self.question.rows();
        let listed = self.store.list_sentences(wanted, rank, limit, self.now);
        let history = self.store.history();
        let rows = listed.rows.into_iter().map(|sentence| {
            let upheld = self.policy.uphold(sentence, history, self.now);
            SentenceRow {
                client: sentence.client.to_string(),
                level: sentence.level.as_str().to_owned(),
                carried_out: upheld.map(|it| it.level.as_str().to_owned()),
                reason: sentence.reason.as_str().to_owned(),
                first: seconds(sentence.since),
                until: seconds(sentence.until),
                drops: sentence.persistence.drops,
                lengthened: sentence.persistence.lengthened,
            }
        });
        (ListRows::Sentences(rows.collect()), listed.matched)
    }

    fn fingerprints(&self) -> (ListRows, u64) {
        let wanted = |key: &Fingerprint, record: &ContentRecord| {
            (record.passed != Second::NEVER) == self.question.passed
                && self.is_of_time(record.first_seen)
                && reaches(record.attempts, self.question.least_attempts)
                && reaches(record.passes, self.question.least_passes)
                && self.prefix.begins(key.to_bytes())
                && !record.has_lapsed(self.policy, self.now)
        };
        let listed = self.store.list_contents(&Pick {
            wanted: &wanted,
            addresses: None,
            rank: &|record| {
                self.ranked(match self.question.order() {
                    ListOrder::Attempts => record.attempts.into(),
                    ListOrder::First => record.first_seen.as_millis(),
                    ListOrder::Passes => record.passes.into(),
                    ListOrder::Until => record.lapses(self.policy).as_millis(),
                    _ => record.last_seen.as_seconds().into(),
                })
            },
            limit: self.question.rows(),
        });
        let rows = listed.rows.iter().map(|row| self.fingerprint_row(row));
        (ListRows::Fingerprints(rows.collect()), listed.matched)
    }

    fn fingerprint_row(&self, row: &ListedRecord<Fingerprint, ContentRecord>) -> FingerprintRow {
        let record = &row.record;
        let standing = match record.standing(self.policy, self.now) {
            ContentStanding::Early { .. } => "early",
            ContentStanding::InWindow { .. } => "in-window",
            ContentStanding::Passed => "passed",
            ContentStanding::Spent => "spent",
            ContentStanding::Lapsed => "lapsed",
        };
        FingerprintRow {
            fingerprint: hex(row.key.to_bytes()),
            standing: standing.to_owned(),
            first: seconds(record.first_seen),
            last: second(record.last_seen),
            attempts: record.attempts.into(),
            passes: record.passes.into(),
            opens: seconds(record.first_seen.after(self.policy.content.delay)),
            until: seconds(record.lapses(self.policy)),
            passed: happened(record.passed),
        }
    }

    /// What cannot be shown, and what would keep it.
    fn notes(&self) -> Vec<String> {
        let is_kept = self.store.keeps_addresses();
        let question = self.question;
        let mut notes = Vec::new();
        match question.what {
            ListTable::Pending | ListTable::Trusted if !is_kept && self.asks_for_addresses() => {
                notes.push(format!(
                    "nothing can be found by address: {} are remembered by hashes alone; ask `greygate \
                     why ADDRESS SENDER RECIPIENT` for one mail, or have addresses kept from now on by \
                     [store] keep_addresses",
                    question.what.as_str()
                ));
            }
            ListTable::Pending | ListTable::Trusted if !is_kept => notes.push(
                "client, sender and recipient are not kept; [store] keep_addresses would keep them \
                 from now on"
                    .to_owned(),
            ),
            ListTable::Clients if !is_kept => match question.network {
                None => notes.push(
                    "an address is known of those who are sentenced alone; --network asks for each \
                     address of an IPv4 network, and [store] keep_addresses would keep them from now \
                     on"
                        .to_owned(),
                ),
                Some(IpNet::V4(network)) if network.prefix_len() >= ASKED_ONE_BY_ONE => {}
                Some(_) => notes.push(
                    "of an IPv6 network, and of one wider than a /16, only those are found who are \
                     sentenced; [store] keep_addresses would find all from now on"
                        .to_owned(),
                ),
            },
            _ => {}
        }
        notes
    }

    fn asks_for_addresses(&self) -> bool {
        let question = self.question;
        question.network.is_some() || question.sender.is_some() || question.recipient.is_some()
    }

    fn is_addressed(&self, kept: &Kept) -> bool {
        let question = self.question;
        let network = question.network.map(|network| network.trunc());
        network.is_none_or(|network| network.contains(&kept.client()))
            && is_path(question.sender.as_deref(), kept.sender())
            && is_path(question.recipient.as_deref(), kept.recipient())
    }

    fn is_of_time(&self, at: Timestamp) -> bool {
        let age = self.now.since(at).as_secs();
        self.question.older.is_none_or(|least| age >= least)
            && self.question.newer.is_none_or(|most| age <= most)
    }

    /// The larger, the better.
    fn ranked(&self, value: u64) -> u64 {
        if self.question.reverse {
            u64::MAX - value
        } else {
            value
        }
    }
}

/// The beginning of a fingerprint.
struct Prefix {
    bits: u128,
    mask: u128,
}

impl Prefix {
    /// Of these hexadecimal digits, 32 at most.
    fn of(digits: &str) -> Self {
        let known = 4 * u32::try_from(digits.len()).unwrap_or(u32::MAX);
        let left = u128::BITS.saturating_sub(known);
        let value = u128::from_str_radix(digits, 16).unwrap_or(0);
        Self {
            bits: value.checked_shl(left).unwrap_or(0),
            mask: u128::MAX.checked_shl(left).unwrap_or(0),
        }
    }

    fn begins(&self, bytes: [u8; 16]) -> bool {
        u128::from_be_bytes(bytes) & self.mask == self.bits
    }
}

/// A fingerprint in hexadecimal digits.
pub(in crate::admin) fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// Whether a path is the one that is wanted, or of the wanted `@domain`, in any case.
fn is_path(wanted: Option<&str>, path: &[u8]) -> bool {
    let Some(wanted) = wanted.map(str::as_bytes) else {
        return true;
    };
    if wanted.starts_with(b"@") {
        let end = path.len().checked_sub(wanted.len());
        return end.is_some_and(|end| path[end..].eq_ignore_ascii_case(wanted));
    }
    path.eq_ignore_ascii_case(wanted)
}

fn reaches(count: u16, least: Option<u64>) -> bool {
    least.is_none_or(|least| u64::from(count) >= least)
}

fn latest_strike(record: &ClientRecord) -> Option<Strike> {
    record.latest.iter().flatten().copied().max()
}

/// The latest strike or AUTH.
fn last_of(record: &ClientRecord) -> Second {
    let struck = latest_strike(record).map_or(Second::NEVER, |strike| strike.at);
    struck.max(record.authenticated)
}

/// An address without its prefix, a network with it.
fn client(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// A path that need not be UTF-8.
fn path(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn seconds(time: Timestamp) -> u64 {
    time.as_millis() / 1_000
}

fn second(at: Second) -> u64 {
    seconds(at.into())
}

fn happened(at: Second) -> Option<u64> {
    (at != Second::NEVER).then(|| second(at))
}

/// Bits of the widest IPv4 network whose addresses the store asks for one by one.
const ASKED_ONE_BY_ONE: u8 = 16;

/// Bytes of the rows of an answer at most: sixteen clients that do not read theirs hold as many.
const LARGEST: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_of_any_number_of_digits() {
        let key: [u8; 16] = std::array::from_fn(|at| at.to_le_bytes()[0] | 0xa0);
        let digits = hex(key);
        for length in 0..=32 {
            assert!(Prefix::of(&digits[..length]).begins(key), "{length}");
            assert!(Prefix::of(&digits[..length].to_uppercase()).begins(key));
        }
        for other in ["b", "a1", "a0a2", "a0a1a2a3a4a5a6a7a8a9aaabacadaeae"] {
            assert!(!Prefix::of(other).begins(key), "{other}");
        }
    }

    #[test]
    fn path_is_wanted_whole_or_by_its_domain() {
        assert!(is_path(None, b"s@a.example"));
        assert!(is_path(Some("S@A.example"), b"s@a.example"));
        assert!(is_path(Some("@a.example"), b"s@a.example"));
        assert!(is_path(Some(""), b""), "the null reverse-path");
        for other in [
            "",
            "a.example",
            "@example",
            "t@a.example",
            "longer.s@a.example",
        ] {
            assert!(!is_path(Some(other), b"s@a.example"), "{other}");
        }
    }

    #[test]
    fn answer_is_cut_where_it_would_be_too_large() {
        let row = PendingRow {
            sender: Some("\u{1}".repeat(320)),
            ..PendingRow::default()
        };
        let mut listing = Listing {
            matched: 20_000,
            more: 10_000,
            rows: ListRows::Pending(vec![row; 10_000]),
            ..Listing::default()
        };
        listing.fit(LARGEST);
        let json = serde_json::to_vec(&listing).expect("plain data");
        assert!(json.len() < LARGEST + 1_000, "{}", json.len());
        let shown = listing.rows.len() as u64;
        assert!((3_000..10_000).contains(&shown), "{shown}");
        assert_eq!(listing.more, 20_000 - shown);
        assert_eq!(listing.notes.len(), 1);
    }
}

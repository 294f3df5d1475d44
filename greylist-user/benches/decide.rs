//! What one attempt costs: the decision alone, its whole way through a store that holds 100,000
//! tuples, and what the end of a message that was read adds.
//!
//! `cargo bench -p greylist-user`. One thread, no wire, no disk. Compare medians of two versions in
//! alternating runs on a quiet machine.

use std::cell::Cell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use divan::Bencher;
use greygate::policy::{
    self, Attempt, Circumstances, Evidence, Judge as _, List, Listed, MessageHasher, Origin,
    Policy, ReadReason, Record, ServerMark, Source, Spf, Timestamp, Verdict,
};
use greygate::store::{Metrics, Settings, Store};
use tempfile::TempDir;
use tokio::sync::mpsc;

fn main() {
    divan::main();
}

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const TUPLES: u32 = 100_000;

const ATTEMPT: Attempt<'static> = Attempt {
    client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    client_name: b"mail.sender.example",
    helo: b"mail.sender.example",
    reverse_path: b"s@sender.example",
    recipient: b"r@here.example",
    announced_size: 5_000,
    connected: T0,
    server: ServerMark::numbered(1),
    authenticated: false,
    origin: Origin::ThisHost,
    evidence: Evidence {
        blocklist: None,
        score: None,
        spf: Spf::Unknown,
    },
};

/// `ATTEMPT` as it is decided `seconds` after the first, of which `prior` is remembered.
fn decide(prior: Option<&Record>, seconds: u64, policy: &Policy) -> policy::Decision {
    decide_amid(Circumstances::default(), prior, seconds, policy)
}

fn decide_amid(
    circumstances: Circumstances,
    prior: Option<&Record>,
    seconds: u64,
    policy: &Policy,
) -> policy::Decision {
    policy::decide(
        black_box(policy),
        black_box(prior),
        black_box(&ATTEMPT),
        black_box(circumstances),
        black_box(T0.after(Duration::from_secs(seconds))),
    )
}

/// Whom a list does not name.
mod lists {
    use super::{ATTEMPT, Bencher, Ipv4Addr, List, Listed, Source, black_box};

    /// Asking a list of so many networks and as many names of whom it does not name.
    #[divan::bench(args = [10, 100_000])]
    fn asked(bencher: Bencher<'_, '_>, entries: u32) {
        let source = || Source::File {
            file: std::path::Path::new("bench.list").into(),
            line: 1,
        };
        let networks = (0..entries).map(|it| Ipv4Addr::from(0x0b00_0000 + it).to_string());
        let names = (0..entries).map(|it| format!(".h{it}.example.org"));
        let list = List::of(networks.chain(names).map(|text| Listed {
            entry: text.parse().expect("an entry"),
            source: source(),
        }));
        bencher.bench_local(|| black_box(&list).find(black_box(&ATTEMPT)).is_some());
    }
}

mod decision {
    use super::{Bencher, Circumstances, Policy, ReadReason, decide, decide_amid};

    #[divan::bench(sample_count = 1_000, sample_size = 1_000)]
    fn new(bencher: Bencher<'_, '_>) {
        let policy = Policy::default();
        bencher.bench_local(|| decide(None, 0, &policy));
    }

    #[divan::bench(sample_count = 1_000, sample_size = 1_000)]
    fn early(bencher: Bencher<'_, '_>) {
        after(bencher, &[], 60);
    }

    #[divan::bench(sample_count = 1_000, sample_size = 1_000)]
    fn rapid(bencher: Bencher<'_, '_>) {
        after(bencher, &[2, 4], 6);
    }

    #[divan::bench(sample_count = 1_000, sample_size = 1_000)]
    fn in_window(bencher: Bencher<'_, '_>) {
        after(bencher, &[], 300);
    }

    #[divan::bench(sample_count = 1_000, sample_size = 1_000)]
    fn passed(bencher: Bencher<'_, '_>) {
        after(bencher, &[300], 600);
    }

    /// Where content alone decides.
    #[divan::bench(sample_count = 1_000, sample_size = 1_000)]
    fn read(bencher: Bencher<'_, '_>) {
        let policy = Policy::default();
        let first = decide(None, 0, &policy).next;
        let reads = Circumstances {
            reads: Some(ReadReason::Mode),
            ..Circumstances::default()
        };
        bencher.bench_local(|| decide_amid(reads, Some(&first), 300, &policy));
    }

    /// The attempt at `seconds`, those at `before` having been made.
    fn after(bencher: Bencher<'_, '_>, before: &[u64], seconds: u64) {
        let policy = Policy::default();
        let mut record = decide(None, 0, &policy).next;
        for &at in before {
            record = decide(Some(&record), at, &policy).next;
        }
        bencher.bench_local(|| decide(Some(&record), seconds, &policy));
    }
}

mod store {
    use super::{Attempt, Bencher, Duration, Full, T0, Verdict, policy};

    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn new(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        measure(bencher, &full, T0, "new", |number| {
            full.attempt(number + super::TUPLES)
        });
    }

    /// The same where there is no room: each leaves a trace.
    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn shed(bencher: Bencher<'_, '_>) {
        let full = Full::with_room_for(1);
        measure(bencher, &full, T0, "new", |number| {
            full.attempt(number + super::TUPLES)
        });
    }

    /// The retries of those, each known by its trace.
    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn traced(bencher: Bencher<'_, '_>) {
        let full = Full::with_room_for(1);
        let later = T0.after(Duration::from_mins(5));
        measure(bencher, &full, later, "waited", |number| {
            full.attempt(number)
        });
    }

    /// The first attempts of clients whose HELO argument is not their own name: each is looked for
    /// among those of the last seconds.
    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn stranger(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        measure(bencher, &full, T0, "new", |number| Attempt {
            client_name: b"mail.isp.example",
            helo: full.helos[usize::try_from(number).expect("a small number")].as_bytes(),
            ..full.attempt(number + super::TUPLES)
        });
    }

    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn early(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        let minute = T0.after(Duration::from_mins(1));
        measure(bencher, &full, minute, "early", |number| {
            full.attempt(number)
        });
    }

    /// The retries of pools, each from another network than the first attempt.
    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn roaming(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        let later = T0.after(Duration::from_mins(5));
        measure(bencher, &full, later, "roaming", |number| {
            full.roaming(number)
        });
    }

    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn in_window(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        let later = T0.after(Duration::from_mins(5));
        measure(bencher, &full, later, "waited", |number| {
            full.attempt(number)
        });
    }

    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn passed(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        full.try_all(T0.after(Duration::from_mins(5)));
        let later = T0.after(Duration::from_mins(10));
        measure(bencher, &full, later, "passed", |number| {
            full.attempt(number)
        });
    }

    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn trusted(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        // Each sender passes once an hour until it is trusted.
        let trusted_after = u64::from(policy::Policy::default().trust_after);
        for hour in 0..trusted_after {
            full.try_all(T0.after(Duration::from_mins(5 + 60 * hour)));
        }
        let later = T0.after(Duration::from_hours(trusted_after));
        measure(bencher, &full, later, "trusted", |number| {
            full.attempt(number)
        });
    }

    /// One attempt after the other of those that `attempt` makes of a number, each judged for the
    /// reason that was meant.
    fn measure<'a>(
        bencher: Bencher<'_, '_>,
        full: &Full,
        now: policy::Timestamp,
        reason: &str,
        attempt: impl Fn(u32) -> Attempt<'a>,
    ) {
        let judged = |verdict: Verdict| assert_eq!(verdict.reason(), reason);
        bencher
            .with_inputs(|| attempt(full.next()))
            .bench_local_values(|attempt| judged(full.judge(&attempt, now)));
    }
}

/// The end of a message of a pool, its body having been hashed as it came: what is left is the
/// fingerprint of the recipient, and what is remembered of it.
mod content {
    use super::{Bencher, Duration, Full, T0};

    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn new(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        let now = T0.after(Duration::from_mins(5));
        measure(bencher, &full, |number| {
            let judgement = full.read(number, now);
            assert_eq!(judgement.reason(), "content-new");
        });
    }

    #[divan::bench(sample_count = 100, sample_size = 1_000)]
    fn passes(bencher: Bencher<'_, '_>) {
        let full = Full::new();
        for number in 0..super::TUPLES {
            full.read(number, T0.after(Duration::from_mins(5)));
        }
        let now = T0.after(Duration::from_mins(10));
        measure(bencher, &full, |number| {
            assert_eq!(full.read(number, now).reason(), "content");
            full.pass(number, now);
        });
    }

    fn measure(bencher: Bencher<'_, '_>, full: &Full, end: impl Fn(u32)) {
        bencher.with_inputs(|| full.next()).bench_local_values(end);
    }
}

/// A store that has deferred the first attempts of all senders.
struct Full {
    store: Store,
    senders: Vec<String>,
    helos: Vec<String>,
    message: MessageHasher,
    number: Cell<u32>,
    _directory: TempDir,
}

impl Full {
    fn new() -> Self {
        Self::with_room_for(1_000_000)
    }

    fn with_room_for(capacity: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let settings = Settings {
            directory: directory.path().join("store"),
            seed_file: directory.path().join("seed"),
            capacity,
            ..Settings::default()
        };
        let (to_kernel, _) = mpsc::channel(1);
        let policy = Arc::new(ArcSwap::from_pointee(Policy::default()));
        let metrics = Arc::new(Metrics::default());
        let (store, _) =
            Store::open(settings, policy, to_kernel, metrics, T0).expect("it is writable");
        let senders = (0..2 * TUPLES).map(|number| format!("s{number}@sender.example"));
        let mut message = store.message_hasher();
        message.header(b"Message-ID", b"<1@sender.example>");
        message.body(&[b'x'; 4_096]);
        let full = Self {
            store,
            message,
            senders: senders.collect(),
            helos: (0..TUPLES)
                .map(|number| format!("mx{number}.bank.example"))
                .collect(),
            number: Cell::new(0),
            _directory: directory,
        };
        full.try_all(T0);
        full
    }

    /// Has every sender of the store try at `now`.
    fn try_all(&self, now: Timestamp) {
        for number in 0..TUPLES {
            self.judge(&self.attempt(number), now);
        }
    }

    fn judge(&self, attempt: &Attempt<'_>, now: Timestamp) -> Verdict {
        self.store.judge(attempt, now).verdict
    }

    /// The attempt of sender `number`, from a network that it shares with few.
    fn attempt(&self, number: u32) -> Attempt<'_> {
        let number = number % (2 * TUPLES);
        let sender = usize::try_from(number).expect("a small number");
        Attempt {
            client: Ipv4Addr::from(0x0b00_0000 + number * 64).into(),
            reverse_path: self.senders[sender].as_bytes(),
            ..ATTEMPT
        }
    }

    /// The same from another network.
    fn roaming(&self, number: u32) -> Attempt<'_> {
        Attempt {
            client: Ipv4Addr::from(0x2d00_0000 + number * 64).into(),
            ..self.attempt(number)
        }
    }

    fn read(&self, number: u32, now: Timestamp) -> Verdict {
        let attempt = self.roaming(number);
        let judgement = self.store.judge_content(&attempt, &self.message, now);
        judgement.verdict
    }

    fn pass(&self, number: u32, now: Timestamp) {
        let attempt = self.roaming(number);
        self.store.note_content_pass(&attempt, &self.message, now);
    }

    /// Numbers from 0 on, in an order that no cache foresees, each once.
    fn next(&self) -> u32 {
        let number = self.number.get();
        self.number.set(number + 1);
        // Odd and coprime with the number of tuples.
        u32::try_from(u64::from(number) * 61_803 % u64::from(TUPLES)).expect("less than TUPLES")
    }
}

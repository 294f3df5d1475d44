//! Where something may have been missed: this host hears all that every host is told, and tells all that it
//! knows and the engine does not.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use redis::{RedisError, cmd};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::policy::Timestamp;
use crate::store::Shared;

use super::clerk::{Clerk, Parted};
use super::engine::{self, Engine};
use super::layout::Subject;
use super::queue::Untold;
use super::telling::{BATCH, Told, untold, untold_order};

/// A name, and what stands there.
type Field = (Vec<u8>, Vec<u8>);

/// What the engine holds of what every host is told, as far as need be to see what differs.
#[derive(Debug, Default)]
struct Held {
    values: HashSet<u64>,
    hasher: RandomState,
}

impl Held {
    /// Notes a value, unless there are more than any site has: then more is told than need be.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        if self.values.len() < MOST_HELD {
            self.values.insert(self.hasher.hash_one((name, value)));
        }
    }

    fn has(&self, untold: &Untold) -> bool {
        let (name, value) = (untold.of.name(), &untold.value.bytes);
        let value = self.hasher.hash_one((&name[..], &value[..]));
        self.values.contains(&value)
    }
}

impl Clerk {
    /// Compares all with the engine whenever something may have been missed, for ever.
    pub(super) async fn compare_when_owed(&self, engine: &Engine) -> Parted {
        loop {
            let owed = self.queue.borrow_mut().take_missed();
            let Some(since) = owed else {
                self.owes.notified().await;
                continue;
            };
            self.comparing.set(Some(since));
            self.board.change(|it| it.resyncing = true);
            self.metrics.resyncs.inc();
            match self.compare(engine, since).await {
                Ok(Told::All) => {}
                // Once it takes everything.
                Ok(Told::Some | Told::Nothing) => {
                    sleep(AGAIN).await;
                    self.owe(since);
                }
                Err(parted) => return parted,
            }
            self.comparing.set(None);
            self.board.change(|it| it.resyncing = false);
        }
    }

    /// Of what others ask for, what was used from `since` on is told.
    async fn compare(&self, engine: &Engine, since: Timestamp) -> Result<Told, Parted> {
        let held = self.hear_all(engine).await?;
        let (sender, mut receiver) = mpsc::channel::<Vec<Untold>>(CHUNKS);
        let store = Arc::clone(&self.store);
        let lists = Arc::clone(&self.lists);
        let policy = self.policy.load_full();
        let now = self.clock.now();
        // Walking takes a while, and sessions shall not wait for it.
        let walker = thread::Builder::new().name("cluster-walk".to_owned());
        let walk = walker.spawn(move || {
            let mut chunk = Vec::with_capacity(BATCH);
            let mut is_gone = false;
            let mut take = |untold: Option<Untold>| {
                chunk.extend(untold.filter(|it| !is_gone && !held.has(it)));
                if chunk.len() == BATCH {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(BATCH));
                    is_gone = sender.blocking_send(full).is_err();
                }
            };
            for order in lists.all() {
                take(Some(untold_order(&order, now)));
            }
            let mut take = |shared: Shared| take(untold(&shared, false, &policy, now));
            store.for_each_told(&mut take);
            store.for_each_asked(since, now, &mut take);
            // Whoever waited may have gone.
            let _gone = sender.blocking_send(chunk);
        });
        let walk = walk.map_err(|error| Parted::Broken(error.to_string()))?;
        while let Some(chunk) = receiver.recv().await {
            let has_some = !chunk.is_empty();
            let told = self.tell(engine, chunk, false).await?;
            if told != Told::All {
                return Ok(told);
            }
            if has_some {
                self.note_taken();
            }
        }
        // It has nothing left to do, and what it had not reached would count as told.
        let panicked = |_| Parted::Broken("a comparison panicked, which is a bug".to_owned());
        walk.join().map_err(panicked)?;
        Ok(Told::All)
    }

    /// Takes in all that every host is told.
    async fn hear_all(&self, engine: &Engine) -> Result<Held, Parted> {
        let mut held = Held::default();
        let mut cursor = b"0".to_vec();
        loop {
            let mut command = cmd("HSCAN");
            command.arg(&self.names.told).arg(&cursor);
            command.arg("COUNT").arg(BATCH);
            let answer = timeout(SCANNING, engine.bulk.say(&command)).await;
            let answer = answer.map_err(|_| Parted::Broken("it does not answer".to_owned()))?;
            let scanned = answer.and_then(|it| Ok(redis::from_redis_value(it)?));
            let (next, fields): (Vec<u8>, Vec<Field>) =
                scanned.map_err(|error: RedisError| engine::parted(&error))?;
            for (field, value) in fields {
                if let Some(of) = Subject::of_name(&field) {
                    held.note(&field, &value);
                    self.absorb(&of, &value);
                }
            }
            if next == b"0" {
                return Ok(held);
            }
            cursor = next;
        }
    }
}

/// Batches that wait while all is told.
const CHUNKS: usize = 4;
/// Values of what every host is told: some 64 MiB.
const MOST_HELD: usize = 1 << 22;
/// Before the next try where the engine does not take everything.
const AGAIN: Duration = Duration::from_secs(5);
/// For a part of what every host is told.
const SCANNING: Duration = Duration::from_secs(5);

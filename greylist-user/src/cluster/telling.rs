//! What this host tells: each change, in batches, and all of it where something may have been missed.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, Value, cmd};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::policy::Timestamp;
use crate::store::{Shared, SharedKey};

use super::clerk::{COLLECTING, Clerk, Parted};
use super::engine::{self, Engine};
use super::layout;
use super::queue::Untold;
use super::script::{NEWS_KEPT, Scripts};

/// A name, and what stands there.
type Field = (Vec<u8>, Vec<u8>);

/// What was heard since changes were collected last: it is no news to the engine.
#[derive(Debug, Default)]
pub(super) struct Heard(HashMap<SharedKey, Vec<u8>>);

impl Heard {
    pub(super) fn note(&mut self, key: SharedKey, value: &[u8]) {
        self.0.insert(key, value.to_vec());
    }

    /// Whether `untold` is what was heard, unchanged.
    fn is_echo(&self, untold: &Untold) -> bool {
        let heard = self.0.get(&untold.of);
        heard.is_some_and(|value| *value == untold.value.bytes)
    }
}

impl Clerk {
    /// Takes what has changed into the queue.
    pub(super) fn collect_changes(&self) {
        let now = self.clock.now();
        let policy = self.policy.load();
        let heard = self.heard.take();
        let mut queue = self.queue.borrow_mut();
        let has_overflowed = self.store.take_changes(|shared| {
            if let Some(untold) = untold(&shared, &policy, now)
                && !heard.is_echo(&untold)
                && !queue.push(untold, now)
            {
                self.metrics.queue_overflow.inc();
            }
        });
        if has_overflowed {
            // When the first of it was, nobody noted: not longer ago than the lists were emptied.
            let before = now.as_millis().saturating_sub(LISTS_LAST);
            queue.miss(Timestamp::from_millis(before));
        }
        let waiting = queue.len() as u64;
        self.metrics
            .queue
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let lag = self.answered.get().map(|it| it.elapsed().as_millis());
        let lag = lag.map(|it| u64::try_from(it).unwrap_or(u64::MAX));
        let shown = lag.and_then(|it| i64::try_from(it).ok());
        self.metrics.lag_milliseconds.set(shown.unwrap_or(0));
        self.board.change(|it| {
            it.queued = waiting;
            it.lag_milliseconds = lag;
        });
    }

    /// Tells what is in the queue, for ever.
    pub(super) async fn tell_on(&self, engine: &Engine) -> Parted {
        loop {
            if let Err(parted) = self.tell_all(engine).await {
                return parted;
            }
            sleep(COLLECTING).await;
        }
    }

    /// Empties the queue.
    pub(super) async fn tell_all(&self, engine: &Engine) -> Result<(), Parted> {
        loop {
            let batch = self.queue.borrow_mut().take(BATCH);
            if batch.is_empty() {
                return Ok(());
            }
            self.tell(engine, batch).await?;
        }
    }

    /// Tells a batch. What cannot be told goes back to the end of the queue.
    async fn tell(&self, engine: &Engine, batch: Vec<Untold>) -> Result<(), Parted> {
        let now = self.clock.now();
        let commands: Vec<_> = batch.iter().map(|it| self.tells(it, now)).collect();
        let mut answers = engine.bulk.say_all(&commands).await;
        if answers.iter().any(lacks_script) {
            for script in Scripts::load() {
                let loaded = engine.bulk.say(&script).await;
                loaded.map_err(|error| Parted::Broken(error.to_string()))?;
            }
            answers = engine.bulk.say_all(&commands).await;
        }
        let (mut trouble, mut news) = (None, Vec::new());
        for (untold, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    self.metrics.told.inc();
                    if let Some((value, is_news)) = read_correction(answer) {
                        self.metrics.corrected.inc();
                        self.absorb(untold.of, &value);
                        if is_news {
                            news.push(self.says(untold.of, &value));
                        }
                    }
                }
                Err(error) if engine::is_foreign(&error) => self.complain_of(untold.of),
                Err(error) => {
                    self.metrics.untold.inc();
                    self.queue.borrow_mut().push(untold, now);
                    trouble = Some(error);
                }
            }
        }
        // Whoever has the record lacks what this host knew of it.
        for said in engine.bulk.say_all(&news).await {
            trouble = said.err().or(trouble);
        }
        match trouble {
            None => {
                self.has_told_of_refusal.set(false);
                Ok(())
            }
            Some(error) => self.bear(&error, now).await,
        }
    }

    /// Waits where the engine takes nothing for now; parts from one that is gone.
    async fn bear(&self, error: &RedisError, now: Timestamp) -> Result<(), Parted> {
        if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
            return Err(Parted::Broken(error.to_string()));
        }
        if !self.has_told_of_refusal.replace(true) {
            let refuses = engine::is_refusal(error);
            tracing::warn!(%error, refuses, "cluster-untold");
        }
        // A server may be giving way to another, which need not know all that was told to it.
        let before = now.as_millis().saturating_sub(LISTS_LAST);
        self.owe(Timestamp::from_millis(before));
        sleep(BEARING).await;
        Ok(())
    }

    fn tells(&self, untold: &Untold, now: Timestamp) -> Cmd {
        let key = layout::key(untold.of);
        if untold.of.is_told() {
            let now = now.as_millis();
            self.scripts
                .tell(&self.names, &key, &untold.value, now, &self.instance)
        } else {
            let name = self.names.record(&key);
            self.scripts.share(&name, &untold.value)
        }
    }

    /// Says to every host what has become of a record that two of them changed.
    fn says(&self, key: SharedKey, value: &[u8]) -> Cmd {
        let mut command = cmd("XADD");
        command
            .arg(&self.names.news)
            .arg("MAXLEN")
            .arg("~")
            .arg(NEWS_KEPT)
            .arg("*");
        command.arg("f").arg(layout::key(key)).arg("v").arg(value);
        command.arg("n").arg(&self.instance);
        command
    }

    /// Compares all with the engine whenever something may have been missed, for ever.
    pub(super) async fn compare_when_owed(&self, engine: &Engine) -> Parted {
        // Whatever was told while this host was not there.
        let mut is_first = true;
        loop {
            let owed = self.queue.borrow_mut().take_missed();
            let since = match owed {
                Some(since) => since,
                None if is_first => self.clock.now(),
                None => {
                    sleep(COLLECTING).await;
                    continue;
                }
            };
            is_first = false;
            self.metrics.resyncs.inc();
            self.board.change(|it| it.resyncing = true);
            let compared = self.compare(engine, since).await;
            self.board.change(|it| it.resyncing = false);
            if let Err(parted) = compared {
                self.owe(since);
                return parted;
            }
        }
    }

    /// Hears all that every host is told, and tells all that this one knows: of what others ask for, what was
    /// used from `since` on.
    async fn compare(&self, engine: &Engine, since: Timestamp) -> Result<(), Parted> {
        self.hear_all(engine).await?;
        let (sender, mut receiver) = mpsc::channel(CHUNKS);
        let store = std::sync::Arc::clone(&self.store);
        let policy = self.policy.load_full();
        let now = self.clock.now();
        // Walking takes a while, and sessions shall not wait for it.
        let walker = thread::Builder::new().name("cluster-walk".to_owned());
        let walk = walker.spawn(move || {
            let mut chunk = Vec::with_capacity(BATCH);
            let mut is_gone = false;
            let mut take = |shared: Shared| {
                if is_gone {
                    return;
                }
                chunk.extend(untold(&shared, &policy, now));
                if chunk.len() == BATCH {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(BATCH));
                    is_gone = sender.blocking_send(full).is_err();
                }
            };
            store.for_each_told(&mut take);
            store.for_each_asked(since, &mut take);
            if !chunk.is_empty() {
                let _ = sender.blocking_send(chunk);
            }
        });
        walk.map_err(|error| Parted::Broken(error.to_string()))?;
        while let Some(chunk) = receiver.recv().await {
            self.tell(engine, chunk).await?;
        }
        Ok(())
    }

    /// Takes in all that every host is told.
    async fn hear_all(&self, engine: &Engine) -> Result<(), Parted> {
        let mut cursor = b"0".to_vec();
        loop {
            let mut command = cmd("HSCAN");
            command.arg(&self.names.told).arg(&cursor);
            command.arg("COUNT").arg(BATCH);
            let answer = timeout(BEARING, engine.bulk.say(&command)).await;
            let answer = answer.map_err(|_| Parted::Broken("it does not answer".to_owned()))?;
            let scanned = answer.and_then(|it| Ok(redis::from_redis_value(it)?));
            let (next, fields): (Vec<u8>, Vec<Field>) =
                scanned.map_err(|error: RedisError| Parted::Broken(error.to_string()))?;
            for (field, value) in fields {
                if let Some(key) = layout::read_key(&field) {
                    self.absorb(key, &value);
                }
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

fn untold(shared: &Shared, policy: &crate::policy::Policy, now: Timestamp) -> Option<Untold> {
    Some(Untold {
        of: shared.key()?,
        value: layout::value(shared, policy, now)?,
    })
}

/// What a record has become, if that is not what was told, and whether it is news to everybody.
fn read_correction(answer: Value) -> Option<(Vec<u8>, bool)> {
    let (value, is_news): (Vec<u8>, i64) = redis::from_redis_value(answer).ok()?;
    Some((value, is_news != 0))
}

fn lacks_script(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if engine::lacks_script(error))
}

/// Records told at once.
const BATCH: usize = 256;
/// Batches that wait while all is told.
const CHUNKS: usize = 4;
/// Before the next try where the engine takes nothing.
const BEARING: Duration = Duration::from_secs(1);
/// Milliseconds that lists of changes may have been filling.
const LISTS_LAST: u64 = 60_000;

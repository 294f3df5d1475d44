//! What this host tells: each change, in batches, until the engine has it.
//!
//! What cannot be told goes back to the end of the queue, so that what can be is not held up by it: of a
//! cluster one server may be giving way to its replica while the others are well.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, RedisError, RedisResult, Value, cmd};
use tokio::time::sleep;

use crate::policy::{ListOrder, Policy, Timestamp};
use crate::store::Shared;

use super::clerk::{Clerk, Parted};
use super::engine::{self, Engine, Link};
use super::layout::{self, Subject};
use super::queue::{Queue, Untold};
use super::script::{NEWS_KEPT, Scripts};

/// What was heard since changes were collected last: it is no news to the engine.
#[derive(Debug, Default)]
pub(super) struct Heard(HashMap<Subject, Vec<u8>>);

impl Heard {
    pub(super) fn note(&mut self, of: Subject, value: &[u8]) {
        self.0.insert(of, value.to_vec());
    }

    /// Whether `untold` is what was heard, unchanged.
    fn is_echo(&self, untold: &Untold) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let heard = self.0.get(&untold.of);
        heard.is_some_and(|value| *value == untold.value.bytes)
    }
}

/// What came of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The engine has all of it.
    All,
    /// It took some, and not the rest.
    Some,
    /// It took nothing.
    Nothing,
}

impl Clerk {
    /// Takes what has changed into the queue.
    pub(super) fn collect_changes(&self) {
        let now = self.clock.now();
        let policy = self.policy.load();
        let heard = self.heard.take();
        let mut queue = self.queue.borrow_mut();
        // When what finds no room was changed, nobody noted: not longer ago than the lists were emptied.
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(LISTS_LAST));
        let has_overflowed = self.store.take_changes(|shared, is_pardon| {
            if let Some(untold) = untold(&shared, is_pardon, &policy, now)
                && !heard.is_echo(&untold)
                && !queue.push(untold, before)
            {
                self.metrics.queue_overflow.inc();
            }
        });
        for order in self.lists.take_changes() {
            if !queue.push(untold_order(&order, now), before) {
                self.metrics.queue_overflow.inc();
            }
        }
        if has_overflowed {
            queue.miss(before);
        }
        let waiting = queue.len() as u64;
        if waiting > 0 {
            self.filled.notify_one();
        }
        if queue.has_missed() {
            self.owes.notify_one();
        }
        let shown = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.metrics.queue.set(shown);
        let lag = self.answered.get().map(|it| it.elapsed());
        let shown = lag.unwrap_or_default().as_secs_f64();
        self.metrics.lag_seconds.set(shown);
        let lag = lag.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        self.board.change(|it| {
            it.queued = waiting;
            it.lag_milliseconds = lag;
        });
    }

    /// Tells what is in the queue, for ever.
    pub(super) async fn tell_on(&self, engine: &Engine) -> Parted {
        loop {
            match self.tell_all(engine).await {
                Ok(Told::All) => self.filled.notified().await,
                Ok(Told::Some | Told::Nothing) => sleep(BEARING).await,
                Err(parted) => return parted,
            }
        }
    }

    /// Tells everything that is in the queue, each record once.
    pub(super) async fn tell_all(&self, engine: &Engine) -> Result<Told, Parted> {
        let now = self.clock.now();
        self.is_telling.set(true);
        let told = self.tell_queue(engine).await;
        // Whoever gives this up leaves it set: what was in hand is back in the queue, and told next time.
        self.is_telling.set(false);
        if matches!(told, Ok(Told::All)) {
            self.note_told(now);
        }
        told
    }

    async fn tell_queue(&self, engine: &Engine) -> Result<Told, Parted> {
        let mut left = self.queue.borrow().len();
        let has_some = left > 0;
        let mut told = Told::All;
        while left > 0 {
            let batch = self.queue.borrow_mut().take(left.min(BATCH));
            if batch.is_empty() {
                break;
            }
            left -= batch.len();
            match self.tell(engine, batch, true).await? {
                Told::All => {}
                Told::Some => told = Told::Some,
                // The rest would fare no better.
                Told::Nothing => return Ok(Told::Nothing),
            }
        }
        if told == Told::All && has_some {
            self.note_taken();
        }
        Ok(told)
    }

    /// Notes that the engine took all that it was just told.
    pub(super) fn note_taken(&self) {
        if let Some(since) = self.trouble.take() {
            self.has_told_of_refusal.set(false);
            self.board.change(|it| it.untold = None);
            // Another server may have taken the place of one that knew more.
            let before = since.as_millis().saturating_sub(LISTS_LAST);
            self.owe(Timestamp::from_millis(before));
        }
    }

    /// Tells a batch. What cannot be told goes back to the queue, if that `is_queued`.
    pub(super) async fn tell(
        &self,
        engine: &Engine,
        batch: Vec<Untold>,
        is_queued: bool,
    ) -> Result<Told, Parted> {
        let now = self.clock.now();
        let mut hand = InHand {
            queue: &self.queue,
            batch,
            is_queued,
        };
        let count = hand.batch.len();
        let command = |index: usize| self.tells(&hand.batch[index], now);
        let answers = say_with_scripts(&engine.bulk, count, command).await;
        // From here to the next wait nothing is lost.
        let batch = std::mem::take(&mut hand.batch);
        let (mut says, mut took, mut trouble) = (Vec::new(), false, None);
        let mut is_ousted = false;
        for (mut untold, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    took = true;
                    self.metrics.told.inc();
                    if let Some((value, is_news)) = read_correction(answer) {
                        self.metrics.corrected.inc();
                        self.absorb(&untold.of, &value);
                        untold.value.bytes = value;
                        untold.is_news |= is_news;
                    }
                    if untold.is_news {
                        says.push(self.says(&untold));
                        hand.batch.push(untold);
                    }
                }
                // A stranger's key in the place of all that every host is told, not one of its fields.
                Err(error) if untold.of.is_told() && engine::is_of_another_type(&error) => {
                    hand.put_back(untold);
                    is_ousted = true;
                }
                Err(error) if engine::is_foreign(&error) => self.complain_of(&untold.of),
                Err(error) => {
                    self.metrics.untold.inc();
                    // It may have been told all the same, and then it will be no news to the engine.
                    untold.is_news |= is_uncertain(&error) && !untold.of.is_told();
                    hand.put_back(untold);
                    trouble = Some(error);
                }
            }
        }
        if is_ousted {
            return Err(Parted::Foreign);
        }
        if !says.is_empty() {
            // Whoever has the record lacks what this host knew of it.
            let said = engine.bulk.say_all(says).await;
            let batch = std::mem::take(&mut hand.batch);
            for (untold, said) in batch.into_iter().zip(said) {
                if let Err(error) = said {
                    hand.put_back(untold);
                    trouble = Some(error);
                }
            }
        }
        match trouble {
            None => Ok(Told::All),
            Some(error) => {
                self.bear(engine, &error, now)?;
                Ok(if took { Told::Some } else { Told::Nothing })
            }
        }
    }

    /// Notes that the engine does not take everything, once; parts from a server that is gone. Of a cluster
    /// the others may be well: whether it is to be parted from, the news say.
    fn bear(&self, engine: &Engine, error: &RedisError, now: Timestamp) -> Result<(), Parted> {
        if is_uncertain(error) && matches!(engine.bulk, Link::Single(_)) {
            return Err(Parted::Broken(error.to_string()));
        }
        if self.trouble.get().is_none() {
            self.trouble.set(Some(now));
        }
        self.board.change(|it| it.untold = Some(error.to_string()));
        if !self.has_told_of_refusal.replace(true) {
            let refuses = engine::is_refusal(error);
            let error = error.to_string();
            tracing::warn!(error, refuses, "cluster-untold");
        }
        Ok(())
    }

    fn tells(&self, untold: &Untold, now: Timestamp) -> Cmd {
        let name = untold.of.name();
        if untold.of.is_told() {
            let now = now.as_millis();
            self.scripts
                .tell(&self.names, &name, &untold.value, now, &self.instance)
        } else {
            let name = self.names.record(&name);
            self.scripts.share(&name, &untold.value)
        }
    }

    /// Says to every host what has become of a record.
    fn says(&self, untold: &Untold) -> Cmd {
        let mut command = cmd("XADD");
        command.arg(&self.names.news).arg("MAXLEN").arg("~");
        command.arg(NEWS_KEPT).arg("*");
        command.arg("f").arg(untold.of.name());
        command.arg("v").arg(&untold.value.bytes);
        command.arg("n").arg(&self.instance);
        command
    }
}

/// A record as it is told; [`None`] of what is not shared.
pub(super) fn untold(
    shared: &Shared,
    is_pardon: bool,
    policy: &Policy,
    now: Timestamp,
) -> Option<Untold> {
    let of = Subject::Record(shared.key()?);
    Some(Untold {
        // What every host is told of is news without a further word.
        is_news: is_pardon && !of.is_told(),
        of,
        value: layout::value(shared, policy, now)?,
    })
}

/// An order as it is told.
pub(super) fn untold_order(order: &ListOrder, now: Timestamp) -> Untold {
    Untold {
        of: Subject::of_order(order),
        is_news: false,
        value: layout::order_value(order, now),
    }
}

/// A batch that is being told. Whatever ends that, a connection that breaks elsewhere above all, what is left
/// goes back to the queue.
struct InHand<'a> {
    queue: &'a RefCell<Queue>,
    batch: Vec<Untold>,
    is_queued: bool,
}

impl InHand<'_> {
    fn put_back(&self, untold: Untold) {
        if self.is_queued {
            self.queue.borrow_mut().put_back(untold);
        }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        for mut untold in std::mem::take(&mut self.batch) {
            // It may have been told.
            untold.is_news |= !untold.of.is_told();
            self.put_back(untold);
        }
    }
}

/// Says so many at once, those that lack their script again.
async fn say_with_scripts(
    link: &Link,
    count: usize,
    command: impl Fn(usize) -> Cmd,
) -> Vec<RedisResult<Value>> {
    let mut answers = link.say_all((0..count).map(&command).collect()).await;
    if !answers.iter().any(lacks_script) {
        return answers;
    }
    for script in Scripts::load() {
        // What keeps it from being loaded keeps it from being run, and says so then.
        let _loaded = link.say(&script).await;
    }
    for (index, answer) in answers.iter_mut().enumerate() {
        if lacks_script(answer) {
            *answer = link.say(&command(index)).await;
        }
    }
    answers
}

/// What a record has become, if that is not what was told, and whether it is news to everybody.
fn read_correction(answer: Value) -> Option<(Vec<u8>, bool)> {
    let (value, is_news): (Vec<u8>, i64) = redis::from_redis_value(answer).ok()?;
    Some((value, is_news != 0))
}

fn lacks_script(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if engine::lacks_script(error))
}

/// Whether the engine may have done what it was told, and could not say so.
fn is_uncertain(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_timeout()
}

/// Records told at once.
pub(super) const BATCH: usize = 256;
/// Before the next try where the engine does not take everything.
pub(super) const BEARING: Duration = Duration::from_secs(1);
/// Milliseconds that lists of changes may have been filling.
const LISTS_LAST: u64 = 60_000;

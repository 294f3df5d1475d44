//! What others tell: a round every fifth of a second, which also says whether the engine lives, is the same
//! as before, and is fast enough to be waited for.
//!
//! A round asks from the latest message on that was heard, that one included. If it is not the first of the
//! answer, something was missed, and all is compared.

use std::convert::Infallible;
use std::time::Duration;

use redis::{RedisError, Value, cmd};
use tokio::time::{Instant, sleep, timeout};

use super::clerk::{Clerk, Parted};
use super::engine::{self, Engine};
use super::join::{BEFORE_ALL, latest_news};
use super::layout::Subject;
use super::standing::Node;

/// A message of a host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    id: String,
    field: Vec<u8>,
    value: Vec<u8>,
    instance: Vec<u8>,
}

impl Clerk {
    /// Hears what others tell, from the message `latest` on, until the engine fails.
    pub(super) async fn follow_news(
        &self,
        engine: &Engine,
        born: &[u8],
        mut latest: String,
    ) -> Parted {
        let mut rounds = 0_u32;
        loop {
            let begun = Instant::now();
            if rounds % ROUNDS_TO_NOTE == ROUNDS_TO_NOTE - 1 {
                self.note_told(born);
            }
            rounds = rounds.wrapping_add(1);
            let asked = Instant::now();
            let heard = timeout(SILENCE, self.hear_news(engine, born, &mut latest)).await;
            match heard {
                Ok(Ok(())) => self.turn(|it| it.note_round(asked.elapsed(), self.settings.budget)),
                Ok(Err(parted)) => return parted,
                Err(_late) => return Parted::Broken("it does not answer".to_owned()),
            }
            self.answered.set(Some(Instant::now()));
            sleep(ROUND.saturating_sub(begun.elapsed())).await;
        }
    }

    async fn hear_news(
        &self,
        engine: &Engine,
        born: &[u8],
        latest: &mut String,
    ) -> Result<(), Parted> {
        loop {
            let mut lives = cmd("HGET");
            lives.arg(&self.names.about).arg("born");
            let mut news = cmd("XRANGE");
            news.arg(&self.names.news).arg(latest.as_str()).arg("+");
            news.arg("COUNT").arg(MESSAGES);
            let mut answers = engine.quick.say_all(vec![lives, news]).await.into_iter();
            let mut next = || {
                answers
                    .next()
                    .unwrap_or(Ok(Value::Nil))
                    .map_err(|it| engine::parted(&it))
            };
            let is_same = matches!(next()?, Value::BulkString(now) if now == born);
            if !is_same {
                return Err(Parted::Forgotten);
            }
            let messages = read_messages(next()?);
            let read = messages.len();
            let mut messages = messages.into_iter().peekable();
            if *latest != BEFORE_ALL {
                // Heard already; what is not there was missed.
                if messages.next_if(|it| it.id == *latest).is_none() {
                    tracing::info!("cluster-news-missed");
                    // Numbers of another master's may begin anew.
                    let newest = latest_news(&engine.quick, &self.names).await;
                    *latest = newest.map_err(|it| engine::parted(&it))?;
                    self.owe(self.clock.now());
                    return Ok(());
                }
            }
            for message in messages {
                self.hear_message(&message);
                *latest = message.id;
            }
            if read < MESSAGES {
                return Ok(());
            }
        }
    }

    fn hear_message(&self, message: &Message) {
        let Some(of) = Subject::of_name(&message.field) else {
            return;
        };
        // What every host is told has an order: what this one said may come after what another did.
        let is_own = message.instance == self.instance.as_bytes();
        if is_own && !of.is_told() {
            return;
        }
        self.metrics.heard.inc_by((!is_own).into());
        // What others ask for when they miss it is news to those alone who have it.
        let is_of_concern = match &of {
            Subject::Record(key) => key.is_told() || self.store.holds(*key),
            Subject::Entry(..) => true,
        };
        if is_of_concern {
            self.absorb(&of, &message.value);
        }
    }

    /// Says now and then that this host is there, and sees who else is and what the engine holds, for ever.
    /// What comes of it is for people: nothing else waits for it, and nothing ends by it.
    pub(super) async fn watch(&self, engine: &Engine) -> Infallible {
        loop {
            let _late_or_refused = timeout(SILENCE, self.sign_in(engine)).await;
            let _late_or_refused = timeout(SILENCE, self.measure(engine)).await;
            sleep(SIGNING).await;
        }
    }

    async fn sign_in(&self, engine: &Engine) -> Result<(), RedisError> {
        let now = self.clock.now().as_millis();
        let mut sign = cmd("HSET");
        sign.arg(&self.names.nodes).arg(&self.settings.node);
        sign.arg(format!("{now} {} {}", crate::VERSION, self.instance));
        // A full engine takes no sign, and shows those of the others all the same.
        let _full = engine.quick.say(&sign).await;
        let mut read = cmd("HGETALL");
        read.arg(&self.names.nodes);
        let read = engine.quick.say(&read).await?;
        let nodes: Vec<(String, String)> = redis::from_redis_value(read)?;
        let nodes: Vec<_> = nodes
            .iter()
            .filter_map(|(name, told)| node(name, told, now))
            .collect();
        self.board.change(|it| it.nodes = nodes);
        Ok(())
    }

    async fn measure(&self, engine: &Engine) -> Result<(), RedisError> {
        let keys = engine.quick.say(&cmd("DBSIZE")).await?;
        let mut memory = cmd("INFO");
        memory.arg("memory");
        let memory = memory_of(engine.quick.say(&memory).await?);
        let keys = redis::from_redis_value(keys).ok();
        self.board.change(|it| {
            it.keys = keys;
            it.memory = Some(memory);
        });
        Ok(())
    }

    /// Says that this host is gone.
    pub(super) async fn sign_off(&self, engine: &Engine) -> Result<(), RedisError> {
        let mut gone = cmd("HDEL");
        gone.arg(&self.names.nodes).arg(&self.settings.node);
        engine.quick.say(&gone).await.map(drop)
    }
}

/// A host as it signed in; [`None`] for one that has been silent for so long that it is gone.
fn node(name: &str, told: &str, now: u64) -> Option<Node> {
    let mut words = told.split(' ');
    let at: u64 = words.next()?.parse().ok()?;
    let silent = now.saturating_sub(at) / 1_000;
    (silent < GONE).then(|| Node {
        name: name.to_owned(),
        version: words.next().unwrap_or_default().to_owned(),
        silent,
    })
}

/// What `INFO memory` of one server, or of each of a cluster, comes to.
fn memory_of(told: Value) -> u64 {
    let texts = match told {
        Value::Map(of_each) => of_each.into_iter().map(|(_, it)| it).collect(),
        told => vec![told],
    };
    let used = texts.into_iter().filter_map(|text| {
        let text: String = redis::from_redis_value(text).ok()?;
        let used = text
            .lines()
            .find_map(|it| it.strip_prefix("used_memory:"))?;
        used.trim().parse::<u64>().ok()
    });
    used.sum()
}

fn read_messages(told: Value) -> Vec<Message> {
    let Value::Array(entries) = told else {
        return Vec::new();
    };
    entries.into_iter().filter_map(read_message).collect()
}

fn read_message(entry: Value) -> Option<Message> {
    let (id, fields): (String, Vec<(String, Vec<u8>)>) = redis::from_redis_value(entry).ok()?;
    let mut message = Message {
        id,
        ..Message::default()
    };
    for (name, value) in fields {
        match name.as_str() {
            "f" => message.field = value,
            "v" => message.value = value,
            "n" => message.instance = value,
            _ => {}
        }
    }
    Some(message)
}

/// From one round to the next.
const ROUND: Duration = Duration::from_millis(200);
/// An engine that does not answer for so long is gone.
const SILENCE: Duration = Duration::from_secs(2);
/// Messages heard at once.
const MESSAGES: usize = 512;
/// From one sign of life to the next.
const SIGNING: Duration = Duration::from_secs(5);
/// Rounds from one note to the next of what the engine knows: a minute.
const ROUNDS_TO_NOTE: u32 = 300;
/// Seconds after which a silent host is not shown any more.
const GONE: u64 = 24 * 60 * 60;

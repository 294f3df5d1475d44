//! What others tell: a round every fifth of a second, which also says whether the engine lives, is the same
//! as before, and is fast enough to be waited for.
//!
//! A round asks from the latest message on that was heard, that one included. If it is not the first of the
//! answer, something was missed, and all is compared.

use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::{Instant, sleep, timeout};

use super::clerk::{Clerk, Parted};
use super::engine::{self, Engine};
use super::join::{BEFORE_ALL, latest_news};
use super::layout::Subject;

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
        loop {
            let begun = Instant::now();
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
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// Messages heard at once.
const MESSAGES: usize = 512;

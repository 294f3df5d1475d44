//! A host's sign of life, as it stands in the engine: for people, who is there; for the host itself, until when
//! the engine knows what it knew.
//!
//! The engine says the latter, so that it comes back with whatever else the engine had saved when it starts
//! again, and tells how much is to be told anew.
//!
//! One line: `here` or `gone`, milliseconds, version, instance, life of the engine, milliseconds.

use std::convert::Infallible;
use std::time::Duration;

use redis::{RedisResult, Value, cmd};
use tokio::time::{sleep, timeout};

use crate::policy::Timestamp;

use super::clerk::Clerk;
use super::engine::{Engine, Link};
use super::news::SILENCE;
use super::standing::Node;

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sign {
    /// Whether the host shares.
    pub(super) is_here: bool,
    /// When it was given.
    pub(super) at: Timestamp,
    /// The host's version of greygate.
    pub(super) version: String,
    /// Tells the run of the daemon from every other.
    pub(super) instance: String,
    /// The life of the engine that it was given to.
    pub(super) born: String,
    /// Until when that knew everything; [`Timestamp::NEVER`] if it never did.
    pub(super) told: Timestamp,
}

impl Sign {
    /// As it stands in the engine.
    pub(super) fn to_text(&self) -> String {
        format!(
            "{} {} {} {} {} {}",
            if self.is_here { HERE } else { GONE },
            self.at.as_millis(),
            self.version,
            self.instance,
            self.born,
            self.told.as_millis()
        )
    }

    /// Reads one; [`None`] if it is something else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let is_here = match words.next()? {
            HERE => true,
            GONE => false,
            _ => return None,
        };
        let mut next = || words.next();
        let time = |word: &str| word.parse().ok().map(Timestamp::from_millis);
        let sign = Self {
            is_here,
            at: time(next()?)?,
            version: next()?.to_owned(),
            instance: next()?.to_owned(),
            born: next()?.to_owned(),
            told: time(next()?)?,
        };
        next().is_none().then_some(sign)
    }
}

impl Clerk {
    /// Until when an engine in the life `born` knows what this host knew; [`Timestamp::NEVER`] if it does not
    /// say, or by a clock that was ahead.
    pub(super) async fn known_until(&self, link: &Link, born: &[u8]) -> RedisResult<Timestamp> {
        let now = self.clock.now();
        let sign = self.own_sign(link).await?;
        let sign = sign.filter(|it| it.born.as_bytes() == born && it.told <= now);
        Ok(sign.map_or(Timestamp::NEVER, |it| it.told))
    }

    /// Says now and then that this host is there, and sees who else is and what the engine holds, for ever.
    pub(super) async fn watch(&self, engine: &Engine) -> Infallible {
        let mut latest = None;
        loop {
            let _late_or_refused = timeout(SILENCE, self.sign_in(engine, &mut latest)).await;
            let _late_or_refused = timeout(SILENCE, self.measure(engine)).await;
            sleep(SIGNING).await;
        }
    }

    /// Signs, after the `latest` sign that this connection took.
    async fn sign_in(&self, engine: &Engine, latest: &mut Option<Sign>) -> RedisResult<()> {
        if let Some(latest) = latest.take() {
            self.note_changed(&latest, self.own_sign(&engine.quick).await?);
        }
        let sign = self.signs(true);
        // A full engine takes no sign, and shows those of the others all the same.
        let signed = self.say_sign(engine, &sign).await;
        self.see_others(engine).await?;
        signed?;
        *latest = Some(sign);
        Ok(())
    }

    /// Heeds what has become of the sign that was given last. One that is gone says nothing: a host whose clock
    /// is a month ahead clears it.
    fn note_changed(&self, latest: &Sign, found: Option<Sign>) {
        let Some(found) = found.filter(|it| it != latest) else {
            return;
        };
        if found.instance == self.instance {
            // The engine went back to what it had saved, and no connection broke.
            self.set_back(found.told);
        } else if found.is_here && !self.has_namesake.replace(true) {
            tracing::warn!(node = self.settings.node, "cluster-namesake");
        }
    }

    /// Shows who shares, and clears what nobody has needed for long.
    async fn see_others(&self, engine: &Engine) -> RedisResult<()> {
        let mut read = cmd("HGETALL");
        read.arg(&self.names.nodes);
        let read = engine.quick.say(&read).await?;
        let signs: Vec<(String, String)> = redis::from_redis_value(read)?;
        let now = self.clock.now();
        let (mut nodes, mut long_gone) = (Vec::new(), Vec::new());
        for (name, sign) in signs {
            let Some(sign) = Sign::read(&sign) else {
                continue;
            };
            let silent = now.since(sign.at);
            if silent >= KEPT {
                long_gone.push(name);
            } else if sign.is_here && silent < SHOWN {
                nodes.push(Node {
                    name,
                    version: sign.version,
                    silent: silent.as_secs(),
                });
            }
        }
        self.board.change(|it| it.nodes = nodes);
        if long_gone.is_empty() {
            return Ok(());
        }
        let mut clear = cmd("HDEL");
        clear.arg(&self.names.nodes).arg(long_gone);
        engine.quick.say(&clear).await.map(drop)
    }

    async fn own_sign(&self, link: &Link) -> RedisResult<Option<Sign>> {
        let mut read = cmd("HGET");
        read.arg(&self.names.nodes).arg(&self.settings.node);
        let text: Option<String> = redis::from_redis_value(link.say(&read).await?)?;
        Ok(text.and_then(|it| Sign::read(&it)))
    }

    /// What this host has to say now.
    fn signs(&self, is_here: bool) -> Sign {
        Sign {
            is_here,
            at: self.clock.now(),
            version: crate::VERSION.to_owned(),
            instance: self.instance.clone(),
            born: String::from_utf8_lossy(&self.born.borrow()).into_owned(),
            told: self.told_until(),
        }
    }

    async fn say_sign(&self, engine: &Engine, sign: &Sign) -> RedisResult<()> {
        let mut say = cmd("HSET");
        say.arg(&self.names.nodes).arg(&self.settings.node);
        say.arg(sign.to_text());
        engine.quick.say(&say).await.map(drop)
    }

    /// Says that this host is gone.
    pub(super) async fn sign_off(&self, engine: &Engine) -> RedisResult<()> {
        self.say_sign(engine, &self.signs(false)).await
    }

    async fn measure(&self, engine: &Engine) -> RedisResult<()> {
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

const HERE: &str = "here";
const GONE: &str = "gone";
/// From one sign of life to the next.
const SIGNING: Duration = Duration::from_secs(5);
/// For so long a host is shown that has fallen silent without a word.
const SHOWN: Duration = Duration::from_hours(24);
/// For so long its sign stays in the engine, from which a host that comes back learns what to tell.
const KEPT: Duration = Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written_and_nothing_else_is() {
        for is_here in [true, false] {
            let sign = Sign {
                is_here,
                at: Timestamp::from_millis(17),
                version: "0.1.0".to_owned(),
                instance: "00ff".to_owned(),
                born: "ff00".to_owned(),
                told: Timestamp::from_millis(16),
            };
            assert_eq!(Sign::read(&sign.to_text()), Some(sign));
        }
        for other in [
            "",
            "here",
            "here 1 2 3 4",
            "here 1 0.1.0 a b 1 1",
            "there 1 0.1.0 a b 1",
            "here x 0.1.0 a b 1",
        ] {
            assert_eq!(Sign::read(other), None, "{other:?}");
        }
    }
}

//! The beginning: whether this host may share in what an engine holds, what it lacks, and where its news begin.
//!
//! What is in the engine was made with a seed, and only who has the same can find anything in it. The
//! first host gives the engine its own; every other has to have that one.

use std::time::Duration;

use redis::{RedisError, Value, cmd};
use tokio::time::timeout;

use crate::policy::{Seed, Timestamp};

use super::clerk::{Clerk, random};
use super::engine::{self, Engine, EngineError, Link};
use super::script::{Names, Scripts};

/// An engine that this host shares in.
pub(super) struct Joined {
    pub(super) engine: Engine,
    /// Which of its lives the engine is in: another one after it was emptied.
    pub(super) born: Vec<u8>,
    /// Until when it was told in that all that this host knew.
    pub(super) told: Timestamp,
    /// The latest message at the time.
    pub(super) news: String,
}

/// Why this host does not share.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotJoined {
    #[error("cannot reach the engine")]
    Engine(#[from] EngineError),
    #[error("the engine does not answer")]
    Silent,
    #[error("{0}")]
    Refused(&'static str),
}

impl From<RedisError> for NotJoined {
    fn from(error: RedisError) -> Self {
        if engine::is_foreign(&error) {
            return Self::Refused(FOREIGN);
        }
        Self::Engine(error.into())
    }
}

/// What stands where hosts keep what is everybody's.
pub(super) const FOREIGN: &str = "under this prefix something else is kept, which is left alone; name another prefix, \
                                  or remove the keys that begin with it and {told}";

impl Clerk {
    pub(super) async fn join(&self) -> Result<Joined, NotJoined> {
        match timeout(JOINING, self.try_to_join()).await {
            Ok(joined) => joined,
            Err(_late) => Err(NotJoined::Silent),
        }
    }

    async fn try_to_join(&self) -> Result<Joined, NotJoined> {
        let engine = Engine::connect(&self.settings).await?;
        let seed = self.store.seed_bytes();
        let mut about = About::read(&engine.quick, &self.names).await?;
        if about == About::default() && self.was_refused.get() {
            // Or a host that never shared could make a seed of its own everybody's.
            return Err(NotJoined::Refused(
                "the engine was emptied, and this host, which had another seed, leaves it to the others \
                 to begin anew; restart greygate here if it shall",
            ));
        }
        if about.is_unfinished(seed) {
            about = About::settled(&engine.quick, &self.names, seed).await?;
        }
        if about.layout != LAYOUT {
            return Err(NotJoined::Refused(
                "what the engine holds under this prefix was written by another version of greygate, in \
                 another layout; update all hosts, or name another prefix",
            ));
        }
        if about.seed != seed {
            return Err(NotJoined::Refused(
                "what the engine holds was made with another seed, so that nothing in it could be found \
                 here; `greygate serve --discard-local` takes over the engine's and begins anew on this \
                 host, or name another prefix",
            ));
        }
        for script in Scripts::load() {
            engine.bulk.say(&script).await?;
        }
        let news = latest_news(&engine.quick, &self.names).await?;
        let told = self.known_until(&engine.quick, &about.born).await?;
        Ok(Joined {
            engine,
            born: about.born,
            told,
            news,
        })
    }
}

/// Whose everything in the engine is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    layout: Vec<u8>,
    pub(super) seed: Vec<u8>,
    born: Vec<u8>,
}

impl About {
    /// Whether something is missing, and nothing of what is there is another's: the engine is new, or whoever
    /// began was cut off.
    fn is_unfinished(&self, seed: &[u8; Seed::LENGTH]) -> bool {
        let is_missing = [&self.layout, &self.seed, &self.born].map(Vec::is_empty);
        let is_no_others = |value: &[u8], own: &[u8]| value.is_empty() || value == own;
        is_missing.contains(&true)
            && is_no_others(&self.layout, LAYOUT)
            && is_no_others(&self.seed, seed)
    }

    /// What the engine says; of one that holds nothing yet, what it says from now on.
    async fn settled(
        link: &Link,
        names: &Names,
        seed: &[u8; Seed::LENGTH],
    ) -> Result<Self, RedisError> {
        let born = format!("{:016x}", random());
        for (field, value) in [
            ("layout", LAYOUT),
            ("seed", &seed[..]),
            ("born", born.as_bytes()),
        ] {
            let mut command = cmd("HSETNX");
            command.arg(&names.about).arg(field).arg(value);
            link.say(&command).await?;
        }
        Self::read(link, names).await
    }

    /// What the engine says.
    pub(super) async fn read(link: &Link, names: &Names) -> Result<Self, RedisError> {
        let mut command = cmd("HMGET");
        command.arg(&names.about).arg(&["layout", "seed", "born"]);
        let told: Vec<Option<Vec<u8>>> = redis::from_redis_value(link.say(&command).await?)?;
        let mut told = told.into_iter().map(Option::unwrap_or_default);
        let mut next = || told.next().unwrap_or_default();
        Ok(Self {
            layout: next(),
            seed: next(),
            born: next(),
        })
    }
}

/// The latest message that the engine holds.
pub(super) async fn latest_news(link: &Link, names: &Names) -> Result<String, RedisError> {
    let mut command = cmd("XREVRANGE");
    command
        .arg(&names.news)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1);
    let Value::Array(entries) = link.say(&command).await? else {
        return Ok(BEFORE_ALL.to_owned());
    };
    let Some(Value::Array(entry)) = entries.into_iter().next() else {
        return Ok(BEFORE_ALL.to_owned());
    };
    match entry.into_iter().next() {
        Some(id) => Ok(redis::from_redis_value(id)?),
        None => Ok(BEFORE_ALL.to_owned()),
    }
}

/// Precedes every message.
pub(super) const BEFORE_ALL: &str = "0-0";
/// The layout of everything under a prefix.
const LAYOUT: &[u8] = b"1";
/// Time for all of it.
const JOINING: Duration = Duration::from_secs(10);

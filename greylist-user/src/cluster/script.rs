//! The two things that are done inside the engine, and what they are called there.

use redis::{Cmd, Script, cmd};

use super::layout::Value;

/// What the engine runs, so that two hosts that write one record lose nothing of each other.
#[derive(Debug)]
pub(super) struct Scripts {
    share: Script,
    tell: Script,
}

/// The names of everything that is kept in the engine.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    /// What every host is told: a hash, of which the braces have all of it in one slot of a cluster.
    pub(super) told: String,
    /// When each of that ends.
    pub(super) ends: String,
    /// What was told lately.
    pub(super) news: String,
    /// Whose all this is.
    pub(super) about: String,
    /// Who shares.
    pub(super) nodes: String,
}

impl Names {
    pub(super) fn under(prefix: &str) -> Self {
        let told = |name: &str| format!("{prefix}:{{told}}:{name}");
        Self {
            prefix: prefix.to_owned(),
            told: told("records"),
            ends: told("ends"),
            news: told("news"),
            about: told("about"),
            nodes: told("nodes"),
        }
    }

    /// Of a record that others ask for.
    pub(super) fn record(&self, key: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), b":", key].concat()
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            share: Script::new(SHARE),
            tell: Script::new(TELL),
        }
    }

    /// Tells the engine a record that others ask for.
    pub(super) fn share(&self, name: &[u8], value: &Value) -> Cmd {
        let mut command = Cmd::with_capacity(SHARE_ARGUMENTS, SHARE_BYTES);
        command.arg("EVALSHA").arg(self.share.get_hash());
        command.arg(1).arg(name);
        command.arg(value.form.as_ref()).arg(&value.bytes);
        command.arg(millis(value.lasts));
        command
    }

    /// Tells every host of a record, at `now` in milliseconds.
    pub(super) fn tell(
        &self,
        names: &Names,
        field: &[u8],
        value: &Value,
        now: u64,
        instance: &str,
    ) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(self.tell.get_hash()).arg(3);
        command.arg(&names.told).arg(&names.ends).arg(&names.news);
        command
            .arg(value.form.as_ref())
            .arg(field)
            .arg(&value.bytes);
        command
            .arg(now.saturating_add(millis(value.lasts)))
            .arg(now);
        command.arg(instance).arg(NEWS_KEPT).arg(ALL_KEPT);
        command
    }

    /// Gives the engine both, which it keeps until it ends.
    pub(super) fn load() -> [Cmd; 2] {
        [SHARE, TELL].map(|code| {
            let mut command = cmd("SCRIPT");
            command.arg("LOAD").arg(code);
            command
        })
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a tuple takes, with room to spare: a longer one grows.
const SHARE_ARGUMENTS: usize = 7;
const SHARE_BYTES: usize = 192;
const SHARE: &str = concat!(
    include_str!("lua/merge.lua"),
    "\n",
    include_str!("lua/share.lua")
);
const TELL: &str = concat!(
    include_str!("lua/merge.lua"),
    "\n",
    include_str!("lua/tell.lua")
);

/// Messages that the engine keeps for hosts that are a little behind. Who is further behind compares all.
pub(super) const NEWS_KEPT: u64 = 100_000;
/// Milliseconds after which the engine forgets what every host was told, if no host says a word: as
/// long as it is remembered who was removed from a list.
const ALL_KEPT: u64 = 400 * 24 * 60 * 60 * 1_000;

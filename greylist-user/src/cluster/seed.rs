//! The seed that all hosts have: whether this host takes over the engine's before its store is opened.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tokio::time::timeout;

use crate::chain::chain;
use crate::policy::{Seed, Timestamp};
use crate::store;

use super::engine::{Engine, EngineError};
use super::join::About;
use super::script::Names;
use super::settings::Settings;

/// Why the engine's seed was not taken over, though it had to be.
#[derive(Debug, thiserror::Error)]
pub enum SeedNotTaken {
    /// There is no engine to take it from.
    #[error("cannot take over the seed of the other hosts: {0}; nothing was discarded")]
    Engine(String),
    /// The engine has none.
    #[error(
        "the engine holds no seed to take over: no host shares yet; start without --discard-local, and \
         nothing was discarded"
    )]
    None,
    /// What is here could not be put aside.
    #[error(transparent)]
    Discard(#[from] store::OpenError),
    /// The seed could not be written.
    #[error("cannot write the seed file {}", path.display())]
    Write {
        /// It.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Sees to it that a host without a seed begins with that of the others, and one that is to discard its own
/// does so. A host that has one keeps it; whether it may share is seen when it joins.
///
/// # Errors
///
/// As [`SeedNotTaken`] says. That the engine cannot be reached is none for a host that discards nothing: it
/// makes a seed of its own, and the engine's may turn out to be another.
pub fn settle_seed(
    settings: &Settings,
    store: &store::Settings,
    now: Timestamp,
) -> Result<(), SeedNotTaken> {
    let has_one = store.seed_file.exists();
    if !settings.shares() || (has_one && !settings.discard_local) {
        return Ok(());
    }
    let seed = match read_shared(settings) {
        Ok(Some(seed)) => seed,
        Ok(None) if settings.discard_local => return Err(SeedNotTaken::None),
        Ok(None) => return Ok(()),
        Err(why) if settings.discard_local => return Err(SeedNotTaken::Engine(why)),
        Err(why) => {
            tracing::warn!(error = why, "cluster-seed-unknown");
            return Ok(());
        }
    };
    if has_one && fs::read(&store.seed_file).is_ok_and(|own| own == seed) {
        return Ok(());
    }
    if settings.discard_local {
        let aside = store::discard(store, now)?;
        tracing::warn!(kept = %aside.display(), "cluster-discarded");
    }
    store::install_seed(&store.seed_file, &seed).map_err(|source| SeedNotTaken::Write {
        path: store.seed_file.clone(),
        source,
    })?;
    tracing::info!(file = %store.seed_file.display(), "cluster-seed-taken");
    Ok(())
}

/// The seed that the engine holds, if there is an engine. Asked in a thread of its own: whoever starts may
/// have a runtime already.
fn read_shared(settings: &Settings) -> Result<Option<[u8; Seed::LENGTH]>, String> {
    thread::scope(|scope| {
        let reading = thread::Builder::new().name("cluster-seed".to_owned());
        let reading = reading.spawn_scoped(scope, || ask_for_seed(settings));
        let reading = reading.map_err(|error| error.to_string())?;
        let panicked = |_| "asking for it panicked, which is a bug".to_owned();
        reading.join().map_err(panicked)?
    })
}

fn ask_for_seed(settings: &Settings) -> Result<Option<[u8; Seed::LENGTH]>, String> {
    super::name_cryptography();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let read = runtime.block_on(async {
        let reading = async {
            let engine = Engine::connect(settings).await?;
            let names = Names::under(&settings.prefix);
            Ok::<_, EngineError>(About::read(&engine.quick, &names).await?)
        };
        timeout(READING, reading).await
    });
    runtime.shutdown_background();
    match read {
        Err(_late) => Err("the engine does not answer".to_owned()),
        Ok(Err(error)) => Err(chain(&error)),
        Ok(Ok(about)) => Ok(about.seed.try_into().ok()),
    }
}

/// Postfix waits for a host that starts.
const READING: Duration = Duration::from_secs(5);

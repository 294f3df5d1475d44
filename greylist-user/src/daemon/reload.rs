//! A new configuration for a running daemon: all of it or nothing.
//!
//! SIGHUP and `greygate reload` both end here, one at a time. Knows which file was read and what the
//! command line sets above it; leaves what is legal to `config`. A session that runs keeps the rules
//! of its present attempt, and obeys the new ones at its next.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::sentences::{Ordered, in_force};
use crate::admin::Reloaded;
use crate::chain::chain;
use crate::config::{self, Config, ConfigError, KeyName, Override};
use crate::kernel::Projector;
use crate::policy::Policy;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// What the command line sets, which wins over the file at each reload, too.
    pub overrides: Vec<Override>,
}

impl Source {
    /// Reads it.
    pub fn read(&self) -> Result<Config, ConfigError> {
        config::read_under(&self.file, &self.overrides)
    }
}

/// Applies what can be changed while the daemon runs.
#[derive(Debug)]
pub(super) struct Reloader {
    /// [`None`] of a daemon that was given its configuration without a file.
    source: Option<Source>,
    /// What the daemon was started with: where new values of what is no rule wait from.
    started: Config,
    /// What was applied last.
    present: Mutex<Config>,
    policy: Arc<ArcSwap<Policy>>,
    /// Not kept from its end.
    projector: Weak<Projector>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// The file, or what the command line sets above it, is not legal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is nothing to read.
    #[error("this daemon was started without a file; restart it with one")]
    NoFile,
}

impl Reloader {
    pub(super) fn new(
        source: Option<Source>,
        started: Config,
        policy: Arc<ArcSwap<Policy>>,
        projector: &Arc<Projector>,
    ) -> Self {
        Self {
            source,
            present: Mutex::new(started.clone()),
            started,
            policy,
            projector: Arc::downgrade(projector),
        }
    }

    /// What the command line sets.
    pub(super) fn overrides(&self) -> Vec<String> {
        let source = self.source.iter();
        let overrides = source.flat_map(|it| &it.overrides);
        overrides.map(ToString::to_string).collect()
    }

    /// Reads the configuration again and applies its rules, or changes nothing.
    pub(super) fn reload(&self) -> Result<Reloaded, ReloadError> {
        // Held while the file is read: whoever comes later read it later.
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let read = match &self.source {
            Some(source) => source.read().map_err(ReloadError::Config),
            None => Err(ReloadError::NoFile),
        };
        let config = match read {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(why = chain(&error), "unreloaded");
                return Err(error);
            }
        };
        let reloaded = Reloaded {
            file: self.file(),
            changed: named(&present.differences(&config), |key| key.is_live()),
            restart: named(&self.started.differences(&config), |key| !key.is_live()),
            overrides: self.overrides(),
        };
        self.policy
            .store(Arc::new(in_force(&config.policy, &Ordered::default())));
        if let Some(projector) = self.projector.upgrade() {
            projector.refresh();
        }
        *present = config;
        let changed = reloaded.changed.join(", ");
        if reloaded.restart.is_empty() {
            tracing::info!(changed, "reloaded");
        } else {
            let keys = reloaded.restart.join(", ");
            tracing::warn!(changed, keys, "half-reloaded");
        }
        Ok(reloaded)
    }

    fn file(&self) -> String {
        let file = self.source.as_ref().map(|it| it.file.display().to_string());
        file.unwrap_or_default()
    }
}

fn named(keys: &[KeyName], is_meant: impl Fn(KeyName) -> bool) -> Vec<String> {
    let meant = keys.iter().filter(|key| is_meant(**key));
    meant.map(ToString::to_string).collect()
}

//! Greygate as it is installed, empty or with tuples that are there before.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
};

use tempfile::TempDir;

use super::{
    fill,
    server::{Server, Speech},
};
use crate::{Error, greygate::Greygate, netns::Namespace};

/// How many threads serve sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As it is installed.
    Default,
    /// Twice as many as that.
    OneACore,
}

/// How a greygate is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    mode: &'static str,
    workers: Workers,
    tuples: u32,
    tweaks: String,
}

impl Setup {
    /// With nothing in its store.
    pub fn empty(mode: &'static str, workers: Workers) -> Self {
        Self {
            mode,
            workers,
            tuples: 0,
            tweaks: String::new(),
        }
    }

    /// With so many tuples.
    pub fn holding(tuples: u32, workers: Workers) -> Self {
        Self {
            mode: "hybrid",
            workers,
            tuples,
            tweaks: String::new(),
        }
    }

    /// With a TOML text laid over its configuration.
    #[must_use]
    pub fn with(self, tweaks: String) -> Self {
        Self { tweaks, ..self }
    }
}

/// A greygate in which what has to wait waits for a moment.
#[derive(Debug)]
pub struct Daemon {
    /// What it is measured as.
    pub server: Server,
    /// Its installation.
    pub greygate: Greygate,
    /// Where its files are.
    pub directory: TempDir,
}

impl Daemon {
    /// Starts it in a namespace of its own.
    pub fn start(name: &'static str, setup: Setup) -> Result<Self, Error> {
        let namespace = Arc::new(Namespace::create(setup.mode)?);
        Self::start_in(namespace, name, setup)
    }

    /// Starts it in `namespace`.
    pub fn start_in(
        namespace: Arc<Namespace>,
        name: &'static str,
        setup: Setup,
    ) -> Result<Self, Error> {
        let Setup {
            mode,
            workers,
            tuples,
            tweaks,
        } = setup;
        let directory = tempfile::Builder::new()
            .prefix("greygate-bench-")
            .tempdir()
            .map_err(Error::io("making a directory"))?;
        if tuples > 0 {
            fill::store(&directory.path().join("state"), tuples)?;
        }
        let capacity = fill::capacity(tuples);
        let workers = match workers {
            Workers::Default => 0,
            Workers::OneACore => thread::available_parallelism().map_or(1, usize::from),
        };
        let tweak = format!(
            r#"[milter]
            workers = {workers}
            connections = {CONNECTIONS}
            connections_per_peer = {CONNECTIONS}
            [store]
            capacity = {capacity}
            snapshot_interval = "1d"
            [greylist]
            mode = {mode:?}
            delay = "1ms"
            [content]
            delay = "1ms"
            "#
        );
        let greygate = Greygate::start(&namespace, directory.path(), &[&tweak, &tweaks])?;
        let held = greygate.tuples()?;
        if held != u64::from(tuples) {
            let expected = format!("{name} should hold {tuples} tuples");
            return Err(Error::unexpected(expected, held));
        }
        let absent = || Error::unexpected("greygate should run", "it does not");
        let server = Server {
            name,
            namespace,
            speech: Speech::Milter(SocketAddr::from((Ipv4Addr::LOCALHOST, 8892))),
            started: vec![greygate.pid().ok_or_else(absent)?],
        };
        Ok(Self {
            server,
            greygate,
            directory,
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing of it is to be kept: no last snapshot of ten million tuples.
        if let Err(error) = self.greygate.kill() {
            eprintln!("{}", error.chain());
        }
    }
}

/// Of idle connections, and room for those of a load.
const CONNECTIONS: u32 = 15_000;

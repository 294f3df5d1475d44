//! A daemon to watch, and its page of metrics.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use greygate::clock::SystemClock;
use greygate::daemon::{Daemon, Rights};
use greygate::{config, log};
use support::mta::Mta;
use tempfile::TempDir;

/// A running daemon without a kernel filter, its milter and its page of metrics on free ports.
pub(crate) struct Watched {
    daemon: Option<Daemon>,
    place: TempDir,
}

impl Watched {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let text = format!(
            "[milter]\nlisten = [\"inet:127.0.0.1:0\"]\nworkers = 1\n\
             [store]\ndirectory = \"{}\"\ncapacity = 1_000\n\
             [admin]\nsocket = \"{}\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
            place.path().join("state").display(),
            place.path().join("control.sock").display()
        );
        let config = config::parse(Path::new("greygate.toml"), text.as_bytes()).expect("legal");
        let log = log::init(&config.log);
        let daemon = Daemon::start(config, Arc::new(SystemClock), &log, Rights::as_they_are())
            .expect("everything is free");
        Self {
            daemon: Some(daemon),
            place,
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.place.path()
    }

    /// A message of one recipient that nobody knows: it is deferred.
    pub(crate) fn deferral(&self, recipient: &str) -> io::Result<()> {
        let client = Ipv4Addr::new(192, 0, 2, 7).into();
        let mut mta = Mta::open(&self.daemon().endpoints()[0], client)?;
        mta.mail("<sender@a.example>")?;
        let answer = mta.rcpt(&format!("<{recipient}@b.example>"))?;
        assert!(answer.is_deferral(), "{answer:?}");
        mta.abort();
        mta.quit()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.daemon().metrics_address().expect("it is on")
    }

    /// What `path` answers, head and all.
    pub(crate) fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: mx\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The page of metrics.
    pub(crate) fn page(&self) -> String {
        let answer = self.get("/metrics").expect("the page is served");
        let (head, page) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        page.to_owned()
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }
}

/// The names under which a page's samples are found, those of families that are still empty too.
pub(crate) fn names(page: &str) -> BTreeSet<String> {
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    families
        .filter_map(|family| family.split_once(' '))
        .flat_map(|(name, kind)| match kind {
            "counter" => vec![format!("{name}_total")],
            "histogram" => ["bucket", "count", "sum"]
                .map(|it| format!("{name}_{it}"))
                .into(),
            _ => vec![name.to_owned()],
        })
        .collect()
}

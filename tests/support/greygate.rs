//! The greygate under test: the real binary, its configuration, its command line.
//!
//! Nothing of it is linked in: what is asked, is asked as an operator would.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use toml::Table;

use crate::error::Error;
use crate::interrupt;
use crate::netns::Namespace;
use crate::process::{self, Service};
use crate::requirements::Missing;

/// Where it serves metrics, inside its namespace.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9892);

/// How long a start may take: reading the snapshot, loading the kernel program.
const PATIENCE: Duration = Duration::from_mins(1);

/// The daemon's binary: `GREYGATE_BIN`, or where `cargo xtask build` puts it.
pub fn binary() -> Result<PathBuf, Missing> {
    let path = std::env::var_os("GREYGATE_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/greygate"),
        PathBuf::from,
    );
    if path.is_file() {
        Ok(path)
    } else {
        Err(Missing::new(format_args!(
            "the daemon at {}; `cargo xtask build` makes it",
            path.display()
        )))
    }
}

/// A greygate installation: configuration, state and, most of the time, a running daemon.
#[derive(Debug)]
pub struct Greygate {
    service: Option<Service>,
    binary: PathBuf,
    launcher: Vec<String>,
    directory: PathBuf,
}

impl Greygate {
    /// Writes a configuration and starts the daemon inside `namespace`, with everything it writes
    /// under `directory`. `tweaks` are TOML texts, laid over the harness's configuration in turn.
    pub fn start(namespace: &Namespace, directory: &Path, tweaks: &[&str]) -> Result<Self, Error> {
        Self::launch(&[], namespace, directory, tweaks)
    }

    /// Like [`Self::start`], by `launcher`: a program and its arguments that runs the daemon in its
    /// own place, such as `setpriv`. The daemon's binary is copied under `directory`, where another
    /// user may find it.
    pub fn launch(
        launcher: &[String],
        namespace: &Namespace,
        directory: &Path,
        tweaks: &[&str],
    ) -> Result<Self, Error> {
        let mut binary = binary().map_err(|missing| Error::unexpected("it needs", missing))?;
        fs::create_dir_all(directory)
            .map_err(Error::io(format!("making {}", directory.display())))?;
        if !launcher.is_empty() {
            let copy = directory.join("greygate");
            process::copy_program(&binary, &copy)?;
            binary = copy;
        }
        let mut greygate = Self {
            service: None,
            binary,
            launcher: launcher.to_owned(),
            directory: directory.to_owned(),
        };
        greygate.configure(tweaks)?;
        greygate.resume(namespace)?;
        Ok(greygate)
    }

    /// Starts the daemon again after [`Self::stop`] or [`Self::kill`].
    pub fn resume(&mut self, namespace: &Namespace) -> Result<(), Error> {
        self.resume_with(namespace, &[])
    }

    /// Like [`Self::resume`], with further arguments of `serve`.
    pub fn resume_with(&mut self, namespace: &Namespace, arguments: &[&str]) -> Result<(), Error> {
        let mut serve = match self.launcher.split_first() {
            Some((launcher, arguments)) => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        serve.arg("serve").args(arguments);
        serve.arg("--config").arg(self.file());
        let service = Service::start(namespace, &mut serve, &self.log_file())?;
        let service = self.service.insert(service);
        let mut status = Command::new(&self.binary);
        status.args(["status", "--json", "--config"]);
        status.arg(self.directory.join("greygate.toml"));
        let ready = interrupt::wait_for("greygate's start", PATIENCE, || {
            service.check_alive()?;
            Ok(process::run(&mut status).ok())
        });
        ready.map(drop).map_err(|error| self.explain(error))
    }

    /// Writes another configuration and asks the daemon to read it (SIGHUP).
    pub fn reload(&self, tweaks: &[&str]) -> Result<(), Error> {
        self.configure(tweaks)?;
        match &self.service {
            Some(service) => service.signal(Signal::SIGHUP),
            None => Err(Error::unexpected("greygate should run", "it does not")),
        }
    }

    /// Asks the daemon to end and waits until it has; the state stays.
    pub fn stop(&mut self) -> Result<ExitStatus, Error> {
        self.end(Service::terminate)
    }

    /// Ends the daemon as a crash would; the state stays.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.end(Service::kill)
    }

    /// The daemon's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.service.as_ref().map(Service::pid)
    }

    /// Runs a command of `greygate` as the operator would; what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.file());
        process::run(&mut command).map_err(|error| self.explain(error))
    }

    /// Like [`Self::run`] with `--json`, read.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value, Error> {
        let answer = self.run(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&answer)
            .map_err(|error| Error::unexpected(format!("{error} in the answer"), answer))
    }

    /// Who is sentenced at present.
    pub fn sentenced(&self) -> Result<Vec<String>, Error> {
        self.sentences("client")
    }

    /// How hard those who are sentenced are.
    pub fn levels(&self) -> Result<Vec<String>, Error> {
        self.sentences("level")
    }

    /// One field of each sentence.
    fn sentences(&self, field: &str) -> Result<Vec<String>, Error> {
        let status = self.ask(&["xdp", "status"])?;
        let sentences = status.get("sentences").and_then(Value::as_array);
        let fields = sentences.map(|sentences| {
            let fields = sentences.iter().map(|sentence| sentence.get(field));
            fields.map(|field| field.and_then(Value::as_str).map(str::to_owned))
        });
        fields
            .and_then(Iterator::collect)
            .ok_or_else(|| Error::unexpected("the sentences should be listed", status))
    }

    /// The tuples it remembers.
    pub fn tuples(&self) -> Result<u64, Error> {
        self.number(&["status"], "/store/tuples")
    }

    /// Whether it shares with other hosts and its sessions ask.
    pub fn shares(&self) -> Result<bool, Error> {
        let state = self.ask(&["cluster", "status"])?;
        Ok(state["state"] == "sharing" && state["circuit_closed"] == true)
    }

    /// Whether it shares, with nothing left to tell or to compare.
    pub fn is_settled(&self) -> Result<bool, Error> {
        let state = self.ask(&["cluster", "status"])?;
        let is_quiet = state["queued"] == 0 && state["resyncing"] == false;
        Ok(is_quiet && self.shares()?)
    }

    /// The frames the kernel has dropped for it so far.
    pub fn dropped_frames(&self) -> Result<u64, Error> {
        self.number(&["xdp", "status"], "/filter/drops")
    }

    fn number(&self, command: &[&str], pointer: &str) -> Result<u64, Error> {
        let answer = self.ask(command)?;
        let number = answer.pointer(pointer).and_then(Value::as_u64);
        number.ok_or_else(|| Error::unexpected(format!("there should be a {pointer}"), answer))
    }

    /// The sum of a metric over all its labels, as the metrics endpoint serves it; 0 when the
    /// endpoint does not name it.
    pub fn metric(&self, namespace: &Namespace, name: &str) -> Result<f64, Error> {
        Ok(sum(&self.metrics(namespace)?, name))
    }

    /// What the metrics endpoint serves.
    pub fn metrics(&self, namespace: &Namespace) -> Result<String, Error> {
        let fetch = || {
            let mut stream = TcpStream::connect_timeout(&METRICS, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(
                b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let answer = namespace.run(fetch);
        let answer = answer.map_err(Error::io(format!("fetching metrics from {METRICS}")))?;
        if answer.starts_with("HTTP/1.1 200 ") {
            Ok(answer)
        } else {
            Err(Error::unexpected(
                "the metrics endpoint should answer 200",
                answer,
            ))
        }
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        process::tail(&self.log_file(), usize::MAX)
    }

    /// Where it logs to.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("greygate.log")
    }

    fn file(&self) -> PathBuf {
        self.directory.join("greygate.toml")
    }

    fn end(
        &mut self,
        how: impl FnOnce(Service) -> Result<ExitStatus, Error>,
    ) -> Result<ExitStatus, Error> {
        match self.service.take() {
            Some(service) => how(service).map_err(|error| self.explain(error)),
            None => Err(Error::unexpected("greygate should run", "it does not")),
        }
    }

    fn explain(&self, error: Error) -> Error {
        if matches!(error, Error::Interrupted) {
            return error;
        }
        let log = process::tail(&self.log_file(), 10);
        Error::unexpected(
            "greygate did not do its part",
            format!("{}\n{log}", error.chain()),
        )
    }

    fn configure(&self, tweaks: &[&str]) -> Result<(), Error> {
        let file = self.file();
        fs::write(&file, self.configuration(tweaks)?)
            .map_err(Error::io(format!("writing {}", file.display())))
    }

    /// The harness's configuration with `tweaks` laid over it, section by section.
    fn configuration(&self, tweaks: &[&str]) -> Result<String, Error> {
        let directory = self.directory.to_str();
        let directory = directory.ok_or_else(|| Error::Path(self.directory.clone()))?;
        let base = format!(
            r#"
            [milter]
            listen = ["inet:127.0.0.1:8892"]
            [store]
            directory = "{directory}/state"
            [xdp]
            pin_directory = "{directory}/bpf/greygate"
            panic_file = "{directory}/xdp-panic"
            [admin]
            socket = "{directory}/control.sock"
            [metrics]
            listen = "{METRICS}"
            "#
        );
        let mut configuration = parse(&base)?;
        for layer in tweaks {
            for (section, keys) in parse(layer)? {
                let settings = configuration.entry(section).or_insert(Table::new().into());
                match (settings.as_table_mut(), keys) {
                    (Some(settings), toml::Value::Table(keys)) => settings.extend(keys),
                    (_, other) => return Err(Error::unexpected("a section is a table", other)),
                }
            }
        }
        Ok(configuration.to_string())
    }
}

/// The sum of a metric over all its labels on a page of the endpoint; 0 when the page does not name it.
pub fn sum(page: &str, name: &str) -> f64 {
    let samples = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    samples.sum()
}

fn parse(text: &str) -> Result<Table, Error> {
    text.parse()
        .map_err(|error| Error::unexpected("a configuration should be TOML", error))
}

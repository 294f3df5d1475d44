//! The real daemon, its log and its answers, where it shares: what it says once, and what it never says.

use std::fmt::Display;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use greygate::clock::Clock as _;
use greygate::clock::SystemClock;
use greygate::milter::Endpoint;
use greygate::policy::{Attempt, Peers as _};
use serde_json::Value;
use support::Error;
use support::clock::TestClock;
use support::greygate::{Greygate, binary};
use support::interrupt;
use support::mta::Mta;
use tempfile::TempDir;

use crate::engine::{Engine, PORT, connect, equipment, name_of};
use crate::hosts::{ATTEMPT, PATIENCE, Site};
use crate::stranger::Stranger;

/// A greygate in the engine's namespace.
struct Daemon<'e> {
    greygate: Greygate,
    engine: &'e Engine,
    directory: TempDir,
}

#[test]
fn engine_that_cannot_be_had_is_complained_of_once() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let engine = Engine::start(&[]);
    engine.with(|| {
        let deaf = Stranger::start(|_| Ok(()));
        let daemon = Daemon::start(&engine, &sharing_through(deaf.server(), "", "info"))?;
        // It asks for a seed, and then five times for a memory.
        interrupt::wait_for("it to go on trying", PATIENCE, || {
            Ok((deaf.calls() > 5).then_some(()))
        })?;
        mail_flows("r@here.example");
        assert_eq!(
            daemon.said(&["cluster-seed-unknown", "cluster-alone"]),
            [1, 1]
        );
        assert_eq!(daemon.said(&["cluster-parted", "panicked"]), [0, 0]);
        Ok(())
    })
}

#[test]
fn engine_that_comes_and_goes_is_complained_of_once() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let mut engine = Engine::start(&[]);
    let directory = TempDir::new().map_err(Error::io("making a directory"))?;
    let sharing = sharing("", "info");
    let greygate = Greygate::start(&engine.namespace, directory.path(), &[&sharing])?;
    wait_until_it_shares(&greygate)?;
    for _ in 0..3 {
        engine.redis.kill()?;
        let is_alone = || Ok((state(&greygate)? != "sharing").then_some(()));
        interrupt::wait_for("it to be alone", PATIENCE, is_alone)?;
        engine.redis.resume(&engine.namespace)?;
        wait_until_it_shares(&greygate)?;
    }
    let log = greygate.log();
    for (word, times) in [
        ("cluster-joined", 1),
        ("cluster-parted", 1),
        ("cluster-alone", 0),
    ] {
        assert_eq!(log.matches(word).count(), times, "{word}: {log}");
    }
    Ok(())
}

#[test]
fn other_host_of_its_name_is_complained_of_once_and_its_own_last_run_is_not() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let engine = Engine::start(&[]);
    engine.with(|| {
        // The daemon takes over its seed.
        let site = site_of_today();
        site.host("mx2").wait_until_it_shares();
        let named = sharing("node = \"mx1\"", "info");
        let mut daemon = Daemon::start(&engine, &named)?;
        wait_until_it_shares(&daemon.greygate)?;
        daemon.greygate.kill()?;
        daemon.greygate.resume(&engine.namespace)?;
        wait_until_it_shares(&daemon.greygate)?;
        // It looks for another's sign from its second one on.
        signs_are_given(&engine, 3)?;
        assert_eq!(daemon.said(&["cluster-namesake"]), [0]);

        let mx1 = site.host("mx1");
        mx1.wait_until_it_shares();
        daemon.wait_for_word("cluster-namesake")?;
        signs_are_given(&engine, 6)?;
        assert_eq!(daemon.said(&["cluster-namesake"]), [1]);
        Ok(())
    })
}

#[test]
fn what_an_engine_does_not_take_and_what_is_no_record_is_said_once() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let engine = Engine::start(&[]);
    engine.with(|| {
        // The daemon takes over its seed, so that it knows the daemon's keys.
        let site = site_of_today();
        let [mx1] = site.hosts();
        let daemon = Daemon::start(&engine, &sharing("", "info"))?;
        wait_until_it_shares(&daemon.greygate)?;
        for recipient in ["one@here.example", "two@here.example"] {
            let attempt = Attempt {
                client_name: b"",
                recipient: recipient.as_bytes(),
                ..ATTEMPT
            };
            for key in mx1.cluster.missing(&attempt, site.clock.now()) {
                redis::cmd("LPUSH")
                    .arg(name_of(key))
                    .arg("mine")
                    .exec(&mut connect())
                    .expect("it is free");
            }
            mail_flows(recipient);
        }
        daemon.wait_for_metric("greygate_cluster_foreign_total", 2.0)?;
        daemon.wait_for_word("cluster-foreign")?;
        assert_eq!(daemon.said(&["cluster-foreign"]), [1]);

        assert_eq!(engine.say(&["config", "set", "maxmemory", "1"]), "OK");
        mail_flows("three@here.example");
        // Tried each second.
        daemon.wait_for_metric("greygate_cluster_untold_total", 6.0)?;
        daemon.wait_for_word("cluster-untold")?;
        assert_eq!(daemon.said(&["cluster-untold"]), [1]);
        let status = daemon.greygate.run(&["status"])?;
        assert!(status.contains("does not take"), "{status}");
        assert_eq!(engine.say(&["config", "set", "maxmemory", "0"]), "OK");
        interrupt::wait_for("it to be content", PATIENCE, || {
            let status = daemon.greygate.run(&["status"])?;
            Ok((!status.contains("does not take")).then_some(()))
        })
    })
}

#[test]
fn password_is_in_no_answer_no_line_of_the_log_and_no_file() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let engine = Engine::start(&["--requirepass", SECRET]);
    engine.with(|| {
        let outside = TempDir::new().map_err(Error::io("making a directory"))?;
        let file = outside.path().join("password");
        fs::write(&file, format!("{SECRET}\n")).map_err(Error::io("writing the password"))?;
        let in_file = format!("password_file = {:?}", file.display().to_string());
        for access in [format!("password = {SECRET:?}"), in_file] {
            let mut daemon = Daemon::start(&engine, &sharing(&access, "debug"))?;
            wait_until_it_shares(&daemon.greygate)?;
            mail_flows("r@here.example");
            daemon.keeps_the_secret()?;
            // A reload tells what has changed.
            let renewed = sharing(&format!("password = \"{SECRET}0\""), "debug");
            daemon.greygate.reload(&[&renewed])?;
            interrupt::wait_for("the reload", PATIENCE, || {
                let log = daemon.greygate.log();
                Ok(log.contains("reloaded").then_some(()))
            })?;
            daemon.keeps_the_secret()?;
            daemon.greygate.stop()?;
            daemon.keeps_the_secret_on_disk();
        }
        Ok(())
    })
}

#[test]
fn password_that_is_wrong_or_written_wrong_is_not_shown() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let engine = Engine::start(&["--requirepass", "what-it-is"]);
    engine.with(|| {
        let wrong = format!("password = {SECRET:?}");
        let daemon = Daemon::start(&engine, &sharing(&wrong, "debug"))?;
        interrupt::wait_for("it to be alone", PATIENCE, || {
            Ok(state(&daemon.greygate)?.get("alone").map(drop))
        })?;
        mail_flows("r@here.example");
        daemon.keeps_the_secret()?;
        for written in [
            format!("servers = [\"redis://greygate:{SECRET}@127.0.0.1\"]"),
            format!("servers = \"redis://greygate:{SECRET}@127.0.0.1\""),
            format!("password = [{SECRET:?}]"),
            format!("password = {SECRET}"),
            format!("password = \"{SECRET}"),
            format!("password {SECRET:?}"),
            format!("passwort = {SECRET:?}"),
        ] {
            let configuration = daemon.directory.path().join("greygate.toml");
            fs::write(&configuration, format!("[cluster]\n{written}\n"))
                .map_err(Error::io("writing the configuration"))?;
            let checked = daemon.greygate.run(&["check-config"]);
            let problem = checked.expect_err("it is illegal").chain();
            assert!(!problem.contains(SECRET), "{problem}");
        }
        Ok(())
    })
}

impl<'e> Daemon<'e> {
    /// Starts one where the engine is on loopback.
    fn start(engine: &'e Engine, configuration: &str) -> Result<Self, Error> {
        let directory = TempDir::new().map_err(Error::io("making a directory"))?;
        let greygate = Greygate::start(&engine.namespace, directory.path(), &[configuration])?;
        Ok(Self {
            greygate,
            engine,
            directory,
        })
    }

    /// How often each word stands in the log.
    fn said(&self, words: &[&str]) -> Vec<usize> {
        let log = self.greygate.log();
        words.iter().map(|it| log.matches(it).count()).collect()
    }

    /// The log is written by a thread of its own.
    fn wait_for_word(&self, word: &str) -> Result<(), Error> {
        interrupt::wait_for(word, PATIENCE, || {
            Ok(self.greygate.log().contains(word).then_some(()))
        })
    }

    fn wait_for_metric(&self, name: &str, least: f64) -> Result<(), Error> {
        interrupt::wait_for(name, PATIENCE, || {
            let value = self.greygate.metric(&self.engine.namespace, name)?;
            Ok((value >= least).then_some(()))
        })
    }

    /// Whatever it is asked, and whatever it has logged, the password is not in it.
    fn keeps_the_secret(&self) -> Result<(), Error> {
        let greygate = &self.greygate;
        for words in [
            &["status"][..],
            &["status", "--json"],
            &["cluster", "status"],
            &["cluster", "status", "--json"],
            &["check-config"],
            &["check-config", "--json"],
        ] {
            let answer = greygate.run(words)?;
            assert!(!answer.contains(SECRET), "{words:?}: {answer}");
        }
        let page = greygate.metrics(&self.engine.namespace)?;
        let log = greygate.log();
        assert!(!page.contains(SECRET) && !log.contains(SECRET), "{log}");
        Ok(())
    }

    fn keeps_the_secret_on_disk(&self) {
        for file in files_under(&self.directory.path().join("state")) {
            let bytes = fs::read(&file).expect("it is ours");
            let has_it = bytes
                .windows(SECRET.len())
                .any(|it| it == SECRET.as_bytes());
            assert!(!has_it, "{}", file.display());
        }
    }
}

/// A mail that was never seen is deferred, where the daemon is on loopback.
pub(crate) fn mail_flows(recipient: &str) {
    let milter = Endpoint::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 8_892)));
    let mut mta = Mta::open(&milter, ATTEMPT.client).expect("it listens");
    mta.mail("s@sender.example").expect("held");
    let answer = mta.rcpt(recipient).expect("an answer");
    assert!(answer.is_deferral(), "{answer:?}");
    mta.quit().expect("a clean end");
}

/// Waits until all hosts together have signed in so many times more, where they do nothing else.
fn signs_are_given(engine: &Engine, times: u64) -> Result<(), Error> {
    let given = || {
        let told = engine.say(&["info", "commandstats"]);
        let given = told
            .lines()
            .find_map(|it| it.strip_prefix("cmdstat_hset:calls="));
        let given = given.and_then(|it| it.split(',').next()?.parse().ok());
        given.unwrap_or(0_u64)
    };
    let before = given();
    interrupt::wait_for("hosts to sign in", PATIENCE, || {
        Ok((given() >= before + times).then_some(()))
    })
}

/// Whether it shares, as `cluster status --json` says.
pub(crate) fn state(greygate: &Greygate) -> Result<Value, Error> {
    Ok(greygate.ask(&["cluster", "status"])?["state"].clone())
}

pub(crate) fn wait_until_it_shares(greygate: &Greygate) -> Result<(), Error> {
    interrupt::wait_for("it to share", PATIENCE, || {
        Ok((state(greygate)? == "sharing").then_some(()))
    })
}

/// Hosts by the same clock as the daemon.
pub(crate) fn site_of_today() -> Site {
    let site = Site::new();
    let since = SystemClock.now().since(TestClock::START);
    site.clock.advance(since);
    site
}

/// A configuration that shares through the engine, with these keys of `[cluster]`.
pub(crate) fn sharing(keys: &str, level: &str) -> String {
    sharing_through(format_args!("127.0.0.1:{PORT}"), keys, level)
}

fn sharing_through(server: impl Display, keys: &str, level: &str) -> String {
    format!("[cluster]\nservers = [\"{server}\"]\n{keys}\n[log]\nlevel = \"{level}\"\n")
}

fn files_under(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("it is there");
    let paths = entries.map(|entry| entry.expect("it is ours").path());
    paths.filter(|it| it.is_file()).collect()
}

/// A number, so that it is one without quotes, too.
const SECRET: &str = "471147114711";

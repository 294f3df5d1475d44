//! A host that has been running by itself and is to share from now on: `greygate serve --discard-local`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use greygate::clock::Clock as _;
use greygate::policy::SentencedClient;
use support::Error;
use support::greygate::{Greygate, binary};
use support::interrupt;
use tempfile::TempDir;

use crate::daemon::{mail_flows, sharing, site_of_today, state, wait_until_it_shares};
use crate::engine::{Engine, equipment};
use crate::hosts::{PATIENCE, block, client};

#[test]
fn host_with_a_seed_of_its_own_begins_anew_when_it_can_and_loses_nothing() -> Result<(), Error> {
    support::needs!(equipment(), binary());
    let directory = TempDir::new().map_err(Error::io("making a directory"))?;
    let remembered = directory.path().join("state");
    let mut engine = Engine::start(&[]);
    engine.redis.kill()?;
    let mut greygate =
        Greygate::start(&engine.namespace, directory.path(), &[&sharing("", "info")])?;
    greygate.run(&["punish", OWN, "--for", "1h"])?;
    greygate.stop()?;
    let own = memory(&remembered);
    assert!(own.len() > 1, "a seed and more: {:?}", own.keys());

    // Nobody answers; then nobody shares yet.
    for why in ["cannot take over", "no host shares yet"] {
        let error = greygate.resume_with(&engine.namespace, BEGIN_ANEW);
        let error = error.expect_err("it has nothing to begin with").chain();
        let is_told = error.contains(why) && error.contains("nothing was discarded");
        assert!(is_told, "{why}: {error}");
        assert_eq!(memory(&remembered), own, "{why}");
        if engine.redis.pid().is_none() {
            engine.redis.resume(&engine.namespace)?;
        }
    }

    let site = site_of_today();
    let [mx1] = engine.with(|| site.hosts());
    greygate.resume(&engine.namespace)?;
    interrupt::wait_for("it to be refused", PATIENCE, || {
        let state = state(&greygate)?;
        let why = state["refused"].as_str().map(str::to_owned);
        Ok(why.filter(|it| it.contains("--discard-local")))
    })?;
    engine.with(|| mail_flows("r@here.example"));
    greygate.stop()?;
    let own = memory(&remembered);

    greygate.resume_with(&engine.namespace, BEGIN_ANEW)?;
    wait_until_it_shares(&greygate)?;
    let aside = fs::read_dir(&remembered)
        .map_err(Error::io("reading the state"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| name(path).starts_with("discarded-"));
    let aside = aside.expect("what it had is put aside");
    assert_eq!(memory(&aside), own, "whole");
    // Once more it has nothing to discard, and without the word it shares, too.
    greygate.stop()?;
    greygate.resume_with(&engine.namespace, BEGIN_ANEW)?;
    wait_until_it_shares(&greygate)?;
    greygate.stop()?;
    greygate.resume(&engine.namespace)?;
    wait_until_it_shares(&greygate)?;
    let log = greygate.log();
    assert_eq!(log.matches("cluster-discarded").count(), 1, "{log}");

    mx1.store
        .punish(block(&site, client()))
        .expect("there is room");
    interrupt::wait_for("it to hear of a sentence", PATIENCE, || {
        let listed = greygate.run(&["list", "sentences"])?;
        assert!(!listed.contains(OWN), "that was discarded: {listed}");
        Ok(listed.contains("192.0.2.7").then_some(()))
    })?;
    greygate.run(&["punish", OWN, "--for", "1h"])?;
    let theirs = SentencedClient::of(OWN.parse().expect("an address"));
    interrupt::wait_for("the others to hear of one", PATIENCE, || {
        let sentences = mx1.store.sentences(site.clock.now());
        Ok(sentences.iter().any(|it| it.client == theirs).then_some(()))
    })
}

/// What a host knows: its seed, its snapshots and its journal, with their bytes.
fn memory(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("it is there");
    let paths = entries.map(|entry| entry.expect("it is ours").path());
    let memory = paths.filter(|path| {
        let is_one = |it: &&str| name(path).starts_with(it);
        ["seed", "snapshot", "journal-"].iter().any(is_one)
    });
    memory
        .map(|path| (name(&path), fs::read(&path).expect("it is ours")))
        .collect()
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

const BEGIN_ANEW: &[&str] = &["--discard-local"];
/// Who is sentenced before anything is shared.
const OWN: &str = "192.0.2.99";

//! The harness itself: it takes everything away, whatever happens.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::requirements;
use support::site::Plan;
use support::{Error, interrupt};

use crate::{start, wait_for_turn};

#[test]
fn a_site_leaves_nothing_behind() -> Result<(), Error> {
    support::needs!(crate::equipment());
    let turn = start(&Plan::default())?;
    let traces = turn.site.traces();
    assert!(traces.remaining().len() > 4, "{traces:?}");
    drop(turn);
    assert_eq!(traces.remaining(), Vec::<String>::new());
    Ok(())
}

#[test]
fn an_interrupted_lab_leaves_nothing_behind() -> Result<(), Error> {
    support::needs!(crate::equipment(), requirements::xdp_object());
    let _turn = wait_for_turn();
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::io("starting the lab"))?;
    let prefix = format!("greygate-{}-", lab.id());
    let pid = Pid::from_raw(lab.id().cast_signed());
    let mut lines = BufReader::new(lab.stdout.take().expect("it is piped")).lines();
    let second_scene = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with(" 2. ")));
    assert!(
        second_scene.is_some(),
        "the lab did not reach its second scene"
    );
    assert_ne!(namespaces(&prefix), Vec::<String>::new());

    kill(pid, Signal::SIGINT).map_err(|errno| Error::io("interrupting")(errno.into()))?;
    // Read on, so that it is not held up by a full pipe.
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    let status = interrupt::wait_for("the end of the lab", Duration::from_secs(30), || {
        lab.try_wait().map_err(Error::io("waiting for the lab"))
    })?;
    assert_eq!(status.code(), Some(1), "{rest:?}");
    assert_eq!(namespaces(&prefix), Vec::<String>::new());
    let cleaned = rest
        .iter()
        .any(|line| line.contains("nothing is left behind"));
    assert!(cleaned, "{rest:?}");
    Ok(())
}

fn namespaces(prefix: &str) -> Vec<String> {
    let Ok(directory) = Path::new("/run/netns").read_dir() else {
        return Vec::new();
    };
    let names = directory.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

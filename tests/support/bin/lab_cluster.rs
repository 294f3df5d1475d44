//! The lab of several hosts: three MX hosts, each with a real Postfix and a kernel filter, that share one
//! memory through a Redis cluster of six servers.
//!
//! `cargo xtask lab --cluster` builds what this needs and runs it as root, in namespaces that it makes and
//! takes away again. The exit code is 0 when every line held. The delay is shortened, nothing else.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::error::Error;
use support::hosts::Hosts;
use support::requirements::{self, Missing};
use support::site::Plan;
use support::smtp::Message;
use support::story::{Scene, Story};
use support::{greygate, interrupt, postfix};

const DELAY: Duration = Duration::from_secs(5);
const CONFIGURATION: &str = "[greylist]\ndelay = \"5s\"\n";
/// What a second's promise may take with the commands that look for it.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if let Err(missing) = equipment() {
        eprintln!("the lab needs {missing}");
        return ExitCode::FAILURE;
    }
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe story broke off: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn equipment() -> Result<(), Missing> {
    requirements::network_namespaces()?;
    for program in ["ip", "postfix", "redis-server", "redis-cli"] {
        requirements::program(program)?;
    }
    requirements::xdp_object()?;
    greygate::binary()?;
    Ok(())
}

fn play() -> Result<(), Error> {
    let began = Instant::now();
    let hosts = Hosts::start(&Plan {
        kernel: true,
        tweaks: CONFIGURATION.to_owned(),
        ..Plan::default()
    })?;
    interrupt::wait_for("all hosts to share", PATIENCE, || {
        for host in 0..Hosts::NUMBER {
            if !hosts.is_settled(host)? {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    println!(
        "Three MX hosts on this machine, set up in {:.1?}:",
        began.elapsed()
    );
    println!("  MX 1, 2, 3  Postfix with greygate as its milter, kernel filter on");
    println!("  engine      a Redis cluster: three masters, each with a replica");
    println!("  time        a retry passes after 5 s (by default 3 min)");
    let mut story = Story::default();
    story.scene("one memory", |scene| retry_elsewhere(scene, &hosts))?;
    story.scene("one punishment", |scene| punish(scene, &hosts))?;
    story.scene("one pardon", |scene| forgive(scene, &hosts))?;
    story.print_table();
    Ok(())
}

fn retry_elsewhere(scene: &mut Scene, hosts: &Hosts) -> Result<(), Error> {
    let message = Message::new("bob@sender.example", "one-memory");
    let to = [postfix::address("alice")];
    scene.tries("new mail at MX 1");
    let tried = Instant::now();
    let round = hosts.sites[0].stranger().attempt(&message, &to)?;
    scene.saw(round.outcome());
    scene.holds(
        "it is deferred",
        round.outcome().is_greylisting(),
        round.outcome(),
    )?;
    let left = (DELAY + Duration::from_millis(500)).saturating_sub(tried.elapsed());
    scene.tries(format_args!(
        "the same at MX 2, {:.1} s later",
        (tried.elapsed() + left).as_secs_f32()
    ));
    interrupt::pause(left)?;
    let round = hosts.sites[1].stranger().attempt(&message, &to)?;
    scene.saw(round.outcome());
    scene.holds("it passes", round.is_queued(), round.outcome())
}

fn punish(scene: &mut Scene, hosts: &Hosts) -> Result<(), Error> {
    let client = hosts.sites[0].stranger().source.ip();
    scene.tries(format_args!("greygate punish {client} at MX 1"));
    hosts.sites[0]
        .greygate()
        .run(&["punish", &client.to_string(), "--for", "10m"])?;
    let ordered = Instant::now();
    for host in [1, 2] {
        interrupt::wait_for("the kernel to drop it", PATIENCE, || {
            let sentenced = hosts.sites[host].greygate().sentenced()?;
            Ok(sentenced.contains(&client.to_string()).then_some(()))
        })?;
        scene.saw(format_args!(
            "MX {} has it in its kernel after {:.1?}",
            host + 1,
            ordered.elapsed()
        ));
    }
    let served: Vec<_> = (0..Hosts::NUMBER)
        .filter(|host| hosts.serves(*host, client))
        .collect();
    scene.holds(
        "its SYNs are dropped at MX 1, 2 and 3",
        served.is_empty(),
        format!("{served:?}"),
    )
}

fn forgive(scene: &mut Scene, hosts: &Hosts) -> Result<(), Error> {
    let client = hosts.sites[0].stranger().source.ip();
    scene.tries(format_args!("greygate forgive {client} at MX 3"));
    hosts.sites[2]
        .greygate()
        .run(&["forgive", &client.to_string()])?;
    let ordered = Instant::now();
    for host in 0..Hosts::NUMBER {
        interrupt::wait_for("it to be served again", PATIENCE, || {
            Ok(hosts.serves(host, client).then_some(()))
        })?;
        scene.saw(format_args!(
            "MX {} serves it after {:.1?}",
            host + 1,
            ordered.elapsed()
        ));
    }
    scene.holds("it is free everywhere", true, "")
}

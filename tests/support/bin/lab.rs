//! The lab: greygate's main job, shown on a real Postfix, real packets and a real kernel filter.
//!
//! `cargo xtask lab` builds what this needs and runs it as root. Three network namespaces, a
//! private Postfix and greygate are set up, the scenes are played, and everything is taken away
//! again, also when a scene fails or somebody presses Ctrl-C. The exit code is 0 when every line
//! held. The times of the configuration are shortened, nothing else is different from a real MX.

mod desk;
mod lists;
mod offences;
mod pools;
mod scenes;

use std::process::ExitCode;
use std::time::Instant;

use support::error::Error;
use support::postfix::{DOMAIN, World};
use support::requirements::{self, Missing};
use support::site::{INTERFACES, Plan, Site};
use support::smtp::Message;
use support::story::{Scene, Story};
use support::{greygate, pool, process};

/// The site's times. The delay is longer than the scene of ten mails needs to offend, had they
/// been retries of one message; `scenes` knows it too, and `pools` that of content.
const CONFIGURATION: &str = r#"
[greylist]
delay = "8s"
[content]
delay = "3s"
[punish]
rapid_interval = "3s"
rapid_retries = 5
rapid_span = "4s"
sentence = "10m"
warmup = "0s"
grace = "0s"
"#;

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
    requirements::program("ip")?;
    requirements::program("postfix")?;
    requirements::xdp_object()?;
    greygate::binary()?;
    Ok(())
}

fn play() -> Result<(), Error> {
    let mut mailboxes = vec!["alice".to_owned(), "oncall".to_owned()];
    mailboxes.extend(lists::mailboxes());
    let mut world = offences::world();
    world.names.extend(pool::names());
    let began = Instant::now();
    let mut site = Site::start(&Plan {
        world: World { mailboxes, ..world },
        strangers: offences::addresses().chain(pool::addresses()).collect(),
        kernel: true,
        tweaks: CONFIGURATION.to_owned(),
        ..Plan::default()
    })?;
    println!(
        "A mail site on this machine, set up in {:.1?}:",
        began.elapsed()
    );
    println!(
        "  MX host     mx.{DOMAIN}, Postfix with greygate as its milter, {INTERFACES:?} guarded"
    );
    println!("  client      {}", site.client().source.ip());
    println!(
        "  stranger    {}, on another cable",
        site.stranger().source.ip()
    );
    println!(
        "  neighbour   {}, on the stranger's cable",
        site.neighbour().source.ip()
    );

    println!("  XDP         {}", filter_modes(&site)?);
    println!("  times       shortened: a retry passes after 8 s (by default 3 min), what comes");
    println!("              again from another network 3 s after it was read (by default 1 min);");
    println!(
        "              5 rapid retries over 4 s are an offence (by default over 30 s); blocks"
    );
    println!("              are carried out at once (by default after a week of history)");

    let mut story = Story::default();
    let told = tell(&mut story, &mut site);
    if let Err(error) = &told
        && !matches!(error, Error::Interrupted)
    {
        println!("\nThe last lines of Postfix's log:");
        println!("{}", process::tail(&site.postfix().log_file(), 15));
        println!("\nThe last lines of greygate's log:");
        println!("{}", process::tail(&site.greygate().log_file(), 15));
    }
    let cleaned = story.scene("everything is taken away", |scene| take_away(scene, site));
    story.print_table();
    told.and(cleaned)
}

/// The mode the kernel filter has obtained on each interface; an error when it guards none.
fn filter_modes(site: &Site) -> Result<String, Error> {
    let status = site.greygate().ask(&["xdp", "status"])?;
    let interfaces = status["filter"]["interfaces"].as_array();
    let modes = interfaces.into_iter().flatten().map(|interface| {
        let mode = interface["mode"]
            .as_str()
            .filter(|mode| *mode != "detached")?;
        Some(format!("{mode} on {}", interface["name"].as_str()?))
    });
    match modes.collect::<Option<Vec<_>>>() {
        Some(modes) if modes.len() == INTERFACES.len() => Ok(modes.join(", ")),
        _ => Err(Error::unexpected("the kernel filter should be on", status)),
    }
}

fn tell(story: &mut Story, site: &mut Site) -> Result<(), Error> {
    let bob = Message::new("bob@sender.example", "the-first-message");
    story.scene("a first attempt", |scene| {
        scenes::first_attempt(scene, site, &bob)
    })?;
    story.scene("the same message after the delay", |scene| {
        scenes::retry(scene, site, &bob)
    })?;
    let hammer = story.scene("a client retries every second", |scene| {
        scenes::hammering(scene, site)
    })?;
    story.scene("ten different mails in ten seconds", |scene| {
        scenes::ten_mails(scene, site)
    })?;
    story.scene("45 recipients, 20 of them pass already", |scene| {
        lists::many_recipients(scene, site)
    })?;
    story.scene("a pool of fifteen addresses in fifteen networks", |scene| {
        pools::pool(scene, site)
    })?;
    story.scene("a bounce, and callers who only ask", |scene| {
        pools::null_sender(scene, site)
    })?;
    story.scene("other clients at the same moment", |scene| {
        scenes::others_are_served(scene, site)
    })?;
    story.scene("another port of the MX host", |scene| {
        scenes::other_port(scene, site)
    })?;
    story.scene("greygate forgive", |scene| {
        scenes::forgive(scene, site, &hammer)
    })?;
    story.scene("seven bots, one HELO argument, one recipient", |scene| {
        offences::botnet(scene, site)
    })?;
    story.scene("seven machines of one cloud", |scene| {
        offences::cloud(scene, site)
    })?;
    story.scene("retries after a permanent failure", |scene| {
        offences::after_rejection(scene, site)
    })?;
    story.scene("all of it on one screen", |scene| {
        desk::one_screen(scene, site)
    })?;
    story.scene("greygate is restarted", |scene| {
        scenes::restart(scene, site)
    })?;
    story.scene("the log of this lab, replayed", |scene| {
        desk::rehearsal(scene, site)
    })
}

fn take_away(scene: &mut Scene, site: Site) -> Result<(), Error> {
    let traces = site.traces();
    scene.tries(format!(
        "ending processes {:?}, removing {} namespaces and {}",
        traces.processes,
        traces.namespaces.len(),
        traces.directory.display()
    ));
    drop(site);
    let remaining = traces.remaining();
    scene.saw(format!("{} things left", remaining.len()));
    scene.holds(
        "nothing is left behind",
        remaining.is_empty(),
        remaining.join(", "),
    )
}

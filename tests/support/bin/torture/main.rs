//! The torture run: the real daemon under load and under every fault at once, and the books checked.
//!
//! `cargo xtask torture` builds what this needs and runs it as root. From one seed follows which fault
//! comes when; what the senders do meanwhile follows from it too, but not to the millisecond. The exit
//! code is 0 when the books balance. What the run can show and what not is in decision 33.

mod books;
mod chance;
mod chronicle;
mod cut;
mod disk;
mod faults;
mod ground;
mod kernel;
mod load;
mod measure;
mod peers;
mod report;
mod rules;
mod sender;
mod trace;
mod tuple;
mod visit;

use std::{
    process::{Command, ExitCode},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ::greygate::milter::Endpoint;
use clap::{Parser, ValueEnum as _};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use support::{
    bench::progress::Progress,
    error::Error,
    greygate,
    netns::Namespace,
    process,
    requirements::{self, Missing},
};

use books::Books;
use chance::Chance;
use chronicle::Chronicle;
use faults::{Conductor, Fault};
use ground::{Ground, METRICS, MILTER, Plan, SENTENCED};
use load::{Door, Stop};
use measure::Held;
use report::Report;
use sender::Desk;

/// Runs the daemon under load and faults, and checks the books.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long faults come
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with = "times")]
    minutes: u64,
    /// What the faults follow from; the clock's if it is not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only these faults
    #[arg(long, value_name = "FAULT,...", value_delimiter = ',')]
    only: Vec<Fault>,
    /// So many faults instead of minutes, one every two seconds
    #[arg(long, value_name = "N")]
    times: Option<u64>,
    /// How old what a kill or a cut loses may be, in milliseconds
    #[arg(long, value_name = "MS")]
    bound: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(missing) = equipment() {
        eprintln!("the torture run needs {missing}");
        return ExitCode::FAILURE;
    }
    match prepare().and_then(|()| torture(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nthe torture run broke off: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn equipment() -> Result<(), Missing> {
    requirements::network_namespaces()?;
    for program in ["ip", "bpftool", "strace", "cc"] {
        requirements::program(program)?;
    }
    requirements::xdp_object()?;
    greygate::binary()?;
    Ok(())
}

/// Mounts of this process's own, and as many descriptors as the idle connections take, here and in the
/// daemon.
fn prepare() -> Result<(), Error> {
    let errno = |what: &'static str| move |errno: nix::Error| Error::io(what)(errno.into());
    unshare(CloneFlags::CLONE_NEWNS).map_err(errno("leaving the mount namespace"))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(errno("keeping mounts to ourselves"))?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(errno("asking for limits"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(errno("raising RLIMIT_NOFILE"))?;
    if most < DESCRIPTORS {
        let why = format!("a process may have {most} descriptors at most here");
        return Err(Error::unexpected(
            format!("the idle connections take {DESCRIPTORS}"),
            why,
        ));
    }
    Ok(())
}

/// Whether the books balance.
fn torture(arguments: &Arguments) -> Result<bool, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = arguments
        .seed
        .unwrap_or_else(|| now.map_or(1, |it| it.as_secs()));
    let chance = Chance::new(seed);
    let faults = match &arguments.only[..] {
        [] => Fault::value_variants().to_vec(),
        only => only.to_vec(),
    };
    let plan = Plan {
        traces: faults.contains(&Fault::PowerCut),
        journal: has_journal()?,
    };
    let bound = arguments.bound.map_or_else(
        || if plan.journal { JOURNALED } else { SNAPSHOTS },
        Duration::from_millis,
    );
    eprintln!(
        "seed {seed}: {} kinds of fault, nothing older than {bound:?} may be lost",
        faults.len()
    );
    let mx = Namespace::create("mx")?;
    let mut ground = Ground::lay(&mx, plan)?;
    let books = Books::new(seed);
    let chronicle = Chronicle::new();
    let began = Instant::now();
    let held = mx.run(|| {
        let endpoint = Endpoint::Inet(MILTER);
        let desk = Desk {
            books: &books,
            chronicle: &chronicle,
            endpoint: &endpoint,
        };
        run(arguments, &faults, &mut ground, &mx, desk, &chance, bound)
    });
    if let Err(error) = &held {
        let log = process::tail(&ground.greygate.log_file(), 20);
        eprintln!(
            "{}\nthe last lines of the daemon's log:\n{log}",
            error.chain()
        );
    }
    let is_good = held.is_ok() && books.violations().is_empty();
    let report = Report {
        books: &books,
        seed,
        bound,
        took: began.elapsed(),
        pace: ground.pace(),
        held: held.as_ref().ok().cloned(),
        logs: (!is_good).then(|| ground.keep_logs()),
    };
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        println!("{report}");
    }
    drop(report);
    drop(ground);
    held.map(|_| is_good)
}

/// The load and the faults, then quiet, and what is left.
fn run(
    arguments: &Arguments,
    faults: &[Fault],
    ground: &mut Ground,
    mx: &Namespace,
    desk: Desk<'_>,
    chance: &Chance,
    bound: Duration,
) -> Result<(Held, Held), Error> {
    let (binary, socket) = ground.door();
    let door = Door {
        binary: &binary,
        socket: &socket,
        metrics: METRICS,
    };
    let stop = Stop::default();
    let strangers = Arc::clone(&ground.strangers);
    let listener = kernel::listen()?;
    // For longer than those whom the load sentences: after half an hour these are more than the kernel's table
    // holds, and who has the least time left makes way.
    let ordered = door.ask(&["punish", &SENTENCED.to_string(), "--for", "14d"]);
    ordered.map_err(Error::io("sentencing"))?;
    let mut conductor = Conductor::new(desk, ground, mx, door, chance.branch(1), bound);
    let conducted = thread::scope(|scope| {
        for thread in 0..SENDERS {
            let chance = chance.branch(100 + thread);
            let stop = &stop;
            scope.spawn(move || load::senders(desk, stop, chance));
        }
        scope.spawn(|| load::readers(desk, door, &stop));
        scope.spawn(|| load::operator(desk, door, &stop, chance.branch(2)));
        scope.spawn(|| kernel::accept(&listener, &stop));
        scope.spawn(|| kernel::visit(desk, &strangers, &stop));
        let conducted = conduct(arguments, faults, &mut conductor);
        // What was in doubt at the last fault is asked for once more.
        let relieved = conducted.and_then(|()| {
            conductor.relieve(true)?;
            thread::sleep(LAST_RETRIES);
            conductor.look()
        });
        stop.now();
        relieved
    });
    conducted?;
    take_stock(ground, mx, desk)
}

/// Fault after fault, as chance has it.
fn conduct(
    arguments: &Arguments,
    faults: &[Fault],
    conductor: &mut Conductor<'_>,
) -> Result<(), Error> {
    thread::sleep(WARM_UP);
    let until = Instant::now() + Duration::from_secs(arguments.minutes * 60);
    // Each of them once, then as chance has it. An order of its own: how much chance a fault needs
    // depends on what the daemon did.
    let mut order = conductor.chance.branch(1);
    let mut first = faults.to_vec();
    order.shuffle(&mut first);
    let progress = Progress::new(arguments.times.unwrap_or(arguments.minutes * 60));
    let began = Instant::now();
    let (mut done, mut shown) = (0, 0);
    loop {
        let goes_on = match arguments.times {
            Some(times) => done < times,
            None => Instant::now() < until,
        };
        if !goes_on {
            return Ok(());
        }
        let pause = match arguments.times {
            Some(_) => order.within(1_500..2_400),
            None => order.within(100..2_500),
        };
        let next = Instant::now() + Duration::from_millis(pause);
        while Instant::now() < next {
            conductor.relieve(false)?;
            conductor.look()?;
            thread::sleep(Duration::from_millis(50));
        }
        let drawn = faults[order.index(faults.len())];
        let fault = first.pop().unwrap_or(drawn);
        conductor.perform(fault)?;
        done += 1;
        let passed = arguments
            .times
            .map_or_else(|| began.elapsed().as_secs(), |_| done);
        while shown < passed {
            shown += 1;
            progress.step(fault.name());
        }
    }
}

/// After a quiet moment: what the daemon holds, beside one that has just started; and what is left once
/// it has ended.
fn take_stock(ground: &mut Ground, mx: &Namespace, desk: Desk<'_>) -> Result<(Held, Held), Error> {
    let violate = |what: &str| desk.books.violate(desk.chronicle, Instant::now(), what);
    let held = |ground: &Ground| {
        thread::sleep(QUIET);
        let pid = ground.greygate.pid().unwrap_or_default();
        Held::at_rest(pid).map_err(Error::io("measuring the daemon"))
    };
    let aged = held(ground)?;
    let ended = ground.end(true)?;
    if !ended.success() {
        violate(&format!("the daemon ended with {ended}"));
    }
    ground.resume(mx)?;
    let fresh = held(ground)?;
    if let Some(leaks) = aged.leaked_over(&fresh) {
        violate(&format!(
            "a daemon after the run holds {leaks} more than a new one"
        ));
    }
    let ended = ground.end(true)?;
    if !ended.success() {
        violate(&format!("the daemon ended with {ended}"));
    }
    ground.check_model(false)?;
    kernel::unload(ground)?;
    let remains = kernel::remains(ground, mx)?;
    if !remains.is_empty() {
        violate(&format!("the kernel still has {remains:?}"));
    }
    Ok((aged, fresh))
}

/// Whether this daemon knows `[store] journal`.
fn has_journal() -> Result<bool, Error> {
    let binary = greygate::binary().map_err(|missing| Error::unexpected("it needs", missing))?;
    let text = process::run(Command::new(binary).arg("default-config"))?;
    Ok(text.contains("#journal = "))
}

/// The idle connections, with room for all else.
const DESCRIPTORS: u64 = 12_000;
/// Threads of senders.
const SENDERS: u64 = 4;
/// What the journal promises, and what the machine may add: its thread is not the only one here.
const JOURNALED: Duration = Duration::from_millis(1_250);
/// Without a journal: the interval of snapshots, and the second in which the keeper looks at the clock.
const SNAPSHOTS: Duration = Duration::from_millis(6_500);
/// Load alone, before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long retries go on after the last fault.
const LAST_RETRIES: Duration = Duration::from_secs(4);
/// Until what was under way has ended.
const QUIET: Duration = Duration::from_secs(2);

//! Measures greygate's kernel program and its tables, beside xdp-filter and nftables.
//!
//! `cargo xtask bench kernel` builds and runs it; the figures and what they mean are in
//! `docs/benchmarks.md`. Exit code 1 when a figure could not be had, not when one misses its target.

mod cost;
mod error;
mod filter;
mod frames;
mod meter;
mod nftables;
mod people;
mod report;
mod xdp_filter;
mod yard;

use std::{env, path::PathBuf, process::ExitCode};

use clap::Parser;
use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{Counter, Settings},
    policy::SentenceLevel::{Block, Rate},
};
use support::{Error, requirements};

use cost::Case;
use filter::Workshop;
use meter::Meter;
use people::{FEW, People, host, network};
use report::{Report, Target};
use xdp_filter::XdpFilter;
use yard::Yard;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure() {
        Ok(report) => {
            if arguments.json {
                println!("{:#}", report.json());
            } else {
                println!("{report}");
            }
            if report.is_whole() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("error: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<Report, Error> {
    let absent = |why| Error::unexpected("what the benchmark needs", why);
    requirements::root().map_err(absent)?;
    let object = requirements::xdp_object().map_err(absent)?;
    let programs = env::var_os("GREYGATE_BENCH_OBJECT")
        .map_or_else(|| object.with_file_name("greygate-bench.o"), PathBuf::from);
    let yard = Yard::new()?;
    let mut meter = Meter::load(&programs)?;
    let people = People::new();
    let mut report = Report::default();
    costs(
        &Workshop {
            yard: &yard,
            object,
        },
        &mut meter,
        &people,
        &mut report,
    )?;
    Ok(report)
}

fn costs(
    workshop: &Workshop<'_>,
    meter: &mut Meter,
    people: &People,
    report: &mut Report,
) -> Result<(), Error> {
    let now = SystemClock.now();
    let few = |capacity| Settings {
        capacity,
        ..Settings::default()
    };
    let mut small = workshop.open("small", few(16_384))?;
    small.sentence(
        people.hosts_v4[..FEW]
            .iter()
            .map(|it| host(*it, Block, now)),
    )?;
    small.sentence(
        people.in_networks_v6[..FEW]
            .iter()
            .map(|it| network(*it, Block, now)),
    )?;
    let mut rated = workshop.open("rated", few(16_384))?;
    rated.sentence(people.hosts_v4[..FEW].iter().map(|it| host(*it, Rate, now)))?;
    let mut big = workshop.open("big", few(1_250_000))?;
    big.sentence(people.hosts_v4.iter().map(|it| host(*it, Block, now)))?;
    big.sentence(
        people
            .in_networks_v6
            .iter()
            .map(|it| network(*it, Block, now)),
    )?;
    big.sentence(
        people
            .in_networks_v4
            .iter()
            .map(|it| network(*it, Block, now)),
    )?;
    let peer = XdpFilter::load(workshop.yard, meter, &people.hosts_v4[..FEW])
        .map_err(|error| error.chain());
    let cases = [
        Case {
            what: "data segment to port 25",
            frame: &frames::data_v4(),
            greygate: &big,
            counter: Counter::NotSyn,
            beside: None,
            target: Some(Target::AtMost(10.0)),
        },
        Case {
            what: "SYN of a clean client, 1 M sentences",
            frame: &frames::syn_v4(),
            greygate: &big,
            counter: Counter::Clean,
            beside: None,
            target: Some(Target::AtMost(60.0)),
        },
    ];
    meter.ipv4_sources(&people.clean_v4)?;
    for case in cases {
        report.push(case.measure(meter)?);
        eprintln!("{report}");
    }
    meter.ipv4_sources(&people.hosts_v4[..FEW])?;
    let cases = [Case {
        what: "SYN of a sentenced client, 10,000 sentences",
        frame: &frames::syn_v4(),
        greygate: &small,
        counter: Counter::Blocked,
        beside: Some(&peer),
        target: Some(Target::Below("xdp-filter")),
    }];
    for case in cases {
        report.push(case.measure(meter)?);
        eprintln!("{report}");
    }
    meter.ipv4_sources(&people.hosts_v4)?;
    let cases = [Case {
        what: "SYN of a sentenced client, 1 M sentences",
        frame: &frames::syn_v4(),
        greygate: &big,
        counter: Counter::Blocked,
        beside: None,
        target: Some(Target::AtMost(450.0)),
    }];
    for case in cases {
        report.push(case.measure(meter)?);
        eprintln!("{report}");
    }
    let _ = rated;
    Ok(())
}

//! Puts load on a milter and says what a session costs it.
//!
//! `milter-load serve ENDPOINT` is greygate's milter alone, with a judge that defers everything: what
//! remains when no tuple is looked up. It ends when its standard input does.
//! `milter-load run ENDPOINT` measures any milter, `milter-load idle ENDPOINT` what an open session
//! holds of its memory.

use std::{
    error::Error,
    io::{self, Read},
    net::Ipv4Addr,
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use clap::{Parser, Subcommand};
use greygate::{
    clock::SystemClock,
    milter::{Endpoint, Metrics, Server, Settings},
    policy::{
        Attempt, DeferReason, Judge, Judgement, MessageHasher, Policy, Seed, Timestamp, Verdict,
    },
};
use support::{
    load::{self, Load},
    mta::Mta,
};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Run sessions and print their rate and cost.
    Run {
        endpoint: Endpoint,
        /// Sessions in all.
        #[arg(long, default_value_t = 20_000)]
        sessions: u32,
        /// Sessions at once.
        #[arg(long, default_value_t = 32)]
        parallel: u32,
        /// The milter's process, whose CPU time is measured.
        #[arg(long)]
        pid: Option<u32>,
    },
    /// Hold sessions open after RCPT and print what each takes of the milter's memory.
    Idle {
        endpoint: Endpoint,
        /// Sessions to hold.
        #[arg(long, default_value_t = 4_000)]
        sessions: u32,
        /// The milter's process.
        #[arg(long)]
        pid: u32,
    },
    /// Be a milter that defers everything.
    Serve {
        endpoint: Endpoint,
        /// Worker threads; 0 means one for every two cores.
        #[arg(long, default_value_t = 0)]
        workers: usize,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Arguments::parse().role {
        Role::Run {
            endpoint,
            sessions,
            parallel,
            pid,
        } => {
            let load = Load {
                first: 0,
                sessions,
                parallel,
                pid,
            };
            run(&endpoint, load)
        }
        Role::Idle {
            endpoint,
            sessions,
            pid,
        } => idle(&endpoint, sessions, pid),
        Role::Serve { endpoint, workers } => serve(endpoint, workers),
    }
}

fn run(endpoint: &Endpoint, load: Load) -> Result<(), Box<dyn Error>> {
    let outcome = load.run(|number| load::deferred_at_rcpt(endpoint, number))?;
    println!("sessions={} deferred={}", load.sessions, outcome.expected);
    println!("sessions_per_second={:.0}", outcome.rate());
    if let Some(cpu) = outcome.cpu_per_session() {
        println!("server_cpu_us_per_session={cpu:.1}");
    }
    Ok(())
}

fn idle(endpoint: &Endpoint, sessions: u32, pid: u32) -> Result<(), Box<dyn Error>> {
    let open = |count| {
        (0..count)
            .map(|_| {
                let mut mta = Mta::open(endpoint, Ipv4Addr::new(198, 18, 0, 1).into())?;
                mta.mail("someone@sender.example")?;
                mta.rcpt("someone@recipient.example")?;
                Ok(mta)
            })
            .collect::<io::Result<Vec<_>>>()
    };
    // What the first sessions set up once is not the price of one.
    drop(open(64)?);
    thread::sleep(Duration::from_millis(200));
    let before = load::resident(pid)?;
    let held = open(sessions)?;
    let after = load::resident(pid)?;
    let each = after.saturating_sub(before) / u64::from(sessions);
    println!("sessions={} bytes_per_session={each}", held.len());
    Ok(())
}

fn serve(endpoint: Endpoint, workers: usize) -> Result<(), Box<dyn Error>> {
    let settings = Settings {
        listen: vec![endpoint],
        workers,
        ..Settings::default()
    };
    let policy = Arc::new(ArcSwap::from_pointee(Policy::default()));
    let clock = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::default());
    let server = Server::bind(&settings)?.serve(policy, Arc::new(DeferAll), clock, metrics)?;
    for endpoint in server.endpoints() {
        println!("{endpoint}");
    }
    io::stdin().read_to_end(&mut Vec::new())?;
    server.drain();
    Ok(())
}

/// Judges without looking.
struct DeferAll;

impl Judge for DeferAll {
    fn judge(&self, _attempt: &Attempt<'_>, _now: Timestamp) -> Judgement {
        Verdict::Defer(DeferReason::New).into()
    }

    fn turns_away(&self, _: &Attempt<'_>, _: Timestamp) -> bool {
        false
    }

    fn message_hasher(&self) -> MessageHasher {
        Seed::from_bytes([7; Seed::LENGTH]).message_hasher(0)
    }

    fn judge_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) -> Judgement {
        Verdict::Defer(DeferReason::ContentNew).into()
    }

    fn note_held(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content_pass(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_content(&self, _: &Attempt<'_>, _: &MessageHasher, _: Timestamp) {}

    fn note_rejected(&self, _: &Attempt<'_>, _: Timestamp) {}
}

//! Sets up, builds, runs and tests greygate: `cargo xtask TASK`.
//!
//! One file per task; this one only says which there are. What several tasks need lies in
//! [`command`] (running programs), [`workspace`] (where things are), [`toolchain`] (the compiler
//! for the kernel program) and [`packages`] (what the tests need from the distribution).

#![forbid(unsafe_code)]

mod bench;
mod build;
mod ci;
mod command;
mod deny;
mod development;
mod dist;
mod filter;
mod fuzz;
mod image;
mod lab;
mod packages;
mod progress;
mod run;
mod setup;
mod test;
mod toolchain;
mod torture;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use command::Failure;

/// Sets up, builds, runs and tests greygate.
///
/// The daemon needs stable Rust only. The kernel program needs a compiler with `core` for BPF and
/// `bpf-linker`; every task that needs them finds or makes them first and keeps them for the next
/// time.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Find or make the compiler for the kernel program. Every other task does this by itself; run
    /// it alone to see what was chosen and why.
    ///
    /// The order: what `GREYGATE_BPF_RUSTC` names; a nightly of rustup with the component rust-src;
    /// on Debian and Ubuntu a private copy of the distribution's compiler that ships `core` for
    /// BPF. The linker: what `GREYGATE_BPF_LINKER` names; `bpf-linker` on PATH, if it fits; one
    /// built for the compiler.
    #[command(after_help = setup::SETTINGS)]
    Setup,
    /// Build the kernel program (target/bpf/greygate-xdp.o) and the release daemon
    /// (target/release/greygate).
    Build {
        /// Let the kernel program speak through aya-log: for development, never for production
        #[arg(long)]
        debug_log: bool,
    },
    /// Build, then run the daemon in the foreground with a development configuration
    /// (target/run/greygate.toml); Ctrl-C ends it. As root with the kernel filter, otherwise
    /// without.
    ///
    /// Example: `cargo xtask run`, then point a Postfix at it with the line it prints.
    Run {
        /// The interface to filter on; a development configuration uses generic mode on it
        #[arg(long, value_name = "IF", default_value = development::DEFAULT_INTERFACE)]
        iface: String,
        /// Use this configuration instead of the development one
        #[arg(long, value_name = "FILE", conflicts_with = "iface")]
        config: Option<PathBuf>,
    },
    /// Build, then play the whole story in network namespaces with a real Postfix: a first attempt,
    /// a retry, a hammering client, the kernel's answer to it. Needs root.
    Lab {
        /// Three MX hosts instead, that share through a Redis cluster
        #[arg(long)]
        cluster: bool,
    },
    /// Build, then attach the kernel filter so that it outlives this command. Needs root;
    /// `cargo xtask unload` takes it away again.
    Load {
        /// The interface to filter on, in generic mode
        #[arg(long, value_name = "IF", default_value = development::DEFAULT_INTERFACE)]
        iface: String,
    },
    /// Detach the kernel filter that `cargo xtask load` attached, and remove its pins. Needs root.
    Unload,
    /// Run every test, or the suites named. As root on Debian or Ubuntu the packages that are
    /// missing are installed first (no service of theirs is started); otherwise a suite that lacks
    /// something is skipped and says what. The last line is `N passed, N failed, N skipped`.
    ///
    /// With CI=true a skip is a failure. Example: `cargo xtask test unit store`.
    Test {
        /// What to run; all of them when none is named
        #[arg(value_name = "SUITE")]
        suites: Vec<test::Suite>,
    },
    /// Build, then measure greygate beside others of its kind, in namespaces and without touching
    /// the machine's own network. Needs root; the peers' packages are installed when missing.
    ///
    /// Takes some minutes. Fails when a figure could not be had, not when one misses its target.
    /// `all` measures every subject and writes the tables of docs/benchmarks.md anew; a subject that
    /// fails keeps the table of before.
    ///
    /// Example: `cargo xtask bench all --only milter,store --rounds 9`.
    Bench {
        /// What to measure
        #[arg(value_name = "SUBJECT")]
        subject: bench::Subject,
        /// How often each thing is measured; more where the machine is busy
        #[arg(long, value_name = "N", default_value_t = 5)]
        rounds: u32,
        /// Print the table as JSON
        #[arg(long)]
        json: bool,
        /// With `all`: these subjects and no others
        #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
        only: Vec<bench::Subject>,
        /// A milter-greylist to measure greygate beside, where no package has one
        #[arg(long, value_name = "PATH", env = "GREYGATE_MILTER_GREYLIST")]
        milter_greylist: Option<PathBuf>,
    },
    /// Check what is compiled in by deny.toml: licences, bans, sources, and advisories where they can be
    /// fetched; where not, the output says so (docs/supply-chain.md). cargo-deny is compiled, once, when
    /// missing.
    Deny,
    /// Build, then make a Debian package and an archive for other systems (target/dist).
    ///
    /// The package depends on what the program built here needs: built on Debian 12 it installs there
    /// and on what is newer.
    #[command(after_help = dist::SETTINGS)]
    Dist {
        /// The revision of the package, behind the version: a higher one is an upgrade
        #[arg(long, value_name = "N", default_value_t = 1)]
        revision: u32,
    },
    /// Fuzz every parser of what strangers or a broken disk can hand us, or the targets named, and end
    /// with a table (docs/fuzzing.md). A nightly compiler and cargo-fuzz are installed when missing.
    ///
    /// What is found on the way is in target/fuzz; a finding is in tests/fuzz/artifacts and fails the
    /// task. Example: `cargo xtask fuzz milter ledger --seconds 900`.
    Fuzz {
        /// What to fuzz; all of them when none is named
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        /// For how long each is fuzzed
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
        /// Only say which targets there are, and what each holds
        #[arg(long)]
        list: bool,
        /// Take what reaches more into the corpus of the repository
        #[arg(long)]
        keep: bool,
    },
    /// Build, then run the daemon under load and under every fault at once, in namespaces and on a small
    /// disk of its own: kills, power cuts, a full disk, clock steps, foreign programs. Then the books
    /// are checked. Needs root.
    ///
    /// Example: `cargo xtask torture --only power-cut --times 200`. docs/torture.md has the faults and
    /// the books.
    Torture {
        #[command(flatten)]
        arguments: torture::Arguments,
    },
    /// Check the format, the lints, the documentation and what is compiled in, then run every test: what
    /// CI does.
    Ci,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.task.perform() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    fn perform(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Setup => setup::perform()?,
            Self::Build { debug_log } => build::perform(debug_log)?,
            Self::Run { iface, config } => run::perform(&iface, config)?,
            Self::Lab { cluster } => lab::perform(cluster)?,
            Self::Load { iface } => filter::load(&iface)?,
            Self::Unload => filter::unload()?,
            Self::Test { suites } => return test::perform(&suites),
            Self::Torture { arguments } => torture::perform(&arguments)?,
            Self::Bench {
                subject,
                rounds,
                json,
                only,
                milter_greylist,
            } => {
                let settings = bench::Settings {
                    rounds,
                    json,
                    milter_greylist,
                };
                bench::perform(subject, &only, &settings)?;
            }
            Self::Ci => return ci::perform(),
            Self::Deny => deny::perform()?,
            Self::Dist { revision } => dist::perform(revision)?,
            Self::Fuzz {
                targets,
                seconds,
                list,
                keep,
            } => {
                return fuzz::perform(&fuzz::Wish {
                    targets,
                    seconds,
                    list,
                    keep,
                });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

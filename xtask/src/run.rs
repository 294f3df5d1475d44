//! `cargo xtask run`: the daemon in the foreground, with the kernel filter where that is possible.
//!
//! The daemon's pins outlive it, so that a restart keeps the sentences in force. A development daemon must
//! leave nothing: this task stays beside it, hands signals on, and takes the filter away when it has ended.

use std::{
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ExitCode, ExitStatus},
};

use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

use crate::{
    build,
    command::{Failure, Run, is_root},
    development::{self, Filter},
    filter, workspace,
};

pub(crate) fn perform(
    interface: &str,
    configuration: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    let kernel = kernel_program();
    build::daemon(false)?;
    let Some(configuration) = configuration else {
        let filter = if kernel {
            Filter::On(interface)
        } else {
            Filter::Off
        };
        let configuration = development::write(filter)?;
        print_postfix_lines();
        let status = serve(&configuration)?;
        if kernel {
            filter::greygate("unload", &configuration).run()?;
        }
        return Ok(exit_code(status));
    };
    serve(&configuration).map(exit_code)
}

/// Builds the kernel program, or says why the daemon runs without it.
fn kernel_program() -> bool {
    if !is_root() {
        eprintln!("without the kernel filter: attaching it needs root");
        return false;
    }
    match build::object(false) {
        Ok(_) => true,
        Err(failure) => {
            eprintln!("without the kernel filter, because its program cannot be built:\n{failure}");
            false
        }
    }
}

fn print_postfix_lines() {
    println!(
        "\nTo point a Postfix on this machine here, put these lines into its main.cf and run `postfix reload`:\n\n\
         \x20   smtpd_milters = {{ {}, default_action=accept }}\n\
         \x20   milter_connect_macros = j {{daemon_name}} {{daemon_addr}} v\n",
        development::MILTER
    );
}

/// Runs the daemon until it ends; a signal to this task goes on to it once.
fn serve(configuration: &Path) -> Result<ExitStatus, Failure> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD]
        .into_iter()
        .collect();
    signals
        .thread_block()
        .map_err(|errno| not_watched(&errno))?;
    let mut serve = Run::new(workspace::daemon())
        .args(["serve", "--config"])
        .arg(configuration)
        .into_command();
    // Its own process group: Ctrl-C reaches it through us only, not twice.
    let child = serve
        .process_group(0)
        .spawn()
        .map_err(|error| not_watched(&error))?;
    let status = follow(child, &signals);
    signals
        .thread_unblock()
        .map_err(|errno| not_watched(&errno))?;
    status
}

fn follow(mut child: Child, signals: &SigSet) -> Result<ExitStatus, Failure> {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit pid_t"));
    loop {
        if let Some(status) = child.try_wait().map_err(|error| not_watched(&error))? {
            return Ok(status);
        }
        match signals.wait().map_err(|errno| not_watched(&errno))? {
            Signal::SIGCHLD => {}
            // It may have ended meanwhile; then the next turn finds it.
            signal => drop(kill(pid, signal)),
        }
    }
}

/// The daemon's own exit code; a signal counts as a shell counts it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn not_watched(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        "the daemon could not be run",
        error,
        format!(
            "start it by hand: {} serve --config FILE",
            workspace::daemon().display()
        ),
    )
}

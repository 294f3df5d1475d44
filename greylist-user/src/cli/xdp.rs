//! The kernel filter by hand, without a daemon.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{FlushArg, tcflush};
use serde::Serialize;

use super::answer;
use super::failure::Failure;
use super::paper::{Paper, wants_colour};
use crate::admin::{CallError, SentenceLine, XdpStatus};
use crate::config::{self, ConfigError, format_duration};
use crate::kernel::{self, InterfaceStatus, Loaded, Pinned, PinnedSentence};

/// Attaches the filter so that it outlives this command.
pub(super) fn load(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = config::read_anywhere(file)?.xdp;
    let loaded = kernel::load(&settings).map_err(Failure::of)?;
    say(json, &loaded, || words_of(&loaded))
}

/// Attaches the filter, and keeps it only if somebody says so in `time`: who has locked himself out
/// cannot. The program is held by this process alone meanwhile, so that whatever ends it detaches.
pub(super) fn try_out(file: &Path, json: bool, time: Duration) -> Result<(), Failure> {
    let settings = config::read_anywhere(file)?.xdp;
    // Blocked before any thread starts, so that none of them dies of one, or is stopped: a command
    // that sleeps takes nothing off.
    let ends: SigSet = ENDS.into_iter().collect();
    let sleeps: SigSet = [Signal::SIGTTIN, Signal::SIGTTOU].into_iter().collect();
    for signals in [ends, sleeps] {
        signals.thread_block().map_err(io::Error::from)?;
    }
    let trial = kernel::try_out(&settings).map_err(Failure::of)?;
    // What was typed before the question is no answer to it. Only a terminal has such.
    let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    eprintln!(
        "filtering {}; press Enter within {} to keep it",
        list(&trial.interfaces()),
        format_duration(time)
    );
    match confirmation(ends, time) {
        Ok(()) => {
            let loaded = trial.keep().map_err(Failure::of)?;
            say(json, &loaded, || words_of(&loaded))
        }
        Err(why) => {
            trial.end();
            Err(Failure::Unconfirmed(why))
        }
    }
}

/// Waits for a line on standard input. The error says what came instead.
fn confirmation(ends: SigSet, time: Duration) -> Result<(), String> {
    let (sender, answers) = mpsc::channel();
    let signalled = sender.clone();
    thread::spawn(move || {
        let answer = match ends.wait() {
            Ok(signal) => format!("not confirmed, ended by {signal}"),
            Err(errno) => format!("not confirmed, waiting for signals failed ({errno})"),
        };
        // Nobody listens any more once it is decided.
        let _ = signalled.send(Err(answer));
    });
    thread::spawn(move || {
        let mut line = String::new();
        let answer = match io::stdin().lock().read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => Ok(()),
            Ok(_) => Err("not confirmed, standard input has ended".to_owned()),
            Err(error) => Err(format!("not confirmed, standard input failed ({error})")),
        };
        let _ = sender.send(answer);
    });
    match answers.recv_timeout(time) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(format!("not confirmed within {}", format_duration(time)))
        }
    }
}

/// What is pinned, where no daemon can be asked. Nothing pinned leaves it at the daemon's absence.
pub(super) fn status(file: &Path, json: bool, no_daemon: CallError) -> Result<(), Failure> {
    // Whoever may not read the configuration may not read the pins either.
    let Ok(settings) = config::read_anywhere(file).map(|config| config.xdp) else {
        return Err(no_daemon.into());
    };
    let Some(pinned) = kernel::look(&settings).map_err(Failure::of)? else {
        let directory = settings.pin_directory.display();
        eprintln!("greygate: nothing is pinned in {directory}, and");
        return Err(no_daemon.into());
    };
    let (pinned_in, status) = (pinned.directory.clone(), as_of_a_daemon(pinned));
    if json {
        return say(json, &Alone { pinned_in, status }, String::new);
    }
    let directory = pinned_in.display();
    writeln!(
        io::stdout(),
        "no daemon runs; this is what is pinned in {directory}"
    )?;
    let mut paper = Paper::new(wants_colour(&io::stdout()));
    answer::xdp_status(&status, &mut paper);
    Ok(write!(io::stdout(), "{}", paper.into_text())?)
}

/// What a daemon would answer, and the sign that none did.
#[derive(Serialize)]
struct Alone {
    pinned_in: PathBuf,
    #[serde(flatten)]
    status: XdpStatus,
}

/// The kernel knows no reasons.
fn as_of_a_daemon(pinned: Pinned) -> XdpStatus {
    let line = |sentence: PinnedSentence| SentenceLine {
        client: sentence.client,
        level: sentence.level,
        reason: "not known without a daemon".to_owned(),
        left: sentence.left,
        drops: sentence.drops,
        ..SentenceLine::default()
    };
    let all = pinned.sentences.len();
    XdpStatus::listing(pinned.filter, pinned.sentences.into_iter().map(line), all)
}

fn words_of(loaded: &Loaded) -> String {
    format!(
        "filtering {}; pinned in {}\n{} of {} entries for each address family kept, {} MiB of kernel memory",
        list(&loaded.interfaces),
        loaded.directory.display(),
        loaded.entries,
        loaded.capacity,
        loaded.memory.div_ceil(1 << 20)
    )
}

fn list(interfaces: &[InterfaceStatus]) -> String {
    let interfaces: Vec<_> = interfaces
        .iter()
        .map(|InterfaceStatus { name, mode, .. }| format!("{name} ({mode})"))
        .collect();
    interfaces.join(", ")
}

/// Removes what [`load`] or a daemon left attached.
pub(super) fn unload(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = config::read_anywhere(file)?.xdp;
    let unloaded = kernel::unload(&settings).map_err(Failure::of)?;
    say(json, &unloaded, || {
        let directory = unloaded.directory.display();
        if unloaded.pins.is_empty() {
            format!("nothing was loaded in {directory}")
        } else {
            format!("removed {} from {directory}", unloaded.pins.join(", "))
        }
    })
}

/// Takes the filter off, whatever state the configuration is in.
pub(super) fn panic(file: &Path, json: bool) -> Result<(), Failure> {
    let settings = match config::read_anywhere(file) {
        Ok(config) => config.xdp,
        Err(error) => {
            if !is_absent(&error) {
                eprintln!("{error}\ngreygate: going on with the default paths");
            }
            kernel::Settings::default()
        }
    };
    let panicked = kernel::panic(&settings).map_err(|error| {
        if settings.panic_file.exists() {
            let flag = settings.panic_file.display();
            eprintln!("greygate: left {flag}: nothing new is attached until it is removed");
        }
        Failure::of(error)
    })?;
    say(json, &panicked, || {
        format!(
            "detached from {} interfaces, removed {} pins; nothing is attached until {} is removed",
            panicked.detached,
            panicked.pins.len(),
            panicked.flag.display()
        )
    })
}

fn is_absent(error: &ConfigError) -> bool {
    matches!(error, ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn say(json: bool, done: &impl Serialize, words: impl Fn() -> String) -> Result<(), Failure> {
    if json {
        let done = serde_json::to_string(done).expect("what was done is plain data");
        writeln!(io::stdout(), "{done}")?;
    } else {
        writeln!(io::stdout(), "{}", words())?;
    }
    Ok(())
}

/// What ends a trial. In the background reading the terminal is an error, since the signal that stops
/// whoever does is blocked.
const ENDS: [Signal; 5] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTSTP,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{FilterStatus, OnStatus};

    #[test]
    fn status_without_a_daemon_has_the_shape_of_one_and_its_limit() {
        let sentence = |left| PinnedSentence {
            client: "192.0.2.7/32".to_owned(),
            level: "block".to_owned(),
            left,
            drops: 5,
        };
        let status = as_of_a_daemon(Pinned {
            directory: "/pins".into(),
            filter: FilterStatus::On(OnStatus::default()),
            sentences: (0..1_002).rev().map(sentence).collect(),
        });
        assert_eq!(status.sentences.len(), 1_000);
        let pinned_in = PathBuf::from("/pins");
        let json = serde_json::to_value(Alone { pinned_in, status }).expect("plain data");
        assert_eq!(json["pinned_in"], "/pins");
        assert_eq!(json["filter"]["state"], "on");
        assert_eq!(json["sentences"][0]["left"], 1_001);
        assert_eq!(json["sentences_left_off"], 2);
        serde_json::from_value::<XdpStatus>(json).expect("a daemon's answer");
    }
}

//! What long work shows while it runs: a spinner on a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// One piece of work under way; dropping it unfinished leaves no spinner behind.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    task: String,
    started: Instant,
}

impl Progress {
    /// Names the work and begins to count its time.
    pub(crate) fn start(task: impl Into<String>) -> Self {
        let task = task.into();
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
                .expect("the template is well formed");
            let bar = ProgressBar::new_spinner()
                .with_style(style)
                .with_message(task.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{task} …");
        }
        Self {
            bar,
            task,
            started: Instant::now(),
        }
    }

    /// Ends the work with its result.
    pub(crate) fn done(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = HumanDuration(self.started.elapsed());
        eprintln!("{}: {result} ({took})", self.task);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

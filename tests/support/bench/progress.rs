//! How far the benchmark is: a bar on a terminal, a line for each step elsewhere.

use std::io::{IsTerminal as _, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// The steps of a run; dropping it leaves no bar behind.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A run of so many steps.
    ///
    /// # Panics
    ///
    /// Never: the bar's template is well formed.
    pub fn new(steps: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {wide_msg} {elapsed}")
                .expect("the template is well formed");
            ProgressBar::new(steps).with_style(style)
        });
        Self { bar }
    }

    /// The next step begins.
    pub fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                bar.set_message(what.to_owned());
            }
            None => eprintln!("{what} …"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

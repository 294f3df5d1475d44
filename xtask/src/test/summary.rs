//! Counting what the test harness says: pure, line by line.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign},
};

/// Tests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// The form that CI reads.
impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(out, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Reads the output of `cargo test`.
#[derive(Debug, Default)]
pub(super) struct Counter {
    results: Counts,
    /// Tests that said they were skipped; the harness counts each of them as passed.
    spoken: u64,
    /// Tests that are the inner half of another, which runs them: ignored, but not skipped.
    inner: u64,
}

impl Counter {
    pub(super) fn line(&mut self, line: &str) {
        if let Some(counts) = parse_result(line) {
            self.results += counts;
        } else if says_skipped(line) {
            self.spoken += 1;
        } else if line.contains(" ... ignored, run by ") {
            self.inner += 1;
        }
    }

    /// What was counted. A run that failed without a failed test, as one that does not compile, is
    /// one failure.
    pub(super) fn counts(&self, succeeded: bool) -> Counts {
        let Counts {
            passed,
            failed,
            skipped,
        } = self.results;
        let spoken = self.spoken.min(passed);
        Counts {
            passed: passed - spoken,
            failed: if succeeded { failed } else { failed.max(1) },
            skipped: skipped.saturating_sub(self.inner) + spoken,
        }
    }
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn parse_result(line: &str) -> Option<Counts> {
    let (_, fields) = line
        .trim_start()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    let mut counts = Counts::default();
    for field in fields.split("; ") {
        let Some((count, word)) = field.trim().split_once(' ') else {
            continue;
        };
        match word {
            "passed" => counts.passed = count.parse().ok()?,
            "failed" => counts.failed = count.parse().ok()?,
            "ignored" => counts.skipped = count.parse().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

/// `SKIPPED TEST: what was missing`, alone or behind the harness's `test TEST ... `.
fn says_skipped(line: &str) -> bool {
    line.starts_with("SKIPPED ") || line.contains(" ... SKIPPED ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(output: &str, succeeded: bool) -> Counts {
        let mut counter = Counter::default();
        output.lines().for_each(|line| counter.line(line));
        counter.counts(succeeded)
    }

    #[test]
    fn adds_the_results_of_every_binary() {
        let output = "\
test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

     Running unittests src/main.rs
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s
";

        assert_eq!(
            count(output, false),
            Counts {
                passed: 15,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn counts_a_test_that_skipped_itself_as_skipped_not_passed() {
        let output = "\
SKIPPED attaches: network namespaces (unshare: EPERM)
test detaches ... SKIPPED detaches: the rights of root
ok
test attaches ... ok
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

        assert_eq!(
            count(output, true),
            Counts {
                passed: 1,
                failed: 0,
                skipped: 2
            }
        );
    }

    #[test]
    fn inner_half_of_a_test_is_not_skipped() {
        let output = "\
test asks_as_another_user ... ok
test child_that_asks ... ignored, run by `asks_as_another_user`
test attaches ... ignored
test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

        assert_eq!(
            count(output, true),
            Counts {
                passed: 1,
                failed: 0,
                skipped: 1
            }
        );
    }

    #[test]
    fn counts_a_run_that_does_not_compile_as_a_failure() {
        assert_eq!(count("error[E0425]: cannot find value\n", false).failed, 1);
    }

    #[test]
    fn ignores_lines_that_only_look_like_results() {
        assert_eq!(
            count("test result: pending\nthe SKIPPED word\n", true),
            Counts::default()
        );
    }

    #[test]
    fn prints_the_line_that_ci_reads() {
        let counts = Counts {
            passed: 7,
            failed: 1,
            skipped: 2,
        };

        assert_eq!(counts.to_string(), "7 passed, 1 failed, 2 skipped");
    }
}

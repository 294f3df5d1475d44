//! What Rust says of a panic, bounded like all that strangers can cause.
//!
//! A session that panics is counted and has its word under the limit of that. Before it ends, Rust's hook
//! has written the place in the source to standard error: from the thread that panicked, past the queue and
//! past `limit`. Whoever finds a bug could have that written as often as they connect.

use std::panic;

use tokio::time::Instant;

use super::limit::{Bucket, Pace, nanos};

/// From now on Rust tells of five panics at once and of one a second, and is silent about the others: they
/// are counted where they end something.
pub fn bound() {
    let begun = Instant::now();
    let bucket = Bucket::new();
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if bucket.admits(&Pace::EACH_SECOND, nanos(begun.elapsed())) {
            tell(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn thousand_panics_are_told_of_a_few_times() {
        let tests = std::env::current_exe().expect("this is a process");
        let told = Command::new(tests)
            .args(["--exact", "--ignored", "--nocapture", PANICKING])
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("the tests can be run again");
        let said = String::from_utf8_lossy(&told.stdout);
        assert!(said.contains("1 passed"), "it is still called so: {said}");
        let said = String::from_utf8_lossy(&told.stderr);
        let times = said.matches("panicked at").count();
        assert!((5..100).contains(&times), "{times}: {said}");
    }

    const PANICKING: &str = "log::panics::tests::panics_a_thousand_times";

    #[test]
    #[ignore = "run by `thousand_panics_are_told_of_a_few_times`, alone in its process"]
    fn panics_a_thousand_times() {
        super::bound();
        for _ in 0..1_000 {
            let panicked = std::panic::catch_unwind(|| panic!("as a session might"));
            assert!(panicked.is_err());
        }
    }
}

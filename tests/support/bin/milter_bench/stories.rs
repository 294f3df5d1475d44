//! Round trips of each mode, one mail after the other, counted on the wire.

use support::{
    Error,
    bench::{
        daemon::{Daemon, Setup, Workers},
        report::{Row, Samples, Unit},
        visit::{self, Outcome, Visit},
    },
};

use crate::messages::GREYGATE;

/// A line for each attempt of each story.
pub(crate) fn rows() -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for (mode, attempts) in STORIES {
        let daemon = Daemon::start(GREYGATE, Setup::empty(mode, Workers::Default))?;
        let body = visit::text(4 << 10);
        for (what, attempt, end) in attempts {
            let visit = Visit {
                number: 1,
                client: visit::client(1, *attempt),
                body: &body,
            };
            // A moment is all that has to be waited for.
            std::thread::sleep(std::time::Duration::from_millis(5));
            let server = &daemon.server;
            let played = server.namespace.run(|| server.play(&visit));
            let played = played.map_err(Error::io(format!("{mode}: {what}")))?;
            let figure = if played.end == *end {
                Ok(Samples::one(f64::from(played.round_trips)))
            } else {
                Err(format!("it ended {:?}", played.end))
            };
            rows.push(Row {
                what: format!("{mode}: {what}"),
                unit: Unit::RoundTrips,
                greygate: figure,
                beside: Vec::new(),
                target: None,
            });
        }
    }
    Ok(rows)
}

/// What happens, from which network, and how it ends.
type Told = (&'static str, u32, Outcome);

/// One mail, and then the next of the same sender, in each mode.
const STORIES: [(&str, &[Told]); 3] = [
    (
        "envelope",
        &[
            ("new", 0, Outcome::DeferredAtRcpt),
            ("retry", 0, Outcome::Passed),
            ("next mail", 0, Outcome::AcceptedAtData),
        ],
    ),
    (
        "hybrid",
        &[
            ("new", 0, Outcome::DeferredAtRcpt),
            ("retry", 0, Outcome::Passed),
            ("next mail", 0, Outcome::AcceptedAtData),
        ],
    ),
    (
        "content",
        &[
            ("new", 0, Outcome::DeferredAtEnd),
            ("retry", 0, Outcome::Passed),
            ("next mail", 0, Outcome::AcceptedAtData),
        ],
    ),
];

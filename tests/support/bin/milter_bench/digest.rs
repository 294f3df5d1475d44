//! What hashing a body costs, with nothing around it.

use std::{hint::black_box, io};

use md5::{Digest as _, Md5};
use nix::time::ClockId;
use support::Error;

/// Microseconds of CPU time that MD5 takes for `body`, which comes in pieces as from a milter's peer.
pub(crate) fn micros(body: &[u8]) -> Result<f64, Error> {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    let now = || {
        let now = clock.now().map_err(io::Error::from);
        now.map_err(Error::io("reading the thread's clock"))
    };
    let times = (BYTES / body.len()).max(1);
    let begun = now()?;
    for _ in 0..times {
        let mut hasher = Md5::new();
        for piece in black_box(body).chunks(PIECE) {
            hasher.update(piece);
        }
        black_box(hasher.finalize());
    }
    let took = std::time::Duration::from(now()? - begun);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let times = times as f64;
    Ok(took.as_secs_f64() * 1e6 / times)
}

/// Hashed in one measurement.
const BYTES: usize = 128 << 20;
/// A chunk of a body.
const PIECE: usize = 65_535;

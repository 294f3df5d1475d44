//! What a frame costs: CPU time over a program that only passes.
//!
//! All that is compared gets the same frames with the same source addresses in the same order, in
//! turns, so that what else the machine does hits all alike.

use greygate::kernel::Counter;
use support::Error;

use crate::{
    filter::Greygate,
    meter::{FRAMES, Measured, Meter},
    report::{Figure, Row, Samples, Target, Unit},
    xdp_filter::{Peer, Peers},
};

/// One line of the table: frames that must all meet the same fate.
pub(crate) struct Case<'a> {
    /// What the frames are.
    pub(crate) what: &'static str,
    /// One of them.
    pub(crate) frame: Vec<u8>,
    /// The filter that judges them.
    pub(crate) greygate: &'a Greygate,
    /// What it must count them as.
    pub(crate) counter: Counter,
    /// The peers, which must drop them as well.
    pub(crate) beside: Option<&'a Peers>,
    /// What greygate is to reach.
    pub(crate) target: Option<Target>,
}

impl Case<'_> {
    /// Measures it; the sources must be set.
    pub(crate) fn measure(&self, meter: &mut Meter) -> Result<Row, Error> {
        let beside: &[Peer] = self.beside.map_or(&[], |peers| peers);
        let mut contenders = vec![Contender {
            measured: &self.greygate.measured,
            done: Box::new(|| self.greygate.counted(self.counter)),
        }];
        contenders.extend(beside.iter().filter_map(|(_, peer)| {
            let peer = peer.as_ref().ok()?;
            Some(Contender {
                measured: &peer.measured,
                done: Box::new(|| peer.dropped()),
            })
        }));
        let mut figures = compare(meter, &self.frame, &contenders)?.into_iter();
        let mut figure = || {
            figures
                .next()
                .unwrap_or_else(|| Err("nothing ran".to_owned()))
        };
        let greygate = figure();
        let beside = beside
            .iter()
            .map(|(name, peer)| {
                (
                    *name,
                    peer.as_ref().map_err(Clone::clone).and_then(|_| figure()),
                )
            })
            .collect();
        Ok(Row {
            what: self.what.to_owned(),
            unit: Unit::NanosAFrame,
            greygate,
            beside,
            target: self.target,
        })
    }
}

/// A program, and how many frames it did with what it was to do.
struct Contender<'a> {
    measured: &'a Measured,
    done: Box<dyn Fn() -> u64 + 'a>,
}

fn compare(
    meter: &mut Meter,
    frame: &[u8],
    contenders: &[Contender<'_>],
) -> Result<Vec<Figure>, Error> {
    let passes = contenders
        .iter()
        .map(|contender| meter.pass(contender.measured.frags))
        .collect::<Result<Vec<_>, _>>()?;
    let mut samples = vec![Vec::new(); contenders.len()];
    let mut least = vec![f64::INFINITY; contenders.len()];
    let mut done = vec![0; contenders.len()];
    // The first round warms caches and buckets up, and is not counted.
    for round in 0..=meter.rounds {
        for (index, contender) in contenders.iter().enumerate() {
            let pass = meter.run(&passes[index], frame, FRAMES)?;
            let before = (contender.done)();
            let sample = meter.run(contender.measured, frame, FRAMES)?;
            if round > 0 {
                least[index] = least[index].min(pass);
                samples[index].push(sample);
                done[index] += (contender.done)() - before;
            }
        }
    }
    let frames = u64::from(FRAMES) * u64::from(meter.rounds);
    let figures = samples.into_iter().zip(least).zip(done);
    Ok(figures
        .map(|((samples, pass), done)| {
            // A thousandth may differ: the machine's own frames, an address drawn twice.
            if done < frames - frames / 1_000 {
                return Err(format!(
                    "it did what it should with {done} of {frames} frames only"
                ));
            }
            let over = samples.into_iter().map(|nanos| nanos - pass).collect();
            Samples::new(over).ok_or_else(|| "nothing ran".to_owned())
        })
        .collect())
}

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
    xdp_filter::XdpFilter,
};

/// How often each program is measured.
const ROUNDS: u32 = 7;

/// One line of the table: frames that must all meet the same fate.
pub(crate) struct Case<'a> {
    /// What the frames are.
    pub(crate) what: &'a str,
    /// One of them.
    pub(crate) frame: &'a [u8],
    /// The filter that judges them.
    pub(crate) greygate: &'a Greygate,
    /// What it must count them as.
    pub(crate) counter: Counter,
    /// The peer, which must drop them as well, or why it cannot be had.
    pub(crate) beside: Option<&'a Result<XdpFilter, String>>,
    /// What greygate is to reach.
    pub(crate) target: Option<Target>,
}

impl Case<'_> {
    /// Measures it; the sources must be set.
    pub(crate) fn measure(&self, meter: &mut Meter) -> Result<Row, Error> {
        let ours = || self.greygate.counted(self.counter);
        let mut contenders = vec![Contender::new(&self.greygate.measured, &ours)];
        let peer = self.beside.and_then(|peer| peer.as_ref().ok());
        let theirs = || peer.map_or(0, XdpFilter::dropped);
        if let Some(peer) = peer {
            contenders.push(Contender::new(&peer.measured, &theirs));
        }
        let mut figures = compare(meter, self.frame, &contenders)?.into_iter();
        let greygate = figures
            .next()
            .unwrap_or_else(|| Err("nothing ran".to_owned()));
        let beside = self.beside.map(|peer| {
            let figure = match peer {
                Ok(_) => figures
                    .next()
                    .unwrap_or_else(|| Err("it did not run".to_owned())),
                Err(why) => Err(why.clone()),
            };
            ("xdp-filter", figure)
        });
        Ok(Row {
            what: self.what.to_owned(),
            unit: Unit::NanosAFrame,
            greygate,
            beside: beside.into_iter().collect(),
            target: self.target,
        })
    }
}

/// A program, and how many frames it did with what it was to do.
struct Contender<'a> {
    measured: &'a Measured,
    done: &'a dyn Fn() -> u64,
}

impl<'a> Contender<'a> {
    fn new(measured: &'a Measured, done: &'a dyn Fn() -> u64) -> Self {
        Self { measured, done }
    }
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
    for round in 0..=ROUNDS {
        for (index, contender) in contenders.iter().enumerate() {
            let pass = meter.run(&passes[index], frame, FRAMES)?.nanos;
            let before = (contender.done)();
            let sample = meter.run(contender.measured, frame, FRAMES)?.nanos;
            if round > 0 {
                least[index] = least[index].min(pass);
                samples[index].push(sample);
                done[index] += (contender.done)() - before;
            }
        }
    }
    let frames = u64::from(FRAMES) * u64::from(ROUNDS);
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

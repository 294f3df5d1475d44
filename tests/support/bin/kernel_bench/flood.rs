//! How many frames a second are dropped: sent over a cable by the kernel itself, one CPU for both
//! ends.
//!
//! A second is one of CPU time, so that what else runs there is not in the way.
//! `BPF_F_TEST_XDP_LIVE_FRAMES` hands frames to the cable as a driver would. What making and sending
//! them costs is in every figure. nftables sits behind a program that passes all, since a cable takes
//! such frames only where a program is; what the stack makes of a frame before the hook is part of
//! its price.

use std::time::Duration;

use greygate::kernel::Counter;
use support::Error;

use crate::{
    cpu::CpuClock,
    filter::Greygate,
    frames,
    meter::Meter,
    nftables::{NFTABLES, Nftables},
    report::{Figure, Row, Samples, Target, Unit},
    xdp_filter::Peers,
    yard::{Cable, Yard},
};

/// Frames of one measurement.
const FRAMES: u32 = 2_000_000;

/// Frames of 10,000 sentenced addresses.
pub(crate) fn few(
    yard: &Yard,
    meter: &Meter,
    greygate: &Greygate,
    peers: &Peers,
    nft: &Result<Nftables<'_>, String>,
) -> Result<Row, Error> {
    let mut droppers = vec![Dropper::greygate(greygate)];
    droppers.extend(peers.iter().map(|(name, peer)| {
        let peer = peer.as_ref().map_err(Clone::clone);
        Dropper {
            name,
            cable: peer.clone().map(|peer| &peer.cable),
            dropped: Box::new(move || Ok(peer.as_ref().map_or(0, |peer| peer.dropped()))),
            received: None,
        }
    }));
    droppers.push(Dropper::nftables(nft));
    row("dropped a second, 10,000 sentences", yard, meter, &droppers)
}

/// Frames of a million sentenced addresses, which xdp-filter cannot hold.
pub(crate) fn many(
    yard: &Yard,
    meter: &Meter,
    greygate: &Greygate,
    nft: &Result<Nftables<'_>, String>,
) -> Result<Row, Error> {
    let droppers = [Dropper::greygate(greygate), Dropper::nftables(nft)];
    row("dropped a second, 1 M sentences", yard, meter, &droppers)
}

/// What stands at the far end of a cable and drops what comes.
struct Dropper<'a> {
    name: &'static str,
    /// Its cable, or why it is not there.
    cable: Result<&'a Cable, String>,
    /// Frames that it dropped, up to now.
    dropped: Box<dyn Fn() -> Result<u64, Error> + 'a>,
    /// What came to it, where that is easier to ask than what was dropped: then this must be the
    /// same in the end.
    received: Option<Box<dyn Fn() -> Result<u64, Error> + 'a>>,
}

impl<'a> Dropper<'a> {
    fn greygate(it: &'a Greygate) -> Self {
        Self {
            name: "greygate",
            cable: Ok(&it.cable),
            dropped: Box::new(|| Ok(it.counted(Counter::Blocked))),
            received: None,
        }
    }

    fn nftables(it: &'a Result<Nftables<'_>, String>) -> Self {
        let set = it.as_ref().ok();
        Self {
            name: NFTABLES,
            cable: it.as_ref().map(|it| &it.cable).map_err(Clone::clone),
            dropped: Box::new(move || set.map_or(Ok(0), Nftables::dropped)),
            received: Some(Box::new(move || set.map_or(Ok(0), Nftables::received))),
        }
    }
}

impl Dropper<'_> {
    /// That what came was dropped, where that was not asked all the time.
    fn check(&self) -> Result<(), String> {
        let Some(received) = &self.received else {
            return Ok(());
        };
        let came = received().map_err(|error| error.chain())?;
        let dropped = (self.dropped)().map_err(|error| error.chain())?;
        // A thousandth may differ: the kernel's own frames on a new cable.
        if dropped < came - came / 1_000 {
            return Err(format!("it dropped {dropped} of {came} frames"));
        }
        Ok(())
    }
}

/// The first of `droppers` is greygate.
fn row(
    what: &'static str,
    yard: &Yard,
    meter: &Meter,
    droppers: &[Dropper<'_>],
) -> Result<Row, Error> {
    let names = droppers.iter().map(|dropper| dropper.name);
    let mut figures = names.zip(measure(yard, meter, droppers)?);
    let greygate = figures
        .next()
        .map_or_else(|| Err("nothing ran".to_owned()), |(_, it)| it);
    Ok(Row {
        what: what.to_owned(),
        unit: Unit::MegaframesASecond,
        greygate,
        beside: figures.collect(),
        target: Some(Target::Times(2.0, NFTABLES)),
    })
}

/// Sends SYNs with the sources that are set to each of `droppers` in turn; millions a second that
/// each of them dropped.
fn measure(yard: &Yard, meter: &Meter, droppers: &[Dropper<'_>]) -> Result<Vec<Figure>, Error> {
    let syn = frames::syn_v4();
    let mut samples = droppers.iter().map(|_| Vec::new()).collect::<Vec<_>>();
    // The first round warms up.
    for round in 0..=meter.rounds {
        for (dropper, samples) in droppers.iter().zip(&mut samples) {
            let Ok(cable) = &dropper.cable else {
                continue;
            };
            let count = dropper.received.as_ref().unwrap_or(&dropper.dropped);
            let before = count()?;
            let clock = CpuClock::of_this_cpu();
            meter.flood(&yard.clients, cable.client_index, &syn, FRAMES)?;
            let took = clock.used();
            let dropped = count()? - before;
            if round > 0 {
                samples.push(Rate { dropped, took });
            }
        }
    }
    let figures = droppers.iter().zip(samples);
    Ok(figures
        .map(|(dropper, samples)| match &dropper.cable {
            Ok(_) => dropper.check().and_then(|()| figure(samples)),
            Err(why) => Err(why.clone()),
        })
        .collect())
}

struct Rate {
    dropped: u64,
    took: Duration,
}

#[expect(clippy::cast_precision_loss, reason = "some millions of frames")]
fn figure(rates: Vec<Rate>) -> Figure {
    // What finds the queue full is lost, but something is wrong when most of it does.
    if rates
        .iter()
        .any(|rate| rate.dropped < u64::from(FRAMES) / 10)
    {
        let most = rates.iter().map(|rate| rate.dropped).max().unwrap_or(0);
        return Err(format!("it dropped {most} of {FRAMES} frames at most"));
    }
    let rates = rates
        .into_iter()
        .map(|rate| rate.dropped as f64 / rate.took.as_secs_f64() / 1e6)
        .collect();
    Samples::new(rates).ok_or_else(|| "nothing was sent".to_owned())
}

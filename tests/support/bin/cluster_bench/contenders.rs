//! Who is measured: a host that shares with nobody, one that shares, and three; round by round in turn.

use support::{
    Error,
    bench::{
        report::{Figure, Samples},
        run::Pace,
    },
};

use crate::{
    cost::{self, Cost},
    site::Site,
};

/// Everybody, and what was measured so far.
#[derive(Debug)]
pub(crate) struct Contenders {
    contenders: Vec<Contender>,
    /// The next mail that nobody has seen.
    next: u32,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Contender {
    name: &'static str,
    site: Site,
    /// New mails, as fast as they are served.
    pub(crate) misses: Vec<Cost>,
    /// Their early retries, as fast as they are served.
    pub(crate) hits: Vec<Cost>,
    /// New mails, at a quarter of what a host can do that shares with nobody.
    pub(crate) offered: Vec<Cost>,
    /// Nobody.
    pub(crate) quiet: Vec<Cost>,
}

/// Which of a contender's measurements.
pub(crate) type Kind = fn(&Contender) -> &[Cost];

impl Contenders {
    /// Starts all.
    pub(crate) fn start() -> Result<Self, Error> {
        let contenders = [
            (ONE, Site::sharing(ONE, 1)?),
            (ALONE, Site::alone(ALONE)?),
            (THREE, Site::sharing(THREE, 3)?),
        ];
        let contender = |(name, site)| Contender {
            name,
            site,
            misses: Vec::new(),
            hits: Vec::new(),
            offered: Vec::new(),
            quiet: Vec::new(),
        };
        Ok(Self {
            contenders: contenders.into_iter().map(contender).collect(),
            next: 0,
        })
    }

    /// New mails and their early retries at each in turn, as fast as they are served; then new mails at a
    /// quarter of what the host can do that shares with nobody.
    pub(crate) fn round(&mut self) -> Result<(), Error> {
        let first = self.next;
        self.next += SESSIONS;
        for it in &mut self.contenders {
            let site = &it.site;
            site.settle()?;
            let miss = cost::play(site, "new mails", first, SESSIONS, Pace::AtOnce)?;
            site.settle()?;
            let hit = cost::play(site, "early retries", first, SESSIONS, Pace::AtOnce)?;
            it.misses.push(miss);
            it.hits.push(hit);
            it.quiet.push(cost::rest(site)?);
        }
        let alone = self.of(ALONE, |it| &it.misses, |it| Some(it.rate));
        let saturated = alone.map_err(|why| Error::unexpected("a rate to begin with", why))?;
        let rate = saturated.median() / 4.0;
        let first = self.next;
        self.next += OFFERED;
        for it in &mut self.contenders {
            let site = &it.site;
            site.settle()?;
            let cost = cost::play(site, "new mails", first, OFFERED, Pace::Offered(rate))?;
            it.offered.push(cost);
        }
        // Whoever comes first comes last next time.
        self.contenders.rotate_left(1);
        Ok(())
    }

    /// Forgets what was measured.
    pub(crate) fn forget(&mut self) {
        for it in &mut self.contenders {
            it.misses.clear();
            it.hits.clear();
            it.offered.clear();
            it.quiet.clear();
        }
    }

    /// What was measured of the contender of this name, round by round.
    pub(crate) fn of(&self, name: &str, kind: Kind, part: impl Fn(&Cost) -> Option<f64>) -> Figure {
        samples(kind(self.named(name)?).iter().filter_map(part))
    }

    /// By how much it is more than at the host that shares with nobody, round by round.
    pub(crate) fn added(&self, name: &str, kind: Kind, part: impl Fn(&Cost) -> f64) -> Figure {
        let theirs = kind(self.named(ALONE)?);
        let rounds = kind(self.named(name)?).iter().zip(theirs);
        samples(rounds.map(|(it, alone)| part(it) - part(alone)))
    }

    fn named(&self, name: &str) -> Result<&Contender, String> {
        let found = self.contenders.iter().find(|it| it.name == name);
        found.ok_or_else(|| format!("nobody is called {name}"))
    }
}

fn samples(figures: impl Iterator<Item = f64>) -> Figure {
    Samples::new(figures.collect()).ok_or_else(|| "no round was finished".to_owned())
}

/// What a line of the table is of.
pub(crate) const ONE: &str = "one host that shares";
/// What the target is for.
pub(crate) const ALONE: &str = "stand-alone";
/// They have the same sessions among them.
pub(crate) const THREE: &str = "three that share";
/// Of a round, new and again.
const SESSIONS: u32 = 15_000;
/// Of a round, at a quarter of what can be done.
const OFFERED: u32 = 6_000;

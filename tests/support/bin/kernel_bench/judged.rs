//! Which frames are judged, for what they cost: of whom, against how many sentences.

use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{
        Counter::{Admitted, Blocked, Clean, NotSyn, NotTcp, RateLimited},
        Settings,
    },
    policy::SentenceLevel::{Block, Rate},
};
use support::Error;

use crate::{
    changes::CAPACITY,
    cost::Case,
    filter::{Greygate, Workshop},
    frames::{data_v4, data_v6, syn_v4, syn_v6, udp_v4},
    meter::Meter,
    people::{FEW, People, host, network},
    progress::Progress,
    report::{Report, Target},
    xdp_filter::{LEAN, Peers},
};

/// Greygate's filters, each with sentences of its own.
pub(crate) struct Filters {
    /// 10,000 IPv4 addresses and as many `/64`, at level block.
    pub(crate) small: Greygate,
    /// A million IPv4 addresses and as many `/64`, at level block; 40,000 `/24` and as many IPv6
    /// addresses beside them.
    pub(crate) big: Greygate,
    /// 10,000 IPv4 addresses at level rate.
    rated: Greygate,
    /// The same, under a limit that nobody reaches.
    unlimited: Greygate,
}

impl Filters {
    /// Opens and fills them.
    pub(crate) fn open(workshop: &Workshop<'_>, people: &People) -> Result<Self, Error> {
        let now = SystemClock.now();
        let few = || Settings {
            capacity: 16_384,
            ..Settings::default()
        };
        let hosts = &people.hosts_v4[..FEW];
        let mut small = workshop.open("small", few())?;
        small.sentence(hosts.iter().map(|it| host(*it, Block, now)))?;
        let networks = people.in_networks_v6[..FEW].iter();
        small.sentence(networks.map(|it| network(*it, Block, now)))?;
        let mut rated = workshop.open("rated", few())?;
        rated.sentence(hosts.iter().map(|it| host(*it, Rate, now)))?;
        let settings = Settings {
            rate: u32::MAX,
            rate_burst: 1_000,
            ..few()
        };
        let mut unlimited = workshop.open("nolimit", settings)?;
        unlimited.sentence(hosts.iter().map(|it| host(*it, Rate, now)))?;
        let settings = Settings {
            capacity: CAPACITY,
            ..Settings::default()
        };
        let mut big = workshop.open("big", settings)?;
        big.sentence(people.hosts_v4.iter().map(|it| host(*it, Block, now)))?;
        let networks = people.in_networks_v4.iter();
        big.sentence(networks.map(|it| network(*it, Block, now)))?;
        let networks = people.in_networks_v6.iter();
        big.sentence(networks.map(|it| network(*it, Block, now)))?;
        big.sentence(people.hosts_v6.iter().map(|it| host(*it, Block, now)))?;
        Ok(Self {
            small,
            big,
            rated,
            unlimited,
        })
    }
}

/// Measures all of them.
pub(crate) fn measure(
    filters: &Filters,
    peers: &Peers,
    meter: &mut Meter,
    people: &People,
    progress: &Progress,
    report: &mut Report,
) -> Result<(), Error> {
    let mut listed = None;
    for (who, case) in cases(filters, peers) {
        progress.step(case.what);
        if listed != Some(who) {
            who.list(people, meter)?;
            listed = Some(who);
        }
        report.push(case.measure(meter)?);
    }
    Ok(())
}

/// Whose frames they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    CleanV4,
    CleanV6,
    FewHosts,
    FewNetworksV6,
    Hosts,
    Networks,
    HostsV6,
    NetworksV6,
}

impl Who {
    /// Makes their addresses the sources of what is measured next.
    fn list(self, people: &People, meter: &mut Meter) -> Result<(), Error> {
        match self {
            Self::CleanV4 => meter.ipv4_sources(&people.clean_v4),
            Self::CleanV6 => meter.ipv6_sources(&people.clean_v6),
            Self::FewHosts => meter.ipv4_sources(&people.hosts_v4[..FEW]),
            Self::FewNetworksV6 => meter.ipv6_sources(&people.in_networks_v6[..FEW]),
            Self::Hosts => meter.ipv4_sources(&people.hosts_v4),
            Self::Networks => meter.ipv4_sources(&people.in_networks_v4),
            Self::HostsV6 => meter.ipv6_sources(&people.hosts_v6),
            Self::NetworksV6 => meter.ipv6_sources(&people.in_networks_v6),
        }
    }
}

/// The cases, with whose frames they are.
#[rustfmt::skip] // one case, one line
fn cases<'a>(filters: &'a Filters, peers: &'a Peers) -> Vec<(Who, Case<'a>)> {
    let Filters { small, big, rated, unlimited } = filters;
    let most = |nanos| Some(Target::AtMost(nanos));
    let (other, clean, blocked) = (most(10.0), most(60.0), most(450.0));
    let mut cases = Vec::new();
    let mut case = |who, what, frame: fn() -> Vec<u8>, greygate, counter, target| {
        // xdp-filter holds 10,000 IPv4 addresses, and knows no levels.
        let beside = (who == Who::FewHosts && counter == Blocked).then_some(peers);
        let frame = frame();
        cases.push((who, Case { what, frame, greygate, counter, beside, target }));
    };

    case(Who::CleanV4, "data to port 25", data_v4, big, NotSyn, other);
    case(Who::CleanV4, "UDP", udp_v4, big, NotTcp, other);
    case(Who::CleanV4, "clean SYN, 1 M sentences", syn_v4, big, Clean, clean);
    case(Who::CleanV6, "data to port 25, IPv6", data_v6, big, NotSyn, other);
    case(Who::CleanV6, "clean SYN, 1 M sentences, IPv6", syn_v6, big, Clean, clean);
    case(Who::FewHosts, "blocked SYN, 10,000 sentences", syn_v4, small, Blocked, Some(Target::Below(LEAN)));
    case(Who::FewHosts, "SYN beyond the rate, 10,000 sentences", syn_v4, rated, RateLimited, None);
    case(Who::FewHosts, "SYN within the rate, 10,000 sentences", syn_v4, unlimited, Admitted, None);
    case(Who::FewNetworksV6, "blocked SYN by its /64, 10,000 sentences", syn_v6, small, Blocked, None);
    case(Who::Hosts, "blocked SYN, 1 M sentences", syn_v4, big, Blocked, blocked);
    case(Who::Networks, "blocked SYN by its /24, 1 M sentences", syn_v4, big, Blocked, blocked);
    case(Who::NetworksV6, "blocked SYN by its /64, 1 M sentences", syn_v6, big, Blocked, blocked);
    case(Who::HostsV6, "blocked SYN by its /128, 1 M sentences", syn_v6, big, Blocked, blocked);
    cases
}

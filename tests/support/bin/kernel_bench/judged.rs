//! Which frames are judged, for what they cost: of whom, against how many sentences.

use std::net::{Ipv4Addr, Ipv6Addr};

use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{Counter, Settings},
    policy::SentenceLevel::{Block, Rate},
};
use support::Error;

use crate::{
    changes::CAPACITY,
    cost::Case,
    filter::{Greygate, Workshop},
    frames,
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
    /// A million IPv4 addresses and as many `/64`, at level block; 100,000 `/24` and as many IPv6
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
        big.sentence(
            people
                .in_networks_v4
                .iter()
                .map(|it| network(*it, Block, now)),
        )?;
        big.sentence(
            people
                .in_networks_v6
                .iter()
                .map(|it| network(*it, Block, now)),
        )?;
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
    for (sources, cases) in groups(filters, peers, people) {
        match sources {
            Sources::V4(addresses) => meter.ipv4_sources(addresses)?,
            Sources::V6(addresses) => meter.ipv6_sources(addresses)?,
        }
        for case in cases {
            progress.step(case.what);
            report.push(case.measure(meter)?);
        }
    }
    Ok(())
}

enum Sources<'a> {
    V4(&'a [Ipv4Addr]),
    V6(&'a [Ipv6Addr]),
}

/// The cases by whose frames they are.
fn groups<'a>(
    filters: &'a Filters,
    peers: &'a Peers,
    people: &'a People,
) -> Vec<(Sources<'a>, Vec<Case<'a>>)> {
    let Filters {
        small,
        big,
        rated,
        unlimited,
    } = filters;
    let case = |what, frame: fn() -> Vec<u8>, greygate, counter, most| Case {
        what,
        frame: frame(),
        greygate,
        counter,
        beside: None,
        target: most,
    };
    let most = |nanos| Some(Target::AtMost(nanos));
    let (other, clean, blocked) = (most(10.0), most(60.0), most(450.0));
    vec![
        (
            Sources::V4(&people.clean_v4),
            vec![
                case(
                    "data to port 25",
                    frames::data_v4,
                    big,
                    Counter::NotSyn,
                    other,
                ),
                case("UDP", frames::udp_v4, big, Counter::NotTcp, other),
                case(
                    "clean SYN, 1 M sentences",
                    frames::syn_v4,
                    big,
                    Counter::Clean,
                    clean,
                ),
            ],
        ),
        (
            Sources::V6(&people.clean_v6),
            vec![
                case(
                    "data to port 25, IPv6",
                    frames::data_v6,
                    big,
                    Counter::NotSyn,
                    other,
                ),
                case(
                    "clean SYN, 1 M sentences, IPv6",
                    frames::syn_v6,
                    big,
                    Counter::Clean,
                    clean,
                ),
            ],
        ),
        (
            Sources::V4(&people.hosts_v4[..FEW]),
            vec![
                Case {
                    beside: Some(peers),
                    ..case(
                        "blocked SYN, 10,000 sentences",
                        frames::syn_v4,
                        small,
                        Counter::Blocked,
                        Some(Target::Below(LEAN)),
                    )
                },
                case(
                    "SYN beyond the rate, 10,000 sentences",
                    frames::syn_v4,
                    rated,
                    Counter::RateLimited,
                    None,
                ),
                case(
                    "SYN within the rate, 10,000 sentences",
                    frames::syn_v4,
                    unlimited,
                    Counter::Admitted,
                    None,
                ),
            ],
        ),
        (
            Sources::V6(&people.in_networks_v6[..FEW]),
            vec![case(
                "blocked SYN by its /64, 10,000 sentences",
                frames::syn_v6,
                small,
                Counter::Blocked,
                None,
            )],
        ),
        (
            Sources::V4(&people.hosts_v4),
            vec![case(
                "blocked SYN, 1 M sentences",
                frames::syn_v4,
                big,
                Counter::Blocked,
                blocked,
            )],
        ),
        (
            Sources::V4(&people.in_networks_v4),
            vec![case(
                "blocked SYN by its /24, 1 M sentences",
                frames::syn_v4,
                big,
                Counter::Blocked,
                blocked,
            )],
        ),
        (
            Sources::V6(&people.in_networks_v6),
            vec![case(
                "blocked SYN by its /64, 1 M sentences",
                frames::syn_v6,
                big,
                Counter::Blocked,
                blocked,
            )],
        ),
        (
            Sources::V6(&people.hosts_v6),
            vec![case(
                "blocked SYN by its /128, 1 M sentences",
                frames::syn_v6,
                big,
                Counter::Blocked,
                blocked,
            )],
        ),
    ]
}

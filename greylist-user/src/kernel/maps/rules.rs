//! What holds for all entries: the limits, the flags, the protected ports and addresses.
//!
//! The maps may be those of an earlier daemon, and its program may be judging frames by them right
//! now. So everything is written over what is there, in an order in which no moment drops more than
//! the old or the new rules do.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use greylist_ebpf::abi::{self, Config, Limit, map};

use super::{map_error, take_map, unless_absent};
use crate::{
    kernel::{FilterError, Settings},
    policy::Action,
};

/// The map of the configuration, and what is in it.
pub(super) struct Rules {
    map: Array<MapData, Config>,
    config: Config,
}

impl Rules {
    /// Takes the maps out of `ebpf`, with what they hold.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, FilterError> {
        let map: Array<MapData, Config> = take_map(ebpf, map::CONFIG)?;
        let config = map.get(&0, 0).map_err(map_error(map::CONFIG, "read"))?;
        Ok(Self { map, config })
    }

    /// Writes what `settings` say, and `generation`.
    pub(super) fn follow(
        &mut self,
        ebpf: &mut Ebpf,
        settings: &Settings,
        generation: u16,
    ) -> Result<(), FilterError> {
        protect_ports(ebpf, &settings.ports)?;
        let mut destinations = Destinations::take(ebpf)?;
        let wanted: BTreeSet<[u8; 16]> = settings
            .addresses
            .iter()
            .map(|address| match address.to_canonical() {
                IpAddr::V4(address) => abi::mapped(address.octets()),
                IpAddr::V6(address) => address.octets(),
            })
            .collect();
        // With the flag, what is missing is not judged: stale addresses go, which makes room, then
        // the new ones come, then the flag. Without it nobody asks for them any more, and only then
        // the last of them go.
        if !wanted.is_empty() {
            destinations.keep(&wanted)?;
        }
        destinations.add(&wanted)?;
        self.write(config_of(settings, generation))?;
        destinations.keep(&wanted)
    }

    /// The generation of the tries of allowed networks.
    pub(super) fn generation(&self) -> u16 {
        self.config.generation
    }

    /// Raises the generation, and so makes the program ask the tries about every entry that was
    /// written before, as long as that one lasts. It comes round after 65,535 changes of the list; no sentence lasts as long.
    pub(super) fn raise_generation(&mut self) -> Result<(), FilterError> {
        let mut config = self.config;
        config.generation = after(config.generation);
        self.write(config)
    }

    /// Whether what would be dropped is only counted.
    pub(super) fn observes(&self) -> bool {
        self.config.flags & Config::OBSERVE != 0
    }

    /// How long a blocked client waits for its first connection.
    pub(super) fn block_interval(&self) -> u64 {
        self.config.block.interval
    }

    fn write(&mut self, config: Config) -> Result<(), FilterError> {
        self.map
            .set(0, config, 0)
            .map_err(map_error(map::CONFIG, "written"))?;
        self.config = config;
        Ok(())
    }
}

/// The generation after this one.
fn after(generation: u16) -> u16 {
    match generation.wrapping_add(1) {
        Config::NO_GENERATION => Config::NO_GENERATION + 1,
        next => next,
    }
}

fn config_of(settings: &Settings, generation: u16) -> Config {
    let rate = Limit::new(
        nanos(Duration::from_mins(1)) / u64::from(settings.rate.max(1)),
        settings.rate_burst,
    );
    let block = Limit::new(nanos(settings.block_interval), 1);
    let mut config = Config::new(rate, block, generation);
    config.event_interval = nanos(EVENT_INTERVAL);
    if settings.action == Action::Observe {
        config.flags |= Config::OBSERVE;
    }
    if !settings.addresses.is_empty() {
        config.flags |= Config::ONLY_DESTINATIONS;
    }
    config
}

/// Sets the bits of `ports`, and clears those of ports that an earlier daemon protected.
fn protect_ports(ebpf: &mut Ebpf, ports: &[u16]) -> Result<(), FilterError> {
    let mut map: Array<MapData, u64> = take_map(ebpf, map::PORTS)?;
    let mut words = vec![0_u64; abi::PORT_WORDS as usize];
    for &port in ports {
        let (index, mask) = abi::port_bit(port);
        if let Some(word) = words.get_mut(index as usize) {
            *word |= mask;
        }
    }
    for (index, word) in (0..).zip(words) {
        let there = map.get(&index, 0).map_err(map_error(map::PORTS, "read"))?;
        if there != word {
            map.set(index, word, 0)
                .map_err(map_error(map::PORTS, "written"))?;
        }
    }
    Ok(())
}

/// The addresses of this host that are protected, where not all are.
struct Destinations(HashMap<MapData, [u8; 16], u8>);

impl Destinations {
    fn take(ebpf: &mut Ebpf) -> Result<Self, FilterError> {
        take_map(ebpf, map::DESTINATIONS).map(Self)
    }

    fn add(&mut self, wanted: &BTreeSet<[u8; 16]>) -> Result<(), FilterError> {
        for address in wanted {
            self.0
                .insert(address, 0, 0)
                .map_err(map_error(map::DESTINATIONS, "written"))?;
        }
        Ok(())
    }

    fn keep(&mut self, wanted: &BTreeSet<[u8; 16]>) -> Result<(), FilterError> {
        let there: Vec<[u8; 16]> = self
            .0
            .keys()
            .collect::<Result<_, _>>()
            .map_err(map_error(map::DESTINATIONS, "read"))?;
        for address in there.iter().filter(|address| !wanted.contains(*address)) {
            unless_absent(self.0.remove(address))
                .map_err(map_error(map::DESTINATIONS, "written"))?;
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Ten lines a second and CPU at most, in the debug log of an MX under attack.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_nanoseconds() {
        let config = config_of(&Settings::default(), 7);
        assert_eq!(config.rate, Limit::new(15_000_000_000, 8));
        assert_eq!(config.block, Limit::new(3_600_000_000_000, 1));
        assert_eq!((config.generation, config.flags), (7, 0));
    }

    #[test]
    fn generations_come_round_without_the_one_that_is_none() {
        assert_eq!([1, 2, u16::MAX].map(after), [2, 3, 1]);
        assert_eq!(after(Config::NO_GENERATION), 1);
    }

    #[test]
    fn flags_follow_the_settings() {
        let settings = Settings {
            action: Action::Observe,
            addresses: vec![[192, 0, 2, 1].into()],
            rate: 0,
            ..Settings::default()
        };
        let config = config_of(&settings, 1);
        assert_eq!(config.flags, Config::OBSERVE | Config::ONLY_DESTINATIONS);
        assert_eq!(config.rate.interval, 60_000_000_000, "0 is taken for 1");
    }
}

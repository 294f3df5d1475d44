//! xdp-filter of the xdp-tools, loaded by its own command line on a cable of its own.
//!
//! It gets the leanest of its programs that can do the work: addresses only, no ports. Its command
//! line adds one address at a time, which takes minutes for all; it adds the first, and the others
//! are written into its map as that one was.

use std::{net::Ipv4Addr, process::Command};

use aya::maps::{MapData, MapInfo, PerCpuArray, PerCpuHashMap, PerCpuValues};
use support::{Error, process, requirements};

use crate::{
    error::{failed, missing},
    filter,
    meter::{Measured, Meter},
    yard::{Cable, Yard},
};

/// The loaded peer.
pub(crate) struct XdpFilter {
    /// Its program.
    pub(crate) measured: Measured,
    /// Where it is attached.
    pub(crate) cable: Cable,
    statistics: PerCpuArray<MapData, [u64; 2]>,
}

impl XdpFilter {
    /// Loads it and makes it drop what comes from `addresses`.
    pub(crate) fn load(
        yard: &Yard,
        meter: &mut Meter,
        addresses: &[Ipv4Addr],
    ) -> Result<Self, Error> {
        let command = requirements::program("xdp-filter")
            .map_err(|why| Error::unexpected("the package xdp-tools", why))?;
        let cable = yard.cable("xdpf")?;
        process::run_in(
            &yard.mx,
            Command::new(&command)
                .args(["load", "--mode", "native", "--policy", "allow"])
                .args(["--features", "ipv4,ipv6", &cable.mx]),
        )?;
        let first = addresses
            .first()
            .ok_or_else(|| missing("an address to filter"))?;
        process::run_in(
            &yard.mx,
            Command::new(&command).args(["ip", "--mode", "src", &first.to_string()]),
        )?;
        let info = filter::program(yard.program(&cable.mx)?)?;
        let maps = info
            .map_ids()
            .map_err(failed("asking which maps xdp-filter has"))?
            .unwrap_or_default();
        let mut filter: PerCpuHashMap<MapData, [u8; 4], u64> = open(&maps, "filter_ipv4")?;
        let written: u64 = filter
            .get(&first.octets(), 0)
            .map_err(failed("reading what xdp-filter wrote"))?
            .iter()
            .copied()
            .max()
            .unwrap_or(0);
        for address in &addresses[1..] {
            let cpus =
                aya::util::nr_cpus().map_err(|(_, error)| Error::io("counting the CPUs")(error))?;
            let values = PerCpuValues::try_from(vec![written; cpus])
                .map_err(Error::io("writing xdp-filter's map"))?;
            filter
                .insert(address.octets(), values, 0)
                .map_err(failed("writing xdp-filter's map"))?;
        }
        let fd = info.fd().map_err(failed("using xdp-filter's program"))?;
        let frags = meter.takes_frags(&fd);
        Ok(Self {
            measured: Measured { program: fd, frags },
            cable,
            statistics: open(&maps, "xdp_stats_map")?,
        })
    }

    /// Frames that it dropped, up to now.
    pub(crate) fn dropped(&self) -> u64 {
        self.statistics
            .get(&XDP_DROP, 0)
            .map_or(0, |counts| counts.iter().map(|[frames, _]| frames).sum())
    }
}

/// The map of this name among those of a program.
fn open<M>(ids: &[u32], name: &str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    for id in ids {
        let info = MapInfo::from_id(*id).map_err(failed("looking at a map of xdp-filter's"))?;
        if info.name_as_str() == Some(name) {
            let data = MapData::from_id(*id).map_err(failed(format!("opening {name}")))?;
            return aya::maps::Map::from_map_data(data)
                .and_then(M::try_from)
                .map_err(failed(format!("using {name}")));
        }
    }
    Err(missing(format!("the map {name} of xdp-filter")))
}

const XDP_DROP: u32 = 1;

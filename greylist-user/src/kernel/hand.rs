//! The filter by hand, without a daemon: load, try out, look at, unload.
//!
//! What works on the pins holds their lock meanwhile, so that a daemon and a command never meet.

use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError, MapInfo, PerCpuArray};
use greylist_ebpf::abi::{self, Config, Counter, Level};

use super::{
    FilterError, FilterStatus, InterfaceStatus, Loaded, ObtainedMode, OnStatus, Pinned,
    PinnedSentence, Settings, Unloaded, attach,
    layout::Sentences,
    netlink::Netlink,
    panic,
    pins::{self, Pins},
    xdp::{Pinning, XdpFilter},
};
use crate::clock::kernel_now;

/// Attaches the program to every interface of `settings` and pins it, so that it outlives the
/// calling process; what is pinned already is taken over, its sentences with it. Drops nobody that
/// no daemon sentenced.
///
/// # Errors
///
/// What is in the way; then nothing is attached or pinned that was not before.
pub fn load(settings: &Settings) -> Result<Loaded, FilterError> {
    let filter = attach_all(settings, |_| Ok(()))?;
    finish(filter, settings)
}

/// Attaches the program to every interface of `settings`, until the calling process ends, however it
/// does, or until the trial is kept.
///
/// # Errors
///
/// What is in the way, pins among it: a filter that is on already is nothing to try out. Then
/// nothing stays attached.
pub fn try_out(settings: &Settings) -> Result<Trial, FilterError> {
    let refuse_pinned = |pins: &Pins| {
        if pins.interfaces()?.is_empty() {
            return Ok(());
        }
        Err(FilterError::AlreadyPinned(settings.pin_directory.clone()))
    };
    let filter = attach_all(settings, refuse_pinned)?;
    Ok(Trial {
        filter,
        settings: settings.clone(),
    })
}

/// A filter that is attached, and pinned only if it is kept.
pub struct Trial {
    filter: XdpFilter,
    settings: Settings,
}

impl Trial {
    /// The interfaces that are filtered.
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        self.filter.interfaces()
    }

    /// Pins it, as [`load`] does.
    ///
    /// # Errors
    ///
    /// When it cannot be pinned; then nothing stays attached.
    pub fn keep(self) -> Result<Loaded, FilterError> {
        finish(self.filter, &self.settings)
    }

    /// Detaches it.
    pub fn end(self) {
        self.filter.give_up();
    }
}

/// Detaches what is pinned, and removes the pins of every version. Nothing loaded is as good.
///
/// # Errors
///
/// When the pins belong to somebody else, another greygate works on them, or they cannot be removed.
pub fn unload(settings: &Settings) -> Result<Unloaded, FilterError> {
    let directory = &settings.pin_directory;
    let pins = match Pins::find(directory)? {
        Some(pins) => pins.remove()?,
        None => Vec::new(),
    };
    Ok(Unloaded {
        pins,
        directory: directory.clone(),
    })
}

/// Takes off what an earlier daemon left pinned, for one that is to filter nowhere.
///
/// # Errors
///
/// When there is something, and it stays.
pub(super) fn let_go(settings: &Settings) -> Result<(), FilterError> {
    let directory = &settings.pin_directory;
    // What cannot even be read was pinned by somebody else.
    let links = pins::interfaces(directory).unwrap_or_default();
    if links.is_empty() {
        return Ok(());
    }
    unload(settings)?;
    tracing::info!(interface = links.join(" "), "let-go");
    Ok(())
}

/// What is pinned, read without changing anything; `None` when nothing is.
///
/// # Errors
///
/// When the pins belong to somebody else or are another version's, or cannot be read.
pub fn look(settings: &Settings) -> Result<Option<Pinned>, FilterError> {
    let directory = &settings.pin_directory;
    let names = pins::interfaces(directory)?;
    if names.is_empty() {
        return Ok(None);
    }
    pins::check_owners(directory)?;
    let maps = pins::maps_in(directory);
    if !maps.exists() {
        return Err(FilterError::OtherVersion(directory.clone()));
    }
    let netlink = Netlink::open().map_err(FilterError::io("opening a netlink socket"))?;
    let interfaces = names
        .into_iter()
        .map(|name| interface_status(name, directory, &netlink))
        .collect();
    let frames = read_frames(&maps).map_err(unreadable(abi::map::COUNTERS))?;
    let config = read_config(&maps).map_err(unreadable(abi::map::CONFIG))?;
    let sentences = Sentences::read(&maps);
    let (entries_ipv4, entries_ipv6) = sentences.lens();
    let drops = frames.iter().filter(|(counter, _)| counter.is_dropped());
    let capacity = MapInfo::from_pin(maps.join(abi::map::IPV4))
        .map_err(unreadable(abi::map::IPV4))?
        .max_entries();
    let at_this_capacity = Settings {
        capacity,
        ..settings.clone()
    };
    let filter = OnStatus {
        interfaces,
        ports: read_ports(&maps).map_err(unreadable(abi::map::PORTS))?,
        observes: config.flags & Config::OBSERVE != 0,
        entries_ipv4,
        entries_ipv6,
        capacity,
        allowed_networks: sentences.allowed(),
        memory: at_this_capacity.memory(),
        drops: drops.map(|(_, frames)| frames).sum(),
        frames: frames
            .iter()
            .map(|(counter, frames)| (counter.name().to_owned(), *frames))
            .collect(),
        ..OnStatus::default()
    };
    let now = kernel_now().as_nanos();
    let mut listed: Vec<PinnedSentence> = sentences
        .entries()
        .map(|(client, entry)| PinnedSentence {
            client: client.to_string(),
            level: match entry.level() {
                Some(Level::Block) => "block",
                Some(Level::Rate) => "rate",
                Some(Level::Observe) | None => "observe",
            }
            .to_owned(),
            left: entry.until.as_nanos().saturating_sub(now) / NANOS_PER_SECOND,
            drops: entry.drops,
        })
        .collect();
    listed.sort_by(|one, other| (other.left, &one.client).cmp(&(one.left, &other.client)));
    Ok(Some(Pinned {
        directory: directory.clone(),
        filter: FilterStatus::On(filter),
        sentences: listed,
    }))
}

/// Everything or nothing: attached to every interface, with pins to be had.
fn attach_all(
    settings: &Settings,
    check: impl FnOnce(&Pins) -> Result<(), FilterError>,
) -> Result<XdpFilter, FilterError> {
    if settings.interfaces.is_empty() {
        return Err(FilterError::NoInterface);
    }
    panic::obey(&settings.panic_file)?;
    let pins = Pins::make(&settings.pin_directory)?;
    check(&pins)?;
    let mut filter = XdpFilter::attach(settings, Pinning::On(pins))?;
    match filter.first_failure() {
        Ok(()) => Ok(filter),
        Err(error) => {
            filter.give_up();
            Err(error)
        }
    }
}

fn finish(mut filter: XdpFilter, settings: &Settings) -> Result<Loaded, FilterError> {
    filter.pin();
    filter.obey_panic()?;
    let interfaces = filter.interfaces();
    if let Some(why) = interfaces.iter().find_map(|it| it.why_unpinned.clone()) {
        filter.give_up();
        return Err(FilterError::Unpinned(why));
    }
    let sentences = Sentences::read(&pins::maps_in(&settings.pin_directory));
    let (ipv4, ipv6) = sentences.lens();
    Ok(Loaded {
        interfaces,
        directory: settings.pin_directory.clone(),
        entries: ipv4 + ipv6,
        capacity: settings.capacity,
        memory: settings.memory(),
    })
}

fn interface_status(name: String, directory: &Path, netlink: &Netlink) -> InterfaceStatus {
    let (mode, why) = match attach::pinned(&name, &pins::link_in(directory, &name), netlink) {
        Ok(Some((_, mode, _))) => (mode, None),
        Ok(None) => (
            ObtainedMode::Detached,
            Some("the interface has gone, or the program was detached from it".to_owned()),
        ),
        Err(error) => (ObtainedMode::Detached, Some(error.chain())),
    };
    InterfaceStatus {
        name,
        mode,
        why,
        pinned: mode != ObtainedMode::Detached,
        why_unpinned: None,
    }
}

/// Those that the program knows: an earlier one, which still runs, may know fewer.
fn read_frames(maps: &Path) -> Result<Vec<(Counter, u64)>, MapError> {
    let map = MapData::from_pin(maps.join(abi::map::COUNTERS))?;
    let counters: PerCpuArray<_, u64> = Map::from_map_data(map)?.try_into()?;
    let known = counters.len();
    Counter::ALL
        .into_iter()
        .filter(|counter| counter.index() < known)
        .map(|counter| {
            let frames = counters.get(&counter.index(), 0)?;
            Ok((counter, frames.iter().sum()))
        })
        .collect()
}

fn read_ports(maps: &Path) -> Result<Vec<u16>, MapError> {
    let map = MapData::from_pin(maps.join(abi::map::PORTS))?;
    let words: Array<_, u64> = Map::from_map_data(map)?.try_into()?;
    let words: Vec<u64> = words.iter().collect::<Result<_, _>>()?;
    let is_set = |port: &u16| {
        let (index, mask) = abi::port_bit(*port);
        words
            .get(index as usize)
            .is_some_and(|word| word & mask != 0)
    };
    Ok((0..=u16::MAX).filter(is_set).collect())
}

fn read_config(maps: &Path) -> Result<Config, MapError> {
    let map = MapData::from_pin(maps.join(abi::map::CONFIG))?;
    let map: Array<_, Config> = Map::from_map_data(map)?.try_into()?;
    map.get(&0, 0)
}

fn unreadable(map: &'static str) -> impl FnOnce(MapError) -> FilterError {
    move |error| FilterError::Map {
        map,
        done: "read",
        source: error.into(),
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

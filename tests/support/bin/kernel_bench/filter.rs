//! Greygate's own side: the real object, opened and filled by the code of the daemon.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
};

use aya::{
    maps::MapInfo,
    programs::{ProgramInfo, loaded_programs},
};
use greygate::{
    clock::{Clock as _, SystemClock},
    kernel::{self, Change, Counter, FilterStatus, KernelFilter, Mode, OnStatus, Settings},
    policy::Sentence,
};
use greylist_ebpf::abi;
use support::Error;

use crate::{
    error::failed,
    meter::Measured,
    yard::{Cable, Yard},
};

/// A filter on a cable of its own.
pub(crate) struct Greygate {
    /// The filter, as the daemon's projector drives it.
    pub(crate) filter: Box<dyn KernelFilter>,
    /// Its program.
    pub(crate) measured: Measured,
    /// Where it is attached.
    pub(crate) cable: Cable,
    info: ProgramInfo,
}

/// What the maps of a filter hold of the kernel's memory, by the kernel's own account.
pub(crate) struct Memory {
    /// Bytes of the map of IPv4 sentences.
    pub(crate) ipv4: u64,
    /// Bytes of the map of IPv6 sentences.
    pub(crate) ipv6: u64,
    /// Bytes of all maps, those two among them.
    pub(crate) all: u64,
}

/// What the filters of a run are made of.
pub(crate) struct Workshop<'a> {
    /// Where they are attached.
    pub(crate) yard: &'a Yard,
    /// The kernel program.
    pub(crate) object: PathBuf,
}

impl Workshop<'_> {
    /// Opens a filter on a new cable called `name`, without pins.
    pub(crate) fn open(&self, name: &str, settings: Settings) -> Result<Greygate, Error> {
        let cable = self.yard.cable(name)?;
        let settings = Settings {
            interfaces: vec![cable.mx.clone()],
            mode: Mode::NativeRequired,
            object: self.object.clone(),
            pin: false,
            pin_directory: PathBuf::from("/nonexistent"),
            panic_file: PathBuf::from("/nonexistent/xdp-panic"),
            ..settings
        };
        let filter = self.yard.mx.run(|| kernel::open(&settings));
        let FilterStatus::On(_) = filter.status() else {
            return Err(Error::unexpected(
                "a filter that is on",
                format!("{:?}", filter.status()),
            ));
        };
        let info = program(self.yard.program(&cable.mx)?)?;
        Ok(Greygate {
            filter,
            measured: Measured {
                program: info.fd().map_err(failed("using greygate's program"))?,
                frags: true,
            },
            cable,
            info,
        })
    }
}

impl Greygate {
    /// Puts `sentences` into the kernel.
    pub(crate) fn sentence(
        &mut self,
        sentences: impl IntoIterator<Item = Sentence>,
    ) -> Result<(), Error> {
        let changes: Vec<Change> = sentences.into_iter().map(Change::Put).collect();
        self.filter
            .apply(&changes, SystemClock.now())
            .map_err(failed("writing sentences into the kernel"))
    }

    /// Frames that were counted as this, up to now: all that were dropped, where it is one of those
    /// words, since a frame that is sent again is dropped as a repetition.
    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        let status = self.status();
        let count = |status: OnStatus| {
            if counter.is_dropped() {
                status.drops
            } else {
                status.frames.get(counter.name()).copied().unwrap_or(0)
            }
        };
        status.map_or(0, count)
    }

    /// What all of its maps hold.
    pub(crate) fn memory(&self) -> Result<Memory, Error> {
        let ids = self
            .info
            .map_ids()
            .map_err(failed("asking which maps greygate has"))?
            .unwrap_or_default();
        let mut memory = Memory {
            ipv4: 0,
            ipv6: 0,
            all: 0,
        };
        for id in ids {
            let map = MapInfo::from_id(id).map_err(failed("looking at a map of greygate's"))?;
            let bytes = locked(&map)?;
            memory.all += bytes;
            match map.name_as_str() {
                Some(abi::map::IPV4) => memory.ipv4 = bytes,
                Some(abi::map::IPV6) => memory.ipv6 = bytes,
                _ => {}
            }
        }
        Ok(memory)
    }

    fn status(&self) -> Option<OnStatus> {
        match self.filter.status() {
            FilterStatus::On(status) => Some(status),
            FilterStatus::Off { .. } => None,
        }
    }
}

/// The program with this number.
pub(crate) fn program(id: u32) -> Result<ProgramInfo, Error> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .ok_or_else(|| Error::unexpected("a loaded program", format!("none has the number {id}")))
}

/// What the kernel says that a map holds of its memory.
fn locked(map: &MapInfo) -> Result<u64, Error> {
    let fd = map.fd().map_err(failed("opening a map"))?;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let info = fs::read_to_string(&path).map_err(Error::io(format!("reading {path}")))?;
    info.lines()
        .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
        .ok_or_else(|| Error::unexpected("a map's account of its memory", info))
}

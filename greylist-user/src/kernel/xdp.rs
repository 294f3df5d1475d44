//! The filter that works: greygate's XDP program on one or several interfaces.
//!
//! Minimum kernel 6.1. The attachments live as long as this filter, or its process; the sentences in
//! the maps end by the kernel's clock even when nobody is left to remove them.

use std::path::PathBuf;

use aya::Ebpf;
use greylist_ebpf::abi::{self, Counter};
use ipnet::IpNet;

use super::{
    Change, Entry, FilterError, FilterStatus, InterfaceStatus, KernelFilter, ObtainedMode,
    OnStatus, Settings,
    attach::{Attachment, attach},
    maps::Maps,
    netlink::Netlink,
    object,
};
use crate::policy::Timestamp;

/// The attached program and its maps.
pub struct XdpFilter {
    maps: Maps,
    interfaces: Vec<Interface>,
    program: u32,
    ports: Vec<u16>,
    capacity: u32,
    netlink: Netlink,
    /// The flag of `panic`, which tells who took the program off.
    panic_file: PathBuf,
    #[cfg(feature = "debug-log")]
    log: Option<super::debug_log::ProgramLog>,
}

/// One interface of the configuration, and how attaching went.
#[derive(Debug)]
struct Interface {
    name: String,
    attached: Result<Attachment, FilterError>,
}

impl XdpFilter {
    /// Loads the program and attaches it to the interfaces of `settings`, in the calling thread's
    /// network namespace.
    ///
    /// One interface that cannot be had does not leave the others unguarded: it is logged, and
    /// the status says why.
    ///
    /// # Errors
    ///
    /// When the program cannot be loaded, or attached to none of the interfaces; then the reason
    /// of the first one.
    pub fn open(settings: &Settings) -> Result<Self, FilterError> {
        let netlink = Netlink::open().map_err(FilterError::io("opening a netlink socket"))?;
        let mut ebpf = object::load(settings)?;
        let interfaces = attach_all(&mut ebpf, settings, &netlink)?;
        object::obey_panic(settings)?;
        let filter = Self {
            #[cfg(feature = "debug-log")]
            log: super::debug_log::ProgramLog::of(&mut ebpf),
            maps: Maps::take(&mut ebpf, settings)?,
            interfaces,
            program: object::program(&mut ebpf)
                .and_then(|program| program.info())
                .map_err(|error| FilterError::Map {
                    map: abi::PROGRAM,
                    done: "asked for its number",
                    source: error.into(),
                })?
                .id(),
            ports: settings.ports.clone(),
            capacity: settings.capacity,
            netlink,
            panic_file: settings.panic_file.clone(),
        };
        filter.log_interfaces();
        Ok(filter)
    }

    fn log_interfaces(&self) {
        for interface in &self.interfaces {
            let InterfaceStatus { name, mode, why } = self.interface_status(interface);
            match why {
                None => tracing::info!(interface = name, %mode, "attached"),
                Some(why) if interface.attached.is_ok() => {
                    tracing::warn!(interface = name, %mode, why, "attached");
                }
                Some(why) => tracing::warn!(interface = name, why, "unfiltered"),
            }
        }
    }

    fn interface_status(&self, interface: &Interface) -> InterfaceStatus {
        let name = interface.name.clone();
        let (mode, why) = match &interface.attached {
            Err(error) => (ObtainedMode::Detached, Some(error.chain())),
            Ok(attachment) => match self.netlink.attached(attachment.index) {
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                    (ObtainedMode::Detached, Some(GONE.to_owned()))
                }
                Err(error) => (
                    ObtainedMode::Detached,
                    Some(format!("not to be told: {error}")),
                ),
                Ok(programs) => programs
                    .iter()
                    .find(|attached| attached.program == self.program)
                    .map_or_else(
                        || (ObtainedMode::Detached, Some(self.taken_off())),
                        |attached| (attached.mode, attachment.why.clone()),
                    ),
            },
        };
        InterfaceStatus { name, mode, why }
    }

    /// Why the program is not where it was attached.
    fn taken_off(&self) -> String {
        if self.panic_file.exists() {
            FilterError::Panicked(self.panic_file.clone()).chain()
        } else {
            TAKEN_OFF.to_owned()
        }
    }
}

impl KernelFilter for XdpFilter {
    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FilterError> {
        self.maps.apply(changes, now)
    }

    fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError> {
        self.maps.entries(now)
    }

    fn allow(&mut self, networks: &[IpNet]) -> Result<(), FilterError> {
        self.maps.allow(networks)
    }

    fn tend(&mut self) {
        self.maps.tell_events();
        #[cfg(feature = "debug-log")]
        if let Some(log) = &mut self.log {
            log.tell();
        }
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn status(&self) -> FilterStatus {
        let frames: Vec<(Counter, u64)> = self.maps.frames().collect();
        FilterStatus::On(OnStatus {
            interfaces: self
                .interfaces
                .iter()
                .map(|interface| self.interface_status(interface))
                .collect(),
            ports: self.ports.clone(),
            entries_ipv4: self.maps.len_ipv4(),
            entries_ipv6: self.maps.len_ipv6(),
            capacity: self.capacity,
            drops: frames
                .iter()
                .filter(|(counter, _)| counter.is_dropped())
                .map(|(_, frames)| frames)
                .sum(),
            frames: frames
                .into_iter()
                .map(|(counter, frames)| (counter.name().to_owned(), frames))
                .collect(),
        })
    }
}

fn attach_all(
    ebpf: &mut Ebpf,
    settings: &Settings,
    netlink: &Netlink,
) -> Result<Vec<Interface>, FilterError> {
    let program = object::program(ebpf).map_err(|error| FilterError::NotOurObject {
        path: settings.object.clone(),
        detail: error.to_string(),
    })?;
    let mut interfaces: Vec<Interface> = settings
        .interfaces
        .iter()
        .map(|name| Interface {
            name: name.clone(),
            attached: attach(program, name, settings.mode, netlink),
        })
        .collect();
    if interfaces
        .iter()
        .all(|interface| interface.attached.is_err())
    {
        let first = interfaces.swap_remove(0);
        first.attached?;
    }
    Ok(interfaces)
}

const GONE: &str = "the interface has gone; restart greygate when it is back";
const TAKEN_OFF: &str = "detached by somebody else; a restart of greygate attaches it again";

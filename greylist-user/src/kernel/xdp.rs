//! The filter that works: greygate's XDP program on one or several interfaces.
//!
//! Minimum kernel 6.1. What is pinned outlives this filter and its process, and the next one takes it
//! over; what is not ends with them, however they end. The sentences in the maps end by the kernel's
//! clock even when nobody is left to remove them.
//!
//! Rights are needed while it is opened. Afterwards the descriptors it holds suffice, to write the
//! maps and to attach to an interface again.

use std::{mem, path::PathBuf};

use aya::{Ebpf, maps::MapData};
use greylist_ebpf::abi;
use ipnet::IpNet;

use super::{
    Change, Entry, FilterError, FilterStatus, InterfaceStatus, KernelFilter, Mode, ObtainedMode,
    OnStatus, Settings,
    attach::{self, Attachment},
    layout::{self, Sentences},
    maps::Maps,
    netlink::Netlink,
    object, panic,
    pins::{self, Pins},
};
use crate::policy::{SentencedClient, Timestamp};

/// The attached program and its maps.
pub struct XdpFilter {
    // Detached before the pins are let go of: in the order of their declaration.
    interfaces: Vec<Interface>,
    maps: Maps,
    /// Maps that were made anew and are not pinned yet.
    new_maps: Vec<(&'static str, MapData)>,
    /// Holds the program, to attach it again.
    ebpf: Ebpf,
    program: u32,
    mode: Mode,
    ports: Vec<u16>,
    capacity: u32,
    netlink: Netlink,
    /// The flag of `panic`, which tells who took the program off.
    panic_file: PathBuf,
    #[cfg(feature = "debug-log")]
    log: Option<super::debug_log::ProgramLog>,
    pinning: Pinning,
}

/// Whether the filter outlives its process.
#[derive(Debug)]
pub(super) enum Pinning {
    /// It does.
    On(Pins),
    /// It shall not. What an earlier one left pinned is taken over, and its pins are removed.
    Off(Option<Pins>),
    /// It should, but that is not to be had.
    Impossible(String),
}

/// One interface of the configuration, and how attaching went.
#[derive(Debug)]
struct Interface {
    name: String,
    /// The index that was tried last: another one is another device under the same name.
    tried: Option<u32>,
    attached: Result<Attachment, FilterError>,
    pinned: bool,
    /// Why it is not pinned, where it should be.
    why_unpinned: Option<String>,
}

impl XdpFilter {
    /// Loads the program and attaches it to the interfaces of `settings`, in the calling thread's
    /// network namespace. What another greygate left pinned is taken over, and no frame meets an
    /// interface without a program meanwhile.
    ///
    /// One interface that cannot be had does not leave the others unguarded: it is logged, and
    /// the status says why. Nor do pins that cannot be had: then the filter ends with its process.
    ///
    /// # Errors
    ///
    /// When another greygate works on the pins, and when the program cannot be loaded, or attached
    /// to none of the interfaces although there is one; then the reason of the first one.
    pub fn open(settings: &Settings) -> Result<Self, FilterError> {
        let pinning = Pinning::of(settings)?;
        let is_inherited = pinning.has_links();
        let mut filter = Self::attach(settings, pinning).map_err(|error| {
            if is_inherited {
                FilterError::Unruled(Box::new(error))
            } else {
                error
            }
        })?;
        if filter.interfaces.iter().all(Interface::is_refused) {
            let refused = filter.first_failure();
            filter.give_up();
            return refused.and(Err(FilterError::NoInterface));
        }
        filter.pin();
        filter.obey_panic()?;
        filter.log_interfaces();
        Ok(filter)
    }

    /// Loads and attaches, or takes over; pins nothing new.
    pub(super) fn attach(settings: &Settings, pinning: Pinning) -> Result<Self, FilterError> {
        let netlink = Netlink::open().map_err(FilterError::io("opening a netlink socket"))?;
        if let Pinning::On(pins) | Pinning::Off(Some(pins)) = &pinning
            && let Err(error) = attach::follow_renames(pins, &netlink)
        {
            tracing::warn!(why = error.chain(), "pin-ignored");
        }
        let inheritance = Inheritance::of(&pinning, settings);
        let mut ebpf = object::load(settings, inheritance.same())?;
        let mut new_maps = object::maps(&ebpf)?;
        match inheritance {
            Inheritance::Nothing => {}
            Inheritance::Same(directory) => {
                layout::verify(&new_maps, &directory, settings.capacity)?;
                new_maps.clear();
            }
            Inheritance::Changed(sentences) => sentences.write(&mut ebpf, settings.capacity)?,
        }
        let mut filter = Self {
            interfaces: Vec::new(),
            maps: Maps::take(&mut ebpf, settings)?,
            new_maps,
            program: object::program(&mut ebpf)
                .and_then(|program| program.info())
                .map_err(|error| FilterError::Map {
                    map: abi::PROGRAM,
                    done: "asked for its number",
                    source: error.into(),
                })?
                .id(),
            mode: settings.mode,
            ports: settings.ports.clone(),
            capacity: settings.capacity,
            netlink,
            panic_file: settings.panic_file.clone(),
            #[cfg(feature = "debug-log")]
            log: super::debug_log::ProgramLog::of(&mut ebpf),
            ebpf,
            pinning,
        };
        for name in &settings.interfaces {
            let interface = filter.take_over(name.clone());
            filter.interfaces.push(interface);
        }
        Ok(filter)
    }

    /// Pins what is not pinned yet and removes the pins that are not wanted: of other interfaces, of
    /// other layouts, or all where nothing shall be pinned.
    pub(super) fn pin(&mut self) {
        let pinned = match &self.pinning {
            Pinning::On(pins) => self.pin_maps(pins),
            Pinning::Off(_) => return self.unpin(),
            Pinning::Impossible(_) => return,
        };
        if let Err(error) = pinned {
            let why = error.chain();
            tracing::warn!(why, "unpinned");
            // A link without its maps would outlive us, and nobody could rule it.
            self.unpin();
            self.pinning = Pinning::Impossible(why);
            return;
        }
        self.new_maps.clear();
        let interfaces = mem::take(&mut self.interfaces);
        self.interfaces = interfaces
            .into_iter()
            .map(|interface| self.pinned(interface))
            .collect();
        if let Pinning::On(pins) = &self.pinning
            && let Err(error) = self.remove_unwanted(pins)
        {
            tracing::warn!(why = error.chain(), "pins-left");
        }
    }

    /// Detaches what was attached anew, pinned or not, unless something is kept that was there
    /// before: then pins that. For whoever wants everything or nothing.
    pub(super) fn give_up(mut self) {
        let is_adopted = |it: &Interface| it.attached.as_ref().is_ok_and(|it| it.is_adopted);
        if self.interfaces.iter().any(is_adopted) {
            self.interfaces.retain(is_adopted);
            self.pin();
        } else if self.interfaces.iter().any(|it| it.pinned) {
            self.unpin();
        }
    }

    /// Why the first interface that is not attached is not.
    pub(super) fn first_failure(&mut self) -> Result<(), FilterError> {
        match self.interfaces.iter().position(|it| it.attached.is_err()) {
            Some(position) => self.interfaces.swap_remove(position).attached.map(drop),
            None => Ok(()),
        }
    }

    /// Refuses when `panic` was called meanwhile, which has seen nothing to detach then; takes off
    /// what was attached and pinned since.
    pub(super) fn obey_panic(&mut self) -> Result<(), FilterError> {
        panic::obey(&self.panic_file).inspect_err(|_| {
            self.unpin();
            self.interfaces.clear();
        })
    }

    /// How each interface is filtered.
    pub(super) fn interfaces(&self) -> Vec<InterfaceStatus> {
        let interfaces = self.interfaces.iter();
        interfaces.map(|it| self.interface_status(it)).collect()
    }

    /// Adopts the pinned link of an interface, or attaches to it.
    fn take_over(&mut self, name: String) -> Interface {
        let pin = match &self.pinning {
            Pinning::On(pins) | Pinning::Off(Some(pins)) => Some(pins.link(&name)),
            _ => None,
        };
        let tried = attach::index_of(&name).ok();
        let adopted = match (&pin, object::program(&mut self.ebpf)) {
            (Some(pin), Ok(program)) => {
                attach::adopt(program, &name, pin, self.mode, &self.netlink)
            }
            _ => Ok(None),
        };
        let (attached, why_unpinned) = match adopted {
            Ok(Some(attachment)) => (Ok(attachment), None),
            Ok(None) => (self.attach_to(&name), None),
            Err(error @ FilterError::AlienPin(_)) => (self.attach_to(&name), Some(error.chain())),
            Err(error) => (Err(error), None),
        };
        Interface {
            name,
            tried,
            pinned: attached.as_ref().is_ok_and(|it| it.is_adopted),
            attached,
            why_unpinned,
        }
    }

    fn attach_to(&mut self, interface: &str) -> Result<Attachment, FilterError> {
        let program =
            object::program(&mut self.ebpf).map_err(|error| FilterError::NotOurObject {
                path: PathBuf::from(abi::PROGRAM),
                detail: error.to_string(),
            })?;
        attach::attach(program, interface, self.mode, &self.netlink)
    }

    fn pin_maps(&self, pins: &Pins) -> Result<(), FilterError> {
        if self.new_maps.is_empty() {
            return Ok(());
        }
        pins.replace_maps(&self.new_maps)
    }

    /// Pins the link of an interface. One that cannot be pinned is held by its descriptor.
    fn pinned(&mut self, mut interface: Interface) -> Interface {
        let Pinning::On(pins) = &self.pinning else {
            return interface;
        };
        if interface.pinned || interface.why_unpinned.is_some() {
            return interface;
        }
        let pin = pins.link(&interface.name);
        let Ok(attachment) = interface.attached else {
            return interface;
        };
        let pinned = pins::remove_file(&pin).and_then(|()| {
            let Attachment { link, .. } = attachment;
            let link = link
                .pin(&pin)
                .map_err(|error| pins::pin_error(&interface.name, error))?;
            pins.give_to_its_owner(&pin)?;
            Ok(Attachment {
                link: link.into(),
                ..attachment
            })
        });
        match pinned {
            Ok(attachment) => {
                interface.attached = Ok(attachment);
                interface.pinned = true;
            }
            Err(error) => {
                interface.why_unpinned = Some(error.chain());
                // It may be pinned, and only not given away. What keeps it there was complained of.
                let _ = pins::remove_file(&pin);
                // Pinning takes the link, and it went with the attempt.
                interface.attached = self.attach_to(&interface.name);
            }
        }
        interface
    }

    fn remove_unwanted(&self, pins: &Pins) -> Result<(), FilterError> {
        for interface in pins.interfaces()? {
            if self.interfaces.iter().any(|it| it.name == interface) {
                continue;
            }
            let pin = pins.link(&interface);
            let pinned = attach::pinned(&interface, &pin, &self.netlink);
            if let Err(error @ FilterError::AlienPin(_)) = pinned {
                tracing::warn!(why = error.chain(), "pin-ignored");
                continue;
            }
            pins::remove_file(&pin)?;
            tracing::info!(interface, "let-go");
        }
        for directory in pins.newer()? {
            let directory = directory.display();
            tracing::warn!(%directory, "newer-pins");
        }
        pins.sweep()
    }

    /// Removes every pin of ours; what we hold filters on.
    fn unpin(&mut self) {
        for interface in &mut self.interfaces {
            interface.pinned = false;
        }
        let pinning = mem::replace(&mut self.pinning, Pinning::Off(None));
        if let Pinning::On(pins) | Pinning::Off(Some(pins)) = pinning
            && let Err(error) = pins.remove()
        {
            tracing::warn!(why = error.chain(), "pins-left");
        }
    }

    fn log_interfaces(&self) {
        let told = self.maps.told(OnStatus::default());
        let (memory, entries) = (told.memory, told.entries_ipv4 + told.entries_ipv6);
        for interface in &self.interfaces {
            let status = self.interface_status(interface);
            let InterfaceStatus {
                name,
                mode,
                why,
                pinned,
                why_unpinned,
            } = status;
            let Ok(attachment) = &interface.attached else {
                tracing::warn!(interface = name, why, "unfiltered");
                continue;
            };
            tracing::info!(
                interface = name,
                %mode,
                why,
                driver = driver(&name),
                adopted = attachment.is_adopted,
                pinned,
                entries,
                memory,
                "attached"
            );
            if let Some(why) = why_unpinned {
                tracing::warn!(interface = name, why, "unpinned");
            }
        }
    }

    fn interface_status(&self, interface: &Interface) -> InterfaceStatus {
        let (mode, why) = match &interface.attached {
            Err(error @ FilterError::UnknownInterface(_)) => {
                (ObtainedMode::Detached, Some(format!("{error}; {AWAITED}")))
            }
            Err(error) => (ObtainedMode::Detached, Some(error.chain())),
            Ok(attachment) => match self.netlink.attached(attachment.index) {
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                    (ObtainedMode::Detached, Some(format!("{GONE}; {AWAITED}")))
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
        let why_unpinned = match &self.pinning {
            Pinning::Impossible(why) => Some(why.clone()),
            _ => interface.why_unpinned.clone(),
        };
        InterfaceStatus {
            name: interface.name.clone(),
            mode,
            why,
            pinned: interface.pinned && mode != ObtainedMode::Detached,
            why_unpinned,
        }
    }

    /// Why the program is not where it was attached.
    fn taken_off(&self) -> String {
        match panic::obey(&self.panic_file) {
            Err(error) => error.chain(),
            Ok(()) => TAKEN_OFF.to_owned(),
        }
    }

    /// Attaches to an interface that came, or came back under another index. What was detached
    /// while its interface stayed was meant to be.
    fn attach_to_newcomers(&mut self) {
        for position in 0..self.interfaces.len() {
            let Interface { name, tried, .. } = &self.interfaces[position];
            let index = attach::index_of(name).ok();
            if index.is_none() || index == *tried || panic::obey(&self.panic_file).is_err() {
                continue;
            }
            let name = name.clone();
            // The old link goes first, and its pin with it.
            let interface = self.take_over(name);
            let interface = self.pinned(interface);
            if let Err(error) = &interface.attached {
                tracing::warn!(
                    interface = interface.name,
                    why = error.chain(),
                    "unfiltered"
                );
            }
            self.interfaces[position] = interface;
            if let Err(error) = panic::obey(&self.panic_file) {
                // It came in between, and has not seen this one.
                self.interfaces[position].attached = Err(error);
                if let Pinning::On(pins) = &self.pinning {
                    let pin = pins.link(&self.interfaces[position].name);
                    // `panic` has removed the directory, or will.
                    let _ = pins::remove_file(&pin);
                }
            }
        }
    }
}

impl Pinning {
    fn of(settings: &Settings) -> Result<Self, FilterError> {
        let directory = &settings.pin_directory;
        if !settings.pin {
            // Nothing of it concerns us if it is not ours, or another greygate's.
            return Ok(Self::Off(Pins::find(directory).unwrap_or_default()));
        }
        match Pins::make(directory) {
            Ok(pins) => Ok(Self::On(pins)),
            Err(error @ FilterError::PinsLocked(_)) => Err(error),
            Err(error) => {
                let why = error.chain();
                tracing::warn!(why, "unpinned");
                Ok(Self::Impossible(why))
            }
        }
    }

    /// Whether an earlier greygate left links here.
    fn has_links(&self) -> bool {
        match self {
            Self::On(pins) | Self::Off(Some(pins)) => {
                pins.interfaces().is_ok_and(|links| !links.is_empty())
            }
            Self::Off(None) | Self::Impossible(_) => false,
        }
    }
}

/// What pinned maps leave to a start.
enum Inheritance {
    /// There are none.
    Nothing,
    /// Maps in this directory that can be used as they are.
    Same(PathBuf),
    /// Maps that cannot, and what they hold.
    Changed(Sentences),
}

impl Inheritance {
    fn of(pinning: &Pinning, settings: &Settings) -> Self {
        let (Pinning::On(pins) | Pinning::Off(Some(pins))) = pinning else {
            return Self::Nothing;
        };
        let (sentences, why) = if let Some(maps) = pins.maps() {
            let Some(difference) = layout::difference(&maps, settings.capacity) else {
                return Self::Same(maps);
            };
            (Sentences::read(&maps), difference)
        } else if let Some(maps) = pins.first_maps() {
            (Sentences::read_first(maps), "of ABI version 1".to_owned())
        } else {
            return Self::Nothing;
        };
        let (ipv4, ipv6) = sentences.lens();
        tracing::info!(why, ipv4, ipv6, "maps-renewed");
        Self::Changed(sentences)
    }

    fn same(&self) -> Option<&std::path::Path> {
        match self {
            Self::Same(directory) => Some(directory),
            _ => None,
        }
    }
}

impl Interface {
    /// Whether there is an interface, and it takes no program.
    fn is_refused(&self) -> bool {
        !matches!(self.attached, Ok(_) | Err(FilterError::UnknownInterface(_)))
    }
}

impl KernelFilter for XdpFilter {
    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Result<(), FilterError> {
        self.maps.apply(changes, now)
    }

    fn entries(&mut self, now: Timestamp) -> Result<Vec<Entry>, FilterError> {
        self.maps.entries(now)
    }

    fn entry(
        &mut self,
        client: SentencedClient,
        now: Timestamp,
    ) -> Result<Option<Entry>, FilterError> {
        self.maps.look_up(client, now)
    }

    fn allow(&mut self, networks: &[IpNet]) -> Result<(), FilterError> {
        self.maps.allow(networks)
    }

    fn tend(&mut self) {
        self.attach_to_newcomers();
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
        FilterStatus::On(self.maps.told(OnStatus {
            interfaces: self.interfaces(),
            ports: self.ports.clone(),
            capacity: self.capacity,
            ..OnStatus::default()
        }))
    }
}

/// The driver of an interface; `None` where there is no device behind it, or it is not to be seen.
fn driver(interface: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/sys/class/net/{interface}/device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

const GONE: &str = "the interface has gone";
const AWAITED: &str = "it is attached to as soon as it is there, without a restart";
const TAKEN_OFF: &str = "detached by somebody else; a restart of greygate attaches it again";

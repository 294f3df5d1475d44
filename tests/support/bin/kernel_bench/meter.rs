//! What a program costs a frame, by `BPF_PROG_TEST_RUN`, with another source address each time.
//!
//! Holds the BPF side of the benchmark (`greylist-ebpf/src/bench.rs`). Leaves to the callers which
//! programs are compared and whether they did what they were to do.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray},
    programs::{
        ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, TestRunResult, Xdp, XdpMode,
        links::FdLink,
    },
};
use nix::time::{ClockId, clock_gettime};
use support::{Error, interrupt, netns::Namespace};

use crate::error::{failed, missing};

/// Frames of one measurement.
pub(crate) const FRAMES: u32 = 1 << 20;

/// The benchmark's own programs and the lists of addresses they take.
pub(crate) struct Meter {
    ebpf: Ebpf,
    ipv4: Array<MapData, [u8; 4]>,
    ipv6: Array<MapData, [u8; 16]>,
    measured: ProgramArray<MapData>,
    measured_frags: ProgramArray<MapData>,
}

/// A program to be measured.
pub(crate) struct Measured {
    /// The program, wherever it is attached.
    pub(crate) program: ProgramFd,
    /// Whether it was loaded as one that knows fragmented frames: the kernel lets only such
    /// programs call each other.
    pub(crate) frags: bool,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// CPU time of a frame in nanoseconds, the change of its address included.
    pub(crate) nanos: f64,
    /// What the program returned for the last frame.
    pub(crate) action: u32,
}

impl Meter {
    /// Loads the programs from `object`.
    pub(crate) fn load(object: &Path) -> Result<Self, Error> {
        let mut ebpf = EbpfLoader::new()
            .load_file(object)
            .map_err(failed(format!("loading {}", object.display())))?;
        for (name, program) in ebpf.programs_mut() {
            let name = name.to_owned();
            let program: &mut Xdp = program
                .try_into()
                .map_err(failed(format!("using the program {name}")))?;
            program
                .load()
                .map_err(failed(format!("loading the program {name}")))?;
        }
        Ok(Self {
            ipv4: take(&mut ebpf, "SOURCES_V4")?,
            ipv6: take(&mut ebpf, "SOURCES_V6")?,
            measured: take(&mut ebpf, "MEASURED")?,
            measured_frags: take(&mut ebpf, "MEASURED_FRAGS")?,
            ebpf,
        })
    }

    /// Makes `addresses` the sources of IPv4 frames, in this order, again and again.
    pub(crate) fn ipv4_sources(&mut self, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        for (index, address) in (0..self.ipv4.len()).zip(addresses.iter().cycle()) {
            self.ipv4
                .set(index, address.octets(), 0)
                .map_err(failed("writing the list of IPv4 sources"))?;
        }
        Ok(())
    }

    /// The same for IPv6.
    pub(crate) fn ipv6_sources(&mut self, addresses: &[Ipv6Addr]) -> Result<(), Error> {
        for (index, address) in (0..self.ipv6.len()).zip(addresses.iter().cycle()) {
            self.ipv6
                .set(index, address.octets(), 0)
                .map_err(failed("writing the list of IPv6 sources"))?;
        }
        Ok(())
    }

    /// The program that only passes, of the same kind as one that is measured.
    pub(crate) fn pass(&self, frags: bool) -> Result<Measured, Error> {
        let program = self.own(if frags { "pass_frags" } else { "pass" })?;
        let program = program
            .fd()
            .and_then(|fd| Ok(fd.try_clone()?))
            .map_err(failed("using the program that only passes"))?;
        Ok(Measured { program, frags })
    }

    /// Whether `program` was loaded as one that knows fragmented frames, which the kernel tells by
    /// what it lets it be called by.
    pub(crate) fn takes_frags(&mut self, program: &ProgramFd) -> bool {
        self.measured.set(0, program, 0).is_err()
    }

    /// Runs `measured` on `frames` copies of `frame`.
    pub(crate) fn run(
        &mut self,
        measured: &Measured,
        frame: &[u8],
        frames: u32,
    ) -> Result<Sample, Error> {
        interrupt::check()?;
        let (array, vary) = if measured.frags {
            (&mut self.measured_frags, "vary_frags")
        } else {
            (&mut self.measured, "vary")
        };
        array
            .set(0, &measured.program, 0)
            .map_err(failed("handing the measured program over"))?;
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: frames,
            ..TestRunOptions::default()
        };
        let program = self.own(vary)?;
        let before = cpu_time();
        let TestRunResult { return_value, .. } = program
            .test_run(options)
            .map_err(failed("running the measured program"))?;
        Ok(Sample {
            nanos: (cpu_time() - before).as_secs_f64() * 1e9 / f64::from(frames),
            action: return_value,
        })
    }

    /// Sends `frames` copies of `frame` out of the interface with this index in `namespace`, each
    /// with the next source address. Those that find the other end's queue full are lost.
    pub(crate) fn flood(
        &self,
        namespace: &Namespace,
        interface: u32,
        frame: &[u8],
        frames: u32,
    ) -> Result<(), Error> {
        interrupt::check()?;
        let length = u32::try_from(frame.len()).expect("a frame is short");
        // struct xdp_md in include/uapi/linux/bpf.h: data, data_end, data_meta, ingress_ifindex,
        // rx_queue_index, egress_ifindex.
        let context: Vec<u8> = [0, length, 0, interface, 0, 0]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        let program = self.own("send")?;
        // The index means an interface of the caller's namespace.
        namespace
            .run(|| {
                program.test_run(TestRunOptions {
                    data_in: Some(frame),
                    ctx_in: Some(&context),
                    repeat: frames,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                })
            })
            .map_err(failed("sending frames"))?;
        Ok(())
    }

    /// Attaches one of the benchmark's own programs to an interface, in the driver; it stays while
    /// the link is held.
    pub(crate) fn attach(
        &mut self,
        name: &str,
        namespace: &Namespace,
        interface: &str,
    ) -> Result<FdLink, Error> {
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| missing(format!("the program {name}")))?
            .try_into()
            .map_err(failed(format!("using the program {name}")))?;
        let attached = namespace.run(|| {
            let link = program.attach(interface, XdpMode::Driver)?;
            program.take_link(link)
        });
        attached
            .map_err(failed(format!("attaching {name} to {interface}")))?
            .try_into()
            .map_err(failed(format!("holding {name} on {interface}")))
    }

    fn own(&self, name: &str) -> Result<&Xdp, Error> {
        self.ebpf
            .program(name)
            .ok_or_else(|| missing(format!("the program {name}")))?
            .try_into()
            .map_err(failed(format!("using the program {name}")))
    }
}

/// CPU time of this thread: what others do on the machine meanwhile is not in it.
pub(crate) fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every Linux has this clock")
        .into()
}

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    ebpf.take_map(name)
        .ok_or_else(|| missing(format!("the map {name}")))?
        .try_into()
        .map_err(failed(format!("using the map {name}")))
}

/// Frames that the kernel sends at once: what a driver takes from its queue in one go.
const BATCH: u32 = 64;

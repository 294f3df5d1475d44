//! An nftables set with a timeout on each element, and a rule at the hook nearest to the driver.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aya::programs::links::FdLink;
use support::{Error, process, requirements};

use crate::{
    meter::Meter,
    yard::{Cable, Yard},
};

/// Its name in the table.
pub(crate) const NFTABLES: &str = "nftables";

/// The loaded peer.
pub(crate) struct Nftables<'a> {
    /// Where it filters.
    pub(crate) cable: Cable,
    /// How long it took to fill the set.
    pub(crate) filled_in: Duration,
    /// Bytes by which the kernel's memory grew meanwhile.
    pub(crate) grown: u64,
    yard: &'a Yard,
    table: String,
    /// Frames that a cable's driver is handed by XDP are taken only where a program is attached.
    _pass: FdLink,
}

/// Sets up a set, called `name`, of `addresses` whose frames are dropped; or why that cannot be.
pub(crate) fn load<'a>(
    yard: &'a Yard,
    meter: &mut Meter,
    name: &str,
    addresses: &[Ipv4Addr],
) -> Result<Nftables<'a>, String> {
    Nftables::load(yard, meter, name, addresses).map_err(|error| error.chain())
}

impl<'a> Nftables<'a> {
    fn load(
        yard: &'a Yard,
        meter: &mut Meter,
        name: &str,
        addresses: &[Ipv4Addr],
    ) -> Result<Self, Error> {
        requirements::program("nft")
            .map_err(|why| Error::unexpected("the package nftables", why))?;
        let cable = yard.cable(name)?;
        let pass = meter.attach("pass", &yard.mx, &cable.mx)?;
        let mut nft = Self {
            filled_in: Duration::ZERO,
            grown: 0,
            table: format!("bench_{name}"),
            cable,
            yard,
            _pass: pass,
        };
        let size = addresses.len() / 4 * 5;
        let (table, device) = (&nft.table, &nft.cable.mx);
        nft.run(&format!(
            "table netdev {table} {{
                counter dropped {{}}
                set sentenced {{ type ipv4_addr; flags timeout; timeout 6h; size {size}; }}
                chain ingress {{
                    type filter hook ingress device \"{device}\" priority -500; policy accept;
                    ip saddr @sentenced counter name dropped drop
                }}
            }}\n"
        ))?;
        let (before, begun) = (kernel_memory()?, Instant::now());
        nft.add(addresses)?;
        nft.filled_in = begun.elapsed();
        nft.grown = kernel_memory()?.saturating_sub(before);
        Ok(nft)
    }

    /// Adds addresses, in one transaction.
    pub(crate) fn add(&self, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        self.change("add", addresses)
    }

    /// Removes addresses, in one transaction.
    pub(crate) fn remove(&self, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        self.change("delete", addresses)
    }

    /// Frames that came to it, up to now.
    pub(crate) fn received(&self) -> Result<u64, Error> {
        let device = &self.cable.mx;
        let arguments = ["-stats", "-json", "link", "show", "dev", device];
        let json = self.yard.mx.ip(&arguments)?;
        let said: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        said[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .ok_or_else(|| Error::unexpected(format!("the count of frames of {device}"), json))
    }

    /// Frames that it dropped, up to now. Takes its time: `nft` fetches all elements first.
    pub(crate) fn dropped(&self) -> Result<u64, Error> {
        let json = process::run_in(
            &self.yard.mx,
            Command::new("nft").args(["-j", "list", "counter", "netdev", &self.table, "dropped"]),
        )?;
        let said: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        said["nftables"]
            .as_array()
            .and_then(|objects| {
                objects
                    .iter()
                    .find_map(|object| object["counter"]["packets"].as_u64())
            })
            .ok_or_else(|| Error::unexpected("nftables' count of frames", json))
    }

    fn change(&self, how: &str, addresses: &[Ipv4Addr]) -> Result<(), Error> {
        let mut script = format!("{how} element netdev {} sentenced {{", self.table);
        for address in addresses {
            write!(script, "{address},").expect("a string takes everything");
        }
        script.push_str("}\n");
        self.run(&script)
    }

    /// Has `nft` carry out what `script` says.
    fn run(&self, script: &str) -> Result<(), Error> {
        let started = |error| Error::io("running `nft`")(error);
        let mut nft = self
            .yard
            .mx
            .spawn(
                Command::new("nft")
                    .args(["-f", "-"])
                    .stdin(Stdio::piped())
                    .stderr(Stdio::piped()),
            )
            .map_err(started)?;
        if let Some(mut input) = nft.stdin.take() {
            // When it does not listen to the end, it says why.
            let _ = input.write_all(script.as_bytes());
        }
        let output = nft.wait_with_output().map_err(started)?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Command {
            command: "nft -f -".to_owned(),
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Bytes of the kernel's memory where nftables keeps its elements: those of its slabs that cannot be
/// taken back, and of its tables of pages.
fn kernel_memory() -> Result<u64, Error> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).map_err(Error::io(format!("reading {path}")))?;
    let bytes = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .map(|kibibytes: u64| kibibytes * 1_024)
            .ok_or_else(|| Error::unexpected(format!("{name} in {path}"), &text))
    };
    Ok(bytes("SUnreclaim:")? + bytes("VmallocUsed:")?)
}

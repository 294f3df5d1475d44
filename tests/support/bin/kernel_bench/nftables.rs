//! An nftables set with a timeout on each element, and a rule at the hook nearest to the driver.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use aya::programs::links::FdLink;
use support::{Error, process, requirements};

use crate::{
    meter::Meter,
    yard::{Cable, Yard},
};

/// The loaded peer.
pub(crate) struct Nftables<'a> {
    /// Where it filters.
    pub(crate) cable: Cable,
    yard: &'a Yard,
    table: String,
    /// Frames that a cable's driver is handed by XDP are taken only where a program is attached.
    _pass: FdLink,
}

impl<'a> Nftables<'a> {
    /// Sets up an empty set, called `name`, for up to `size` addresses, whose frames are dropped.
    pub(crate) fn load(
        yard: &'a Yard,
        meter: &mut Meter,
        name: &str,
        size: usize,
    ) -> Result<Self, Error> {
        requirements::program("nft")
            .map_err(|why| Error::unexpected("the package nftables", why))?;
        let cable = yard.cable(name)?;
        let pass = meter.attach("pass", &yard.mx, &cable.mx)?;
        let nft = Self {
            table: format!("bench_{name}"),
            cable,
            yard,
            _pass: pass,
        };
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

    /// Frames that it dropped, up to now.
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

//! Three MX hosts of one site, each with its Postfix and its greygate, that share through a Redis cluster.
//!
//! ```text
//!  engine namespace                          MX namespaces, a whole site each (see `site`)
//!  lo 10.9.0.1 (six servers from 7000)
//!  eth1 10.9.1.1 ---------------------- back 10.9.1.2   MX 1
//!  eth2 10.9.2.1 ---------------------- back 10.9.2.2   MX 2
//!  eth3 10.9.3.1 ---------------------- back 10.9.3.2   MX 3
//! ```
//!
//! The clients of each host have the same addresses: who calls two of them is one client.

use std::net::IpAddr;

use tempfile::TempDir;

use crate::engine::RedisCluster;
use crate::error::Error;
use crate::netns::{self, End, Namespace};
use crate::site::{Plan, Site};

/// The hosts and their engine. Dropping it takes everything away again.
#[derive(Debug)]
pub struct Hosts {
    /// MX 1, 2 and 3.
    pub sites: Vec<Site>,
    /// What they share through.
    pub redis: RedisCluster,
    /// Where that is.
    pub engine: Namespace,
    _directory: TempDir,
}

impl Hosts {
    /// How many there are.
    pub const NUMBER: usize = 3;

    /// Starts the engine, and then the hosts by the same plan.
    pub fn start(plan: &Plan) -> Result<Self, Error> {
        let directory = TempDir::new().map_err(Error::io("making a temporary directory"))?;
        let engine = place_engine()?;
        let redis = RedisCluster::start(&engine, directory.path(), ENGINE, PORT)?;
        let mut sites = Vec::new();
        for number in 1..=Self::NUMBER {
            // The longest budget: what hosts know of each other shall not hang on how busy this machine is.
            let cluster = format!(
                "[cluster]\nservers = [\"{ENGINE}:{PORT}\", \"{ENGINE}:{}\"]\nmode = \"cluster\"\n\
                 node = \"mx{number}\"\nbudget = \"1s\"\n",
                PORT + 1
            );
            let plan = Plan {
                tweaks: format!("{}{cluster}", plan.tweaks),
                ..plan.clone()
            };
            let site = Site::start_on(&plan, |mx| cable(&engine, mx, number))?;
            sites.push(site);
        }
        Ok(Self {
            sites,
            redis,
            engine,
            _directory: directory,
        })
    }

    /// Cuts a host, counted from 0, off the engine, or joins it again.
    pub fn set_cut(&self, host: usize, is_cut: bool) -> Result<(), Error> {
        let state = if is_cut { "down" } else { "up" };
        let mx = self.sites[host].mx();
        mx.ip(&["link", "set", BACK, state])?;
        if !is_cut {
            let number = host + 1;
            route(mx, number)?;
        }
        Ok(())
    }

    /// The state of a host's sharing, as `cluster status --json` names it.
    pub fn state(&self, host: usize) -> Result<serde_json::Value, Error> {
        self.sites[host].greygate().ask(&["cluster", "status"])
    }

    /// Whether a host shares and its sessions ask.
    pub fn shares(&self, host: usize) -> Result<bool, Error> {
        self.sites[host].greygate().shares()
    }

    /// Whether it shares, with nothing left to tell or to compare.
    pub fn is_settled(&self, host: usize) -> Result<bool, Error> {
        self.sites[host].greygate().is_settled()
    }

    /// Whether the stranger's connections to a host come about.
    pub fn serves(&self, host: usize, client: IpAddr) -> bool {
        let client = self.sites[host].stranger_at(client);
        client.connect(ONE_SYN).is_ok()
    }
}

/// A namespace for the engine, with its address.
pub fn place_engine() -> Result<Namespace, Error> {
    let engine = Namespace::create("engine")?;
    engine.ip(&["addr", "add", &format!("{ENGINE}/32"), "dev", "lo"])?;
    Ok(engine)
}

/// Joins the engine and the host of this number, from 1 on, which finds it at [`ENGINE`] then.
pub fn cable(engine: &Namespace, mx: &Namespace, number: usize) -> Result<(), Error> {
    netns::join(
        End {
            namespace: engine,
            interface: &format!("eth{number}"),
            addresses: &[&format!("10.9.{number}.1/24")],
        },
        End {
            namespace: mx,
            interface: BACK,
            addresses: &[&format!("10.9.{number}.2/24")],
        },
    )?;
    route(mx, number)
}

fn route(mx: &Namespace, number: usize) -> Result<(), Error> {
    let via = format!("10.9.{number}.1");
    mx.ip(&["route", "replace", ENGINE, "via", &via]).map(drop)
}

/// Where every host finds the servers.
pub const ENGINE: &str = "10.9.0.1";
const PORT: u16 = 7_000;
/// The interface of an MX host that faces the engine.
const BACK: &str = "back";
/// Shorter than the second after which a SYN is sent again.
const ONE_SYN: std::time::Duration = std::time::Duration::from_millis(900);

//! A pool of sender addresses, as the large mail providers have them: each retry of a message comes
//! from the next address, and each address lies in a network of its own.

use std::net::{IpAddr, Ipv6Addr};

use crate::site::Site;
use crate::smtp::Client;

/// Its addresses, and as many networks.
pub const SIZE: u16 = 15;

/// A pool that calls a site. The site's plan names its [`addresses`].
#[derive(Debug)]
pub struct Pool<'a> {
    site: &'a Site,
    made: u16,
}

impl<'a> Pool<'a> {
    /// A pool that begins with its first address.
    pub fn new(site: &'a Site) -> Self {
        Self { site, made: 0 }
    }

    /// Who makes the next attempt.
    pub fn turn(&mut self) -> Client<'a> {
        let number = self.made % SIZE + 1;
        self.made += 1;
        self.site.stranger_at(address(number))
    }
}

/// Its addresses with their prefix lengths, for the site's plan.
pub fn addresses() -> impl Iterator<Item = String> {
    (1..=SIZE).map(|number| format!("{}/48", address(number)))
}

/// Its addresses with their names, which have one registered domain.
pub fn names() -> impl Iterator<Item = (IpAddr, String)> {
    (1..=SIZE).map(|number| (address(number), name(number)))
}

fn address(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0xe0 + number, 0, 0, 0, 0x25).into()
}

fn name(number: u16) -> String {
    format!("mail-{number}.pool.example")
}

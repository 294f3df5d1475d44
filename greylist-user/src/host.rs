//! Addresses without which this host is lost: its own, and those of its gateways.
//!
//! Read anew at each call, since addresses come and go. What cannot be read is left out.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of this host's interfaces.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// The gateways of the default routes. Of a route with several next hops, the kernel names the
/// first here.
pub(crate) fn gateways() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut gateways = ipv4_gateways(&read("/proc/net/route"));
    gateways.extend(ipv6_gateways(&read("/proc/net/ipv6_route")));
    gateways
}

/// The gateways in the text of `/proc/net/route`: name, destination, gateway, flags, three numbers,
/// mask and more; addresses as the hexadecimal number that their bytes are to this machine.
fn ipv4_gateways(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, destination, gateway, flags, _, _, _, mask, ..] = fields[..] else {
            return None;
        };
        let number = |field| u32::from_str_radix(field, 16).ok();
        let is_default = number(destination)? == 0 && number(mask)? == 0;
        (is_default && leads_to_a_gateway(number(flags)?))
            .then(|| number(gateway).map(|it| Ipv4Addr::from(it.to_ne_bytes()).into()))?
    };
    table.lines().filter_map(gateway).collect()
}

/// The gateways in the text of `/proc/net/ipv6_route`: destination, its prefix length, source, its
/// prefix length, next hop, three numbers, flags and name, all hexadecimal.
fn ipv6_gateways(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, length, _, _, gateway, _, _, _, flags, _] = fields[..] else {
            return None;
        };
        let number = |field| u128::from_str_radix(field, 16).ok();
        let is_default = number(destination)? == 0 && number(length)? == 0;
        (is_default && leads_to_a_gateway(u32::from_str_radix(flags, 16).ok()?))
            .then(|| number(gateway).map(|it| Ipv6Addr::from(it).into()))?
    };
    table.lines().filter_map(gateway).collect()
}

fn leads_to_a_gateway(flags: u32) -> bool {
    flags & (UP | GATEWAY | REJECT) == UP | GATEWAY
}

/// `RTF_UP`, `RTF_GATEWAY` and `RTF_REJECT` of `linux/route.h`.
const UP: u32 = 1;
const GATEWAY: u32 = 2;
const REJECT: u32 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_gateway_of_each_ipv4_default_route() {
        // In the byte order of the machine, as the kernel prints them.
        let hex = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let none = hex([0; 4]);
        let route = |destination: &str, gateway: [u8; 4], flags, mask: &str| {
            let gateway = hex(gateway);
            format!("eth0\t{destination}\t{gateway}\t{flags}\t0\t0\t100\t{mask}\t0\t0\t0   \n")
        };
        let table = [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                .to_owned(),
            route(&none, [192, 0, 2, 1], "0003", &none),
            route(&none, [192, 0, 2, 2], "0003", &none),
            route(&none, [0; 4], "0001", &none), // point to point
            route(&none, [192, 0, 2, 4], "0203", &none), // unreachable
            route(
                &hex([198, 51, 100, 0]),
                [192, 0, 2, 3],
                "0003",
                &hex([255, 255, 255, 0]),
            ),
            route(&none, [192, 0, 2, 5], "0003", &hex([128, 0, 0, 0])), // half of a VPN's trick
            "eth0\t00000000\n".to_owned(),
            "eth0 0 what 3 0 0 0 0\n".to_owned(),
        ];
        let expected = ["192.0.2.1", "192.0.2.2"].map(|it| it.parse::<IpAddr>().expect("one"));
        assert_eq!(ipv4_gateways(&table.concat()), expected);
        assert_eq!(ipv4_gateways(""), Vec::<IpAddr>::new());
    }

    #[test]
    fn finds_the_gateway_of_each_ipv6_default_route() {
        let none = "0".repeat(32);
        let hop = |address: &str| {
            let address: Ipv6Addr = address.parse().expect("an address");
            format!("{:032x}", u128::from(address))
        };
        let route = |destination: &str, length, hop: &str, flags| {
            format!(
                "{destination} {length} {none} 00 {hop} 00000400 00000001 00000000 {flags}     eth0\n"
            )
        };
        let table = [
            route(&none, "00", &hop("2001:db8::1"), "00000003"),
            route(&none, "00", &hop("fe80::1"), "00450003"), // by router advertisement
            route(&none, "00", &none, "00200200"),           // the kernel's own, which rejects
            route(&hop("2001:db8::"), "20", &hop("2001:db8::2"), "00000003"),
            route(&none, "03", &hop("2001:db8::3"), "00000003"),
            "00000000000000000000000000000000 00\n".to_owned(),
        ];
        let expected = ["2001:db8::1", "fe80::1"].map(|it| it.parse::<IpAddr>().expect("one"));
        assert_eq!(ipv6_gateways(&table.concat()), expected);
    }
}

//! The networks of an `allow` list. Whether a peer is inside one is the engine's business; here
//! they are only read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One network: an address and the number of leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allow {
    /// Any address inside; bits after `prefix` are zero.
    pub network: IpAddr,
    /// Leading bits that must be equal: 0 to 32, or 0 to 128.
    pub prefix: u8,
}

/// What "private" stands for: RFC 1918, loopback, link-local, fc00::/7 and carrier-grade NAT.
const PRIVATE: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fe80::/10",
    "fc00::/7",
];

const ANY: [&str; 2] = ["0.0.0.0/0", "::/0"];

impl Allow {
    /// One item of the list; the error is the remedy.
    pub(crate) fn parse(text: &str) -> Result<Vec<Allow>, String> {
        match text {
            "private" => PRIVATE.iter().map(|network| Allow::network(network)).collect(),
            "any" => ANY.iter().map(|network| Allow::network(network)).collect(),
            network => Ok(vec![Allow::network(network)?]),
        }
    }

    fn network(text: &str) -> Result<Allow, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let form = "write \"10.0.0.0/8\", \"private\" or \"any\"";
        let network: IpAddr = address.parse().map_err(|_| form.to_owned())?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok());
        let prefix = prefix
            .filter(|prefix| *prefix <= bits)
            .ok_or_else(|| format!("the number after the slash is 0 to {bits}"))?;
        let masked = masked(network, prefix);
        if masked != network {
            return Err(format!("its first {prefix} bits are \"{masked}/{prefix}\""));
        }
        Ok(Allow { network, prefix })
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_networks_are_read() {
        assert_eq!(Allow::parse("private").map(|networks| networks.len()), Ok(PRIVATE.len()));
        assert_eq!(Allow::parse("any").map(|networks| networks.len()), Ok(2));
        let one = Allow::parse("192.168.7.9").expect("an address alone is a network of one");
        assert_eq!(one, [Allow { network: "192.168.7.9".parse().expect("it is one"), prefix: 32 }]);
    }

    #[test]
    fn what_is_no_network_gets_its_remedy() {
        assert_eq!(
            Allow::parse("10.1.0.0/8"),
            Err("its first 8 bits are \"10.0.0.0/8\"".to_owned())
        );
        assert!(Allow::parse("10.0.0.0/33").expect_err("33 bits").contains("0 to 32"));
        assert!(Allow::parse("privat").expect_err("a slip").contains("\"private\""));
    }
}

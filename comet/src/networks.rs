//! Sets of addresses, as operators write them: `10.0.0.1`, `10.0.0.0/8`, `2001:db8::/32`.

use std::net::IpAddr;

use ipnet::IpNet;

/// Some addresses and networks. To look one address up takes as long as the logarithm of their number.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    /// First and last addresses, ascending; none touches another.
    ranges: Vec<(IpAddr, IpAddr)>,
}

impl Networks {
    /// Whether the address is in one of them.
    pub fn contain(&self, ip: IpAddr) -> bool {
        let behind = self.ranges.partition_point(|(first, _)| *first <= ip);
        let before = self.ranges[..behind].last();
        before.is_some_and(|(_, last)| ip <= *last)
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let networks: Vec<IpNet> = networks.into_iter().collect();
        let mut ranges: Vec<(IpAddr, IpAddr)> = IpNet::aggregate(&networks)
            .iter()
            .map(|network| (network.network(), network.broadcast()))
            .collect();
        ranges.sort_unstable();
        Self { ranges }
    }
}

/// A network as it is written, or one address.
pub fn network(text: &str) -> Option<IpNet> {
    let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(single)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_overlapping_and_neighbouring_networks() {
        let texts = [
            "192.0.2.1",
            "10.1.0.0/16",
            "10.0.0.0/8",
            "11.0.0.0/8",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "0.0.0.0/32",
        ];
        let networks: Networks = texts.iter().filter_map(|text| network(text)).collect();
        let contains = |ip: &str| networks.contain(ip.parse().unwrap());
        for inside in [
            "0.0.0.0",
            "10.0.0.0",
            "10.255.255.255",
            "11.255.0.1",
            "192.0.2.1",
            "2001:db8::",
            "2001:db8:ffff::1",
        ] {
            assert!(contains(inside), "{inside}");
        }
        for outside in [
            "0.0.0.1",
            "9.255.255.255",
            "12.0.0.0",
            "192.0.2.0",
            "192.0.2.2",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!contains(outside), "{outside}");
        }
        assert!(!Networks::default().contain("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_none() {
        for none in ["", "10.0.0.0/33", "10.0.0", "example.com", "10.0.0.1:80"] {
            assert_eq!(network(none), None, "{none}");
        }
    }
}

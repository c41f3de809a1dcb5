//! The balancers before a comet: whose word about clients is taken, and by which means it is given.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::{
    config,
    networks::{Networks, network},
};

/// Where the addresses of a request's client and of the proxies before us stand, the last hop last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The balancers of the configuration.
#[derive(Debug, Default)]
pub struct Balancers {
    networks: Networks,
    proxy_protocol: bool,
    forwarded_for: bool,
    max_header: usize,
}

impl Balancers {
    /// Those of a configuration that has been checked; addresses that are none are left out.
    pub fn new(config: &config::Balancers) -> Self {
        Self {
            networks: config
                .addresses
                .iter()
                .filter_map(|text| network(text))
                .collect(),
            proxy_protocol: config.proxy_protocol,
            forwarded_for: config.forwarded_for,
            max_header: config.max_header,
        }
    }

    /// Whether this is the address of one. Its own connections are not bounded by address: they are its clients'.
    pub fn include(&self, ip: IpAddr) -> bool {
        self.networks.contain(ip)
    }

    /// Bytes of the longest PROXY header with which a connection from here may begin; `None`: it begins with none.
    pub fn proxy_header(&self, ip: IpAddr) -> Option<usize> {
        (self.proxy_protocol && self.include(ip)).then_some(self.max_header)
    }

    /// The client for which a request was handed on, if `from` is a balancer that says so: of the addresses in the header, the last
    /// that is not a balancer's. What stands before it is the client's own claim.
    pub fn forwarded(&self, from: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.forwarded_for || !self.include(from) {
            return None;
        }
        let lines: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(|line| line.to_str().unwrap_or_default())
            .collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            // Behind one that is no address nobody's word counts.
            let hop = address(hop.trim())?;
            if !self.include(hop) {
                return Some(hop);
            }
        }
        None
    }
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let with_port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    let ip = bare.unwrap_or(text).parse().ok().or_else(with_port)?;
    Some(IpAddr::to_canonical(&ip))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn balancers(forwarded_for: bool) -> Balancers {
        let addresses = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"];
        Balancers::new(&config::Balancers {
            addresses: addresses.map(str::to_owned).into(),
            proxy_protocol: true,
            forwarded_for,
            max_header: 232,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_networks_are_understood() {
        let balancers = balancers(false);
        for inside in ["10.255.0.1", "192.0.2.1", "2001:db8:ffff::1"] {
            assert_eq!(balancers.proxy_header(ip(inside)), Some(232), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.2", "2001:db9::1", "::ffff:10.0.0.1"] {
            assert_eq!(balancers.proxy_header(ip(outside)), None, "{outside}");
        }
    }

    #[test]
    fn the_last_address_that_is_no_balancers_is_the_client() {
        let believed = |balancers: &Balancers, from: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            balancers.forwarded(ip(from), &headers)
        };
        let client = Some(ip("203.0.113.7"));
        for lines in [
            &["203.0.113.7"][..],
            &["6.6.6.6, 203.0.113.7, 10.0.0.2"],
            &["6.6.6.6", "203.0.113.7", "10.9.9.9"],
            &["203.0.113.7:4711"],
            &["::ffff:203.0.113.7"],
        ] {
            let all = balancers(true);
            assert_eq!(believed(&all, "10.0.0.1", lines), client, "{lines:?}");
            // Nobody else is believed, and nobody where the operator does not say so.
            assert_eq!(believed(&all, "203.0.113.9", lines), None);
            assert_eq!(believed(&balancers(false), "10.0.0.1", lines), None);
        }
        // Nothing is believed behind a word that cannot be read.
        for lines in [&["203.0.113.7, unknown"][..], &["10.0.0.9"], &[]] {
            assert_eq!(believed(&balancers(true), "10.0.0.1", lines), None);
        }
        let v6 = believed(&balancers(true), "10.0.0.1", &["[2001:db9::7]:80"]);
        assert_eq!(v6, Some(ip("2001:db9::7")));
    }

    proptest! {
        /// Of what a client writes before the address that its balancer adds, nothing counts.
        #[test]
        fn no_line_of_a_clients_own_is_believed(lines in vec(vec(any::<u8>(), 0..40), 0..4)) {
            let mut headers = HeaderMap::new();
            for line in lines {
                if let Ok(line) = HeaderValue::from_bytes(&line) {
                    headers.append(FORWARDED_FOR, line);
                }
            }
            // Whatever it comes to, it is an address or none.
            let alone = balancers(true).forwarded(ip("10.0.0.1"), &headers);
            prop_assert!(alone.is_none_or(|client| !balancers(true).include(client)));
            headers.append(FORWARDED_FOR, HeaderValue::from_static("203.0.113.7, 10.0.0.2"));
            let client = balancers(true).forwarded(ip("10.0.0.1"), &headers);
            prop_assert_eq!(client, Some(ip("203.0.113.7")));
        }
    }
}

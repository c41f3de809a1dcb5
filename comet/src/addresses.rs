//! How many connections are logged in, and from how many client addresses.

use std::{collections::HashMap, net::IpAddr};

use parking_lot::Mutex;

/// Connections that are logged in, by client address.
#[derive(Debug, Default)]
pub struct Addresses {
    open: Mutex<HashMap<IpAddr, u32, foldhash::fast::RandomState>>,
}

impl Addresses {
    /// Counts a connection in.
    pub fn enter(&self, ip: IpAddr) {
        *self.open.lock().entry(ip).or_default() += 1;
    }

    /// Counts a connection out that was counted in.
    pub fn leave(&self, ip: IpAddr) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&ip);
            }
        }
    }

    /// Connections, and distinct addresses.
    pub fn counts(&self) -> (u32, u32) {
        let open = self.open.lock();
        (
            open.values().sum(),
            u32::try_from(open.len()).unwrap_or(u32::MAX),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_connections_and_distinct_addresses() {
        let addresses = Addresses::default();
        let (one, two) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for ip in [one, one, two] {
            addresses.enter(ip);
        }
        assert_eq!(addresses.counts(), (3, 2));
        addresses.leave(one);
        assert_eq!(addresses.counts(), (2, 2));
        for ip in [one, two] {
            addresses.leave(ip);
        }
        assert_eq!(addresses.counts(), (0, 0));
    }
}

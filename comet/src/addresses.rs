//! How many connections are logged in, and from how many client addresses.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// Connections that are logged in, by client address.
#[derive(Debug, Default)]
pub struct Addresses {
    open: Mutex<HashMap<IpAddr, u32, foldhash::fast::RandomState>>,
}

/// One connection among them, as long as it lives.
#[derive(Debug)]
pub struct Guest {
    addresses: Arc<Addresses>,
    ip: IpAddr,
}

impl Addresses {
    /// Counts a connection in.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Guest {
        *self.open.lock().entry(ip).or_default() += 1;
        Guest {
            addresses: Arc::clone(self),
            ip,
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

impl Drop for Guest {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock();
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_connections_and_distinct_addresses() {
        let addresses = Arc::new(Addresses::default());
        let (one, two) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let guests = [
            addresses.enter(one),
            addresses.enter(one),
            addresses.enter(two),
        ];
        assert_eq!(addresses.counts(), (3, 2));
        drop(guests);
        assert_eq!(addresses.counts(), (0, 0));
    }
}

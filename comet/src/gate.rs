//! Who may come in: how many connections there are at once, and how many new ones a second, in all and from each client address.
//!
//! A connection is counted in all from accept on ([`Gate::enter`]), and by its client's address as soon as that is known
//! ([`Gate::claim`]): at once, or when a balancer has said it. Both counts end when what they returned is dropped. Nothing here
//! waits.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use http::StatusCode;
use parking_lot::Mutex;
use slab::Slab;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{config, metrics::Metrics, transport::Door};

/// The place of a connection whose address is not counted.
const NOWHERE: u32 = u32::MAX;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Why a connection does not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// As many are open as may be.
    #[error("this server has as many connections as it may have")]
    Connections,
    /// Too many have come lately.
    #[error("too many connections come to this server at once")]
    Rate,
    /// As many are open from this address as may be.
    #[error("there are too many connections from this address")]
    AddressConnections,
    /// Too many have come from this address lately.
    #[error("too many connections come from this address at once")]
    AddressRate,
}

/// All who are in.
#[derive(Debug)]
pub struct Gate {
    limits: config::Limits,
    metrics: Arc<Metrics>,
    started: Instant,
    state: Mutex<State>,
    refusals: Arc<Semaphore>,
}

/// A connection that is in, until this is dropped.
#[derive(Debug)]
pub struct Presence {
    gate: Arc<Gate>,
    place: u32,
    door: Door,
}

/// A connection that counts for its client's address, until this is dropped or a [`Presence`] has taken it.
#[derive(Debug)]
pub struct Claim {
    gate: Arc<Gate>,
    place: u32,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    full_at: u64,
    places: Slab<Place>,
    by_address: HashMap<IpAddr, u32, foldhash::fast::RandomState>,
    /// Places without a connection.
    empty: usize,
}

/// A client address.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    open: u32,
    full_at: u64,
}

impl Gate {
    /// A gate that nobody has passed.
    pub fn new(limits: config::Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            refusals: Arc::new(Semaphore::new(limits.refusals)),
            limits,
            metrics,
            started: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// Lets a connection in that was just accepted, unless there are too many. A refusal is counted.
    pub fn enter(self: &Arc<Self>, door: Door) -> Result<Presence, Refused> {
        let entered = self.state.lock().enter(&self.limits, self.now());
        entered.inspect_err(|refused| self.count(*refused))?;
        self.metrics.accepted(door).inc();
        self.metrics.connections(door).inc();
        Ok(Presence {
            gate: Arc::clone(self),
            place: NOWHERE,
            door,
        })
    }

    /// Counts a connection for its client's address, unless that has too many. A refusal is counted.
    pub fn claim(self: &Arc<Self>, client: IpAddr) -> Result<Claim, Refused> {
        let limits = &self.limits;
        let place = if limits.per_address == 0 && limits.address_rate == 0 {
            NOWHERE
        } else {
            let network = network(client, limits.network_bits);
            let claimed = self.state.lock().claim(network, limits, self.now());
            claimed.inspect_err(|refused| self.count(*refused))?
        };
        Ok(Claim {
            gate: Arc::clone(self),
            place,
        })
    }

    /// The right to tell one that is refused why, while not too many are told.
    pub fn may_tell(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refusals).try_acquire_owned().ok()
    }

    fn count(&self, refused: Refused) {
        self.metrics.refused_connections(refused.label()).inc();
    }

    fn leave(&self, place: u32) {
        if place != NOWHERE {
            self.state.lock().leave(place, &self.limits, self.now());
        }
    }

    /// Nanoseconds since the start: 584 years of them fit.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Refused {
    /// The reason in metrics and answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Rate => "rate",
            Self::AddressConnections => "address_connections",
            Self::AddressRate => "address_rate",
        }
    }

    /// The status of HTTP: whether it is the server that is full, or the client that asks for too much.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Connections | Self::Rate => StatusCode::SERVICE_UNAVAILABLE,
            Self::AddressConnections | Self::AddressRate => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// When it may do better, in seconds; `None` where nobody knows.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::Rate | Self::AddressRate => Some(1),
            Self::Connections | Self::AddressConnections => None,
        }
    }

    /// For programs and for people: the same shape as the body of operation 6.
    pub fn json(self) -> String {
        serde_json::json!({ "reason": self.label(), "message": self.to_string() }).to_string()
    }

    /// The whole answer of HTTP, for a connection that is closed behind it.
    pub fn http(self) -> String {
        let (status, body) = (self.status(), self.json());
        let retry = self
            .retry_after()
            .map(|seconds| format!("Retry-After: {seconds}\r\n"))
            .unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{retry}Connection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

impl Presence {
    /// Counts this connection for the address that was claimed, and no longer for the one before.
    pub fn take(&mut self, mut claim: Claim) {
        std::mem::swap(&mut self.place, &mut claim.place);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.gate.leave(self.place);
        self.gate.state.lock().open -= 1;
        self.gate.metrics.connections(self.door).dec();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.gate.leave(self.place);
    }
}

impl State {
    fn enter(&mut self, limits: &config::Limits, now: u64) -> Result<(), Refused> {
        if self.open >= limits.connections {
            return Err(Refused::Connections);
        }
        if !take(&mut self.full_at, limits.rate, now) {
            return Err(Refused::Rate);
        }
        self.open += 1;
        Ok(())
    }

    fn claim(
        &mut self,
        address: IpAddr,
        limits: &config::Limits,
        now: u64,
    ) -> Result<u32, Refused> {
        let index = self.place_of(address);
        let Some(place) = self.places.get_mut(index as usize) else {
            return Ok(NOWHERE);
        };
        if limits.per_address > 0 && place.open >= limits.per_address {
            return Err(Refused::AddressConnections);
        }
        if !take(&mut place.full_at, limits.address_rate, now) {
            return Err(Refused::AddressRate);
        }
        self.empty -= usize::from(place.open == 0);
        place.open += 1;
        Ok(index)
    }

    /// Where the address is, from now on if it was not.
    fn place_of(&mut self, address: IpAddr) -> u32 {
        if let Some(&index) = self.by_address.get(&address) {
            return index;
        }
        let place = Place {
            address,
            open: 0,
            full_at: 0,
        };
        // Connections are below 2^27, and empty places too.
        let index = u32::try_from(self.places.insert(place)).unwrap_or(NOWHERE);
        self.by_address.insert(address, index);
        self.empty += 1;
        index
    }

    fn leave(&mut self, index: u32, limits: &config::Limits, now: u64) {
        let Some(place) = self.places.get_mut(index as usize) else {
            return;
        };
        place.open -= 1;
        if place.open > 0 {
            return;
        }
        self.empty += 1;
        if self.empty > limits.addresses {
            // Those whose rates say something stay, unless they are most: whoever has so many addresses is not stopped by the
            // rate of one.
            self.forget(|place| place.full_at <= now);
            if self.empty > limits.addresses / 2 {
                self.forget(|_| true);
            }
        } else if self.places[index as usize].full_at <= now {
            self.forget_one(index);
        }
    }

    fn forget_one(&mut self, index: u32) {
        let place = self.places.remove(index as usize);
        self.by_address.remove(&place.address);
        self.empty -= 1;
    }

    /// Forgets the empty places of which this is so.
    fn forget(&mut self, is_over: impl Fn(&Place) -> bool) {
        let Self {
            places,
            by_address,
            empty,
            ..
        } = self;
        places.retain(|_, place| {
            let stays = place.open > 0 || !is_over(place);
            if !stays {
                by_address.remove(&place.address);
                *empty -= 1;
            }
            stays
        });
    }
}

/// The client address that an address belongs to.
fn network(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(bits.into()))
                .unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// Takes one token from a bucket that gets so many a second and holds a second's worth; of the bucket is kept when it is full
/// again. 0: without a bound.
fn take(full_at: &mut u64, per_second: u32, now: u64) -> bool {
    if per_second == 0 {
        return true;
    }
    let token = SECOND / u64::from(per_second);
    let after = (*full_at).max(now) + token;
    if after > now + SECOND {
        return false;
    }
    *full_at = after;
    true
}

#[cfg(test)]
mod tests;

//! Bounds in all and by address, at times of the tests' own.

use super::*;

fn limits() -> config::Limits {
    config::Limits {
        connections: 100,
        addresses: 4,
        ..config::Limits::default()
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

#[test]
fn a_bucket_holds_a_second_and_fills_by_its_rate() {
    let mut full_at = 0;
    let mut taken = |now| take(&mut full_at, 4, now);
    assert_eq!([0; 5].map(&mut taken), [true, true, true, true, false]);
    assert!(!taken(SECOND / 4 - 1));
    assert!(taken(SECOND / 4));
    assert!(!taken(SECOND / 4));
    assert_eq!(
        [9 * SECOND; 5].map(&mut taken),
        [true, true, true, true, false]
    );
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    let gate = Gate::new(
        config::Limits {
            connections: 3,
            per_address: 2,
            ..limits()
        },
        Arc::default(),
    );
    let enter = |address| -> Result<Presence, Refused> {
        let mut presence = gate.enter(Door::Tcp)?;
        presence.take(gate.claim(address)?);
        Ok(presence)
    };
    let (first, second) = (enter(ip(1)).unwrap(), enter(ip(1)).unwrap());
    assert_eq!(enter(ip(1)).unwrap_err(), Refused::AddressConnections);
    let third = enter(ip(2)).unwrap();
    assert_eq!(enter(ip(3)).unwrap_err(), Refused::Connections);
    drop(first);
    let again = enter(ip(1)).unwrap();
    assert_eq!(gate.metrics.refused_connections("connections").get(), 1);
    assert_eq!(gate.metrics.connections(Door::Tcp).get(), 3);
    drop((second, third, again));
    let state = gate.state.lock();
    assert_eq!((state.open, state.empty), (0, 0));
    assert!(state.places.is_empty() && state.by_address.is_empty());
}

#[test]
fn addresses_of_one_network_are_one() {
    let ip = |text: &str| network(text.parse().unwrap(), 64).to_string();
    assert_eq!(ip("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(ip("2001:db8:1:2::"), ip("2001:db8:1:2:ffff::"));
    assert_eq!(ip("192.0.2.7"), "192.0.2.7");
    let whole = "2001:db8:1:2:3:4:5:6".parse().unwrap();
    assert_eq!(network(whole, 128), whole);
}

#[test]
fn the_rate_of_an_address_outlasts_its_connections() {
    let limits = config::Limits {
        address_rate: 1,
        ..limits()
    };
    let mut state = State::default();
    let place = state.claim(ip(1), &limits, 0).unwrap();
    state.leave(place, &limits, 1);
    assert_eq!(state.claim(ip(1), &limits, 2), Err(Refused::AddressRate));
    let place = state.claim(ip(1), &limits, SECOND).unwrap();
    state.leave(place, &limits, 2 * SECOND);
    assert!(state.places.is_empty(), "it has nothing to say any more");
}

#[test]
fn not_too_many_addresses_are_remembered() {
    let limits = config::Limits {
        address_rate: 1,
        ..limits()
    };
    let mut state = State::default();
    for last in 0..=255 {
        let place = state.claim(ip(last), &limits, 0).unwrap();
        state.leave(place, &limits, 0);
        assert!(state.empty <= limits.addresses);
        assert_eq!(state.empty, state.by_address.len());
        assert_eq!(state.empty, state.places.len());
    }
}

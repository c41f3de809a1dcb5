//! Whether a request to a service that asks for no proof comes from this machine's own hand, and not from a page of another
//! site that a browser on it shows.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{HOST, ORIGIN},
    uri::Authority,
};

/// Whether a request that came over loopback is not another site's doing. A name that is not this machine's own may be a
/// site's that leads to a loopback address (DNS rebinding); browsers say by `Origin` whose page sends a POST.
pub fn is_from_here(headers: &HeaderMap) -> bool {
    let Some(host) = only(headers, &HOST) else {
        return false;
    };
    let own = format!("http://{host}");
    let is_own = |origin: &HeaderValue| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes());
    is_loopback_name(host) && headers.get_all(ORIGIN).iter().all(is_own)
}

/// The value of a header that came once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether a `Host` is `localhost` or a loopback address, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &'static str, origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    #[test]
    fn only_this_machines_names_and_its_own_pages_are_from_here() {
        for (host, origin) in [
            ("localhost:3111", None),
            ("127.0.0.1:3111", Some("http://127.0.0.1:3111")),
            ("[::1]:3111", None),
        ] {
            assert!(is_from_here(&headers(host, origin)), "{host} {origin:?}");
        }
        for (host, origin) in [
            ("evil.example", None),
            ("localhost.evil.example:3111", None),
            ("10.0.0.1:3111", None),
            ("localhost:3111", Some("http://evil.example")),
            ("localhost:3111", Some("null")),
        ] {
            assert!(!is_from_here(&headers(host, origin)), "{host} {origin:?}");
        }
        assert!(!is_from_here(&HeaderMap::new()));
    }
}

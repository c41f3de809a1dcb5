//! Whether a request to a service that asks for no proof comes from this machine's own hand, and not from a page of another
//! site that a browser on it shows.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{HOST, ORIGIN},
    uri::Authority,
};

/// Where browsers say how the page that asks is related to what it asks. They say it of loopback addresses and of HTTPS alone.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request that came over loopback is not another site's doing. A name that is not this machine's own may be a
/// site's that leads to a loopback address (DNS rebinding); browsers say by `Origin` whose page sends a POST.
pub fn is_from_here(headers: &HeaderMap) -> bool {
    let Some(host) = only(headers, &HOST) else {
        return false;
    };
    let own = format!("http://{host}");
    let is_own = |origin: &HeaderValue| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes());
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    is_own_name(host, is_loopback) && headers.get_all(ORIGIN).iter().all(is_own)
}

/// Whether a request is not what another site's page makes a browser send. Without the headers by which browsers name the page,
/// `Origin` and `Sec-Fetch-Site`, it is not: programs send neither, and browsers the first with each POST. With them, it has to
/// be a page of this very address, called `localhost` or by its number: another name may be a site's that leads here.
pub fn is_no_other_page(headers: &HeaderMap) -> bool {
    let told = headers.get_all(SEC_FETCH_SITE).iter();
    let mut sites = told.filter(|site| site.as_bytes() != b"none").peekable();
    if sites.peek().is_none() && !headers.contains_key(ORIGIN) {
        return true;
    }
    let Some(host) = only(headers, &HOST) else {
        return false;
    };
    let own = [format!("http://{host}"), format!("https://{host}")];
    let is_own = |origin: &HeaderValue| {
        let origin = origin.as_bytes();
        own.iter()
            .any(|own| origin.eq_ignore_ascii_case(own.as_bytes()))
    };
    is_own_name(host, |_| true)
        && headers.get_all(ORIGIN).iter().all(is_own)
        && sites.all(|site| site.as_bytes() == b"same-origin")
}

/// The value of a header that came once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether a `Host` is `localhost` or one of these addresses, with or without a port.
fn is_own_name(host: &str, is_ours: impl FnOnce(IpAddr) -> bool) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_ours)
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

    #[test]
    fn programs_and_pages_of_this_address_are_no_other_page() {
        let told = |host, origin, site: Option<&'static str>| {
            let mut headers = headers(host, origin);
            if let Some(site) = site {
                headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            }
            is_no_other_page(&headers)
        };
        for (host, origin, site) in [
            ("logic-stub:3111", None, None),
            ("logic-stub:3111", None, Some("none")),
            ("localhost:3111", Some("http://localhost:3111"), None),
            ("127.0.0.1:3111", None, Some("same-origin")),
            ("10.0.0.1", Some("https://10.0.0.1"), Some("same-origin")),
        ] {
            assert!(told(host, origin, site), "{host} {origin:?} {site:?}");
        }
        for (host, origin, site) in [
            ("127.0.0.1:3111", Some("http://evil.example"), None),
            ("127.0.0.1:3111", Some("null"), None),
            ("127.0.0.1:3111", Some("http://127.0.0.1:3102"), None),
            ("127.0.0.1:3111", None, Some("cross-site")),
            ("127.0.0.1:3111", None, Some("same-site")),
            ("evil.example", Some("http://evil.example"), None),
            ("evil.example", None, Some("same-origin")),
        ] {
            assert!(!told(host, origin, site), "{host} {origin:?} {site:?}");
        }
        assert!(is_no_other_page(&HeaderMap::new()));
    }
}

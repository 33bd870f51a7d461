//! What keeps other web pages out, and what every answer tells a browser.
//!
//! A page of anybody's that an operator looks at can send requests to this machine. It cannot read
//! the answers, as long as it is of another origin; and where a session is asked for, it has none,
//! since the cookie is `SameSite=Strict`. Where no credential is asked for, two ways are left to it:
//! to have its own name resolve to this machine (DNS rebinding), which the `Host` gives away; and to
//! send what changes something, for which it lacks the session's token, and which is refused by what
//! browsers say of themselves, besides.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery},
};
use url::Url;

use super::{Shared, answer::refusal};

/// No script, style or picture of others, none in the page itself, and no page around it.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'self'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Lets in who asks for a name that nobody else can give this machine, and sends each answer with
/// what browsers are to know.
pub(super) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let is_trusted = shared.admins.ask_for_credentials()
        || authority(request.uri(), request.headers()).is_some_and(|it| is_own(&it));
    let mut answer = match is_trusted {
        true => next.run(request).await,
        false => refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "without [[admins]] the console answers to localhost and to addresses alone, not to \
             other names",
        ),
    };
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, value);
    }
    let caching = HeaderValue::from_static("no-store");
    answer.headers_mut().entry(header::CACHE_CONTROL).or_insert(caching);
    answer
}

/// Lets in what a page of the console sends, or nobody's page.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    if is_of_own_page(request.method(), authority(uri, headers).as_ref(), headers) {
        next.run(request).await
    } else {
        let why = "this is for the console's own pages; behind a proxy, have it pass Host on";
        refusal(StatusCode::FORBIDDEN, why).into_response()
    }
}

/// Whom the request is for: HTTP/2 has it in the URI.
pub(super) fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let host = || headers.get(header::HOST)?.to_str().ok()?.parse().ok();
    uri.authority().cloned().or_else(host)
}

/// Whether no name server tells where this leads: an address, or the machine's name for itself.
fn is_own(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

fn is_of_own_page(method: &Method, own: Option<&Authority>, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let by_hand = *method == Method::GET || *method == Method::HEAD;
    let is_own_site = match site {
        None | Some(b"same-origin") => true,
        // Somebody has typed the address.
        Some(b"none") => by_hand,
        Some(_) => false,
    };
    let is_own_origin = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
        origin.zip(own).is_some_and(|(origin, own)| is_same(&origin, own))
    });
    is_own_site && is_own_origin
}

/// Whether an origin is that of an authority, by whatever scheme: TLS may end before the gateway.
fn is_same(origin: &Url, own: &Authority) -> bool {
    let own = Uri::builder().scheme(origin.scheme()).authority(own.clone());
    let own = own.path_and_query(PathAndQuery::from_static("/")).build().ok();
    let own = own.and_then(|own| Url::parse(&own.to_string()).ok());
    own.is_some_and(|own| own.origin().is_tuple() && own.origin() == origin.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_machines_own_name_are_its_own() {
        for host in ["127.0.0.1:50052", "localhost", "LOCALHOST.:1", "a.localhost", "[::1]:1"] {
            assert!(is_own(&host.parse().unwrap()), "{host}");
        }
        for host in ["evil.example:50052", "127.0.0.1.evil.example", "localhost.evil.example"] {
            assert!(!is_own(&host.parse().unwrap()), "{host}");
        }
    }

    fn check(method: &Method, headers: &[(&'static str, &'static str)], expected: bool) {
        let own: Authority = "127.0.0.1:50052".parse().unwrap();
        let sent = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let is_own = is_of_own_page(method, Some(&own), &sent.collect());
        assert_eq!(is_own, expected, "{method} {headers:?}");
    }

    #[test]
    fn what_a_page_of_another_origin_sends_is_known_by_what_browsers_say() {
        let own = ("origin", "http://127.0.0.1:50052");
        check(&Method::POST, &[], true);
        check(&Method::POST, &[own, ("sec-fetch-site", "same-origin")], true);
        check(&Method::GET, &[("sec-fetch-site", "none")], true);
        check(&Method::POST, &[("sec-fetch-site", "none")], false);
        for site in ["cross-site", "same-site", "whatever"] {
            check(&Method::POST, &[own, ("sec-fetch-site", site)], false);
            check(&Method::GET, &[("sec-fetch-site", site)], false);
        }
        for origin in ["http://127.0.0.1:8080", "http://evil.example", "null", "http://127.0.0.1"] {
            check(&Method::POST, &[("origin", origin)], false);
        }
        check(&Method::POST, &[own, ("origin", "http://evil.example")], false);
    }

    #[test]
    fn an_origin_may_leave_out_the_port_of_its_scheme() {
        let own: Authority = "gateway.example:443".parse().unwrap();
        assert!(is_same(&Url::parse("https://gateway.example").unwrap(), &own));
        assert!(!is_same(&Url::parse("http://gateway.example").unwrap(), &own));
    }
}

//! The cookie that holds a session's name.

use axum::extract::Request;
use http::{HeaderMap, header};

use super::gate;

/// How the cookie's name begins.
const COOKIE: &str = "userpilot_gateway_session";

/// Browsers send a cookie to every port of its host: its name tells whose of these it is.
pub(super) fn name(request: &Request) -> String {
    let authority = gate::authority(request.uri(), request.headers());
    let port = authority.and_then(|authority| authority.port_u16());
    port.map_or_else(|| COOKIE.to_owned(), |port| format!("{COOKIE}_{port}"))
}

/// What the cookie of this name holds.
pub(super) fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
    let mut cookies = cookies.flat_map(|cookies| cookies.split(';'));
    cookies.find_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='))
}

/// For the console alone, never shown to scripts, never sent from another site.
pub(super) fn set(name: &str, secret: &str, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{name}={secret}; Path=/console; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_sessions_cookie_is_found_among_others() {
        let check = |cookies: &[&'static str], expected| {
            let headers = cookies.iter().map(|it| (header::COOKIE, HeaderValue::from_static(it)));
            assert_eq!(find(&headers.collect(), COOKIE), expected, "{cookies:?}");
        };
        check(&["a=b; userpilot_gateway_session=x; c=d"], Some("x"));
        check(&["a=b", "userpilot_gateway_session=x"], Some("x"));
        check(&["userpilot_gateway_session_50052=x", "xuserpilot_gateway_session=y"], None);
        check(&[], None);
    }

    #[test]
    fn a_cookie_is_called_after_the_port_that_was_asked() {
        let check = |uri: &str, host: Option<&str>, expected: &str| {
            let mut request = Request::builder().uri(uri);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let request = request.body(Body::empty()).unwrap();
            assert_eq!(name(&request), expected, "{uri} {host:?}");
        };
        check("/", Some("localhost:50052"), "userpilot_gateway_session_50052");
        check("/", Some("[::1]:50053"), "userpilot_gateway_session_50053");
        check("https://gateway.example:8443/", None, "userpilot_gateway_session_8443");
        check("/", Some("gateway.example"), "userpilot_gateway_session");
    }

    #[test]
    fn a_cookie_is_for_tls_alone_where_the_listener_speaks_it() {
        assert!(set(COOKIE, "x", true).ends_with("; HttpOnly; SameSite=Strict; Secure"));
        assert!(set(COOKIE, "x", false).ends_with("; HttpOnly; SameSite=Strict"));
    }
}

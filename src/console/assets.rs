//! The pages: files that are part of the program.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};

/// They are whatever stood there when the program was built.
#[derive(RustEmbed)]
#[folder = "src/console/assets/"]
struct Assets;

const INDEX: &str = "index.html";

pub(super) async fn home() -> Redirect {
    Redirect::to("/console/")
}

pub(super) async fn asset(request: Request) -> Response {
    let path = request.uri().path().strip_prefix("/console/").unwrap_or_default();
    match find(path) {
        Some((_, file)) => show(&file, request.headers()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The file at a path. What is no file's name is a place in the page, which finds its own way.
fn find(path: &str) -> Option<(String, EmbeddedFile)> {
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = if last.contains('.') { path } else { INDEX };
    Some((name.to_owned(), Assets::get(name)?))
}

fn show(file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash = file.metadata.sha256_hash();
    let hash: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hash}\"");
    // It is asked for every time, and sent when it is another.
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known.filter_map(|tags| tags.to_str().ok()).any(|tags| tags.contains(&tag));
    let caching = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let mime = match file.metadata.mimetype() {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    (caching, [(header::CONTENT_TYPE, mime)], Body::from(file.data.clone())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_page_is_the_page_and_an_unknown_file_is_none() {
        for path in ["", "jobs", "jobs/00000000000000aa-0-7", "dead-letters/1-2"] {
            assert_eq!(find(path).unwrap().0, INDEX, "{path}");
        }
        for path in ["none.js", "../Cargo.toml", "jobs/none.css"] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_page_that_is_known_is_not_sent_again() {
        let (_, file) = find("").unwrap();
        let sent = show(&file, &HeaderMap::new());
        let tag = sent.headers()[header::ETAG].clone();
        assert_eq!(sent.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let again = show(&file, &HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }
}

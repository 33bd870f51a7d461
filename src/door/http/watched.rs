//! The body of a bulk request: it may take its time, for as long as it keeps coming.

use std::time::Duration;

use axum::{
    BoxError,
    body::{Body, Bytes},
};
use futures_util::stream;
use http_body_util::BodyExt as _;

use crate::{clock, domain::time::Instant};

/// How slowly the body of a bulk request may come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At least so many bytes…
    pub bytes_min: usize,
    /// … in each such time that is spent waiting for it. That of one small request.
    pub within: Duration,
}

/// A body came more slowly than it may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body comes too slowly")]
pub(super) struct TooSlow;

/// The body, broken off where it comes too slowly. While its rows are being stored, or wait for
/// the client's rate, nobody waits for more of it, and that time does not count.
pub(super) fn watched(body: Body, pace: Pace) -> Body {
    let watched = Watched { body, pace, come: 0, waited: Duration::ZERO };
    Body::from_stream(stream::try_unfold(watched, |mut watched| async move {
        Ok::<_, BoxError>(watched.next().await?.map(|bytes| (bytes, watched)))
    }))
}

struct Watched {
    body: Body,
    pace: Pace,
    /// Bytes since the time began anew.
    come: usize,
    waited: Duration,
}

impl Watched {
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            let began = clock::now().instant;
            let left = self.pace.within.saturating_sub(self.waited);
            let frame = tokio::time::timeout(left, self.body.frame()).await.map_err(|_| TooSlow)?;
            let Some(frame) = frame else { return Ok(None) };
            let Ok(bytes) = frame?.into_data() else { continue };
            self.note(bytes.len(), began, clock::now().instant);
            return Ok(Some(bytes));
        }
    }

    fn note(&mut self, bytes: usize, began: Instant, now: Instant) {
        self.come += bytes;
        self.waited += now.since(began);
        if self.come >= self.pace.bytes_min {
            self.come = 0;
            self.waited = Duration::ZERO;
        }
    }
}

/// Whether a body was broken off since it came too slowly, whoever passed the error on.
pub(super) fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    super::request::has_cause::<TooSlow>(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_origin(Duration::from_millis(ms))
    }

    #[test]
    fn only_enough_of_it_begins_the_time_anew() {
        let pace = Pace { bytes_min: 100, within: Duration::from_millis(50) };
        let mut it = Watched { body: Body::empty(), pace, come: 0, waited: Duration::ZERO };
        it.note(60, at(0), at(20));
        assert_eq!((it.come, it.waited), (60, Duration::from_millis(20)));
        // From 20 to 500 its rows were stored.
        it.note(39, at(500), at(510));
        assert_eq!((it.come, it.waited), (99, Duration::from_millis(30)));
        it.note(1, at(510), at(511));
        assert_eq!((it.come, it.waited), (0, Duration::ZERO));
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_broken_off() {
        let pace = Pace { bytes_min: 1, within: Duration::from_millis(20) };
        let first = stream::iter([Ok::<_, BoxError>(Bytes::from_static(b"a"))]);
        let body = Body::from_stream(futures_util::StreamExt::chain(first, stream::pending()));
        let mut body = watched(body, pace);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(is_too_slow(&error), "{error:?}");
    }
}

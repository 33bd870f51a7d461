//! An answer that goes on for as long as who asked may ask.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use futures_util::future::BoxFuture;
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

/// A body of gRPC. Once whoever reads it may not do so any more, it ends and says why.
pub(super) struct Guarded {
    body: Body,
    /// Comes about when it is to end. `None` once it did.
    revoked: Option<BoxFuture<'static, Status>>,
}

impl Guarded {
    pub(super) fn new(body: Body, revoked: impl Future<Output = Status> + Send + 'static) -> Self {
        Self { body, revoked: Some(Box::pin(revoked)) }
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(revoked) = &mut self.revoked else { return Poll::Ready(None) };
        if let Poll::Ready(status) = revoked.as_mut().poll(context) {
            *self = Self { body: Body::empty(), revoked: None };
            let mut trailers = HeaderMap::new();
            // A status without a name or a value that is no header's does not fail.
            status.add_header(&mut trailers).ok();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.revoked.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! A service whose requests are watched: each from when it is read until its answer has been handed
//! over to the end, or nobody wants it any more. A stream is under way for as long as it is open.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Request, Response};
use hyper::{
    body::{Body, Frame, SizeHint},
    service::Service,
};
use pin_project_lite::pin_project;

/// Who watches requests.
pub trait Watch {
    /// What there is of a request while it is under way. That it is dropped is the request's end.
    type UnderWay: UnderWay;

    /// A request of this path has been read.
    fn begin(&self, path: &str) -> Self::UnderWay;
}

/// A request that is under way.
pub trait UnderWay {
    /// The head of its answer is there.
    fn on_head<B>(&mut self, head: &Response<B>);

    /// So are the trailers, where it has any.
    fn on_trailers(&mut self, trailers: &HeaderMap);
}

/// A service whose requests are watched.
#[derive(Clone, Debug)]
pub struct Watched<S, W> {
    pub(super) service: S,
    pub(super) watch: W,
}

impl<S, W, I, O> Service<Request<I>> for Watched<S, W>
where
    S: Service<Request<I>, Response = Response<O>>,
    W: Watch,
{
    type Response = Response<WatchedBody<O, W::UnderWay>>;
    type Error = S::Error;
    type Future = Answering<S::Future, W::UnderWay>;

    fn call(&self, request: Request<I>) -> Self::Future {
        let under_way = Some(self.watch.begin(request.uri().path()));
        Answering { answer: self.service.call(request), under_way }
    }
}

pin_project! {
    /// An answer that is to come.
    #[derive(Debug)]
    pub struct Answering<F, U> {
        #[pin]
        answer: F,
        under_way: Option<U>,
    }
}

impl<F, U, O, E> Future for Answering<F, U>
where
    F: Future<Output = Result<Response<O>, E>>,
    U: UnderWay,
{
    type Output = Result<Response<WatchedBody<O, U>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        let mut under_way = this.under_way.take();
        Poll::Ready(answer.map(|answer| {
            if let Some(under_way) = &mut under_way {
                under_way.on_head(&answer);
            }
            answer.map(|body| WatchedBody { body, under_way })
        }))
    }
}

pin_project! {
    /// The body of an answer that is under way.
    #[derive(Debug)]
    pub struct WatchedBody<O, U> {
        #[pin]
        body: O,
        under_way: Option<U>,
    }
}

impl<O: Body, U: UnderWay> Body for WatchedBody<O, U> {
    type Data = O::Data;
    type Error = O::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<O::Data>, O::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let (Some(trailers), Some(under_way)) = (frame.trailers_ref(), this.under_way)
        {
            under_way.on_trailers(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

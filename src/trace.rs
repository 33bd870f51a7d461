//! Traces: what a caller's trace is carried on to. A request becomes a span of the caller's trace;
//! the updates that it brought are remembered with it, and the span of the job that delivers them
//! links to it. Where no traces are exported, all of this does nothing.
//!
//! What is remembered is in memory alone, and bounded: links to what was accepted before a restart
//! are lost, and the updates are not.

mod carried;

use std::{
    borrow::Cow,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, Tracer as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span},
};
use tokio::sync::mpsc;

pub use self::carried::Carried;
use self::carried::CarriedUpdates;
use crate::domain::{
    batch::{Batch, Settlement},
    time::Timestamp,
    update::{AppId, Sequence, Subject},
};

tokio::task_local! {
    /// The span of the request that is being served, where it is sampled.
    static SERVED: Option<SpanContext>;
}

/// What was delivered, or tried, for an app.
#[derive(Clone, Debug)]
pub enum Ended {
    /// A batch.
    Job(Box<Batch>, Settlement),
    /// The records of these subjects, which went by express.
    Express(Vec<Subject>),
}

/// Where traces go, if anywhere. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    tracer: SdkTracer,
    carried: CarriedUpdates,
    ended: mpsc::Sender<(AppId, Ended)>,
}

/// What ended and waits for its span. Jobs are rare; who cannot keep up with more loses spans.
const ENDED_MAX: usize = 256;

/// What ended, for who makes spans of it.
pub type EndedWork = mpsc::Receiver<(AppId, Ended)>;

impl Traces {
    /// Traces that go to `tracer`. Of the updates whose requests were sampled, up to `updates_max`
    /// are remembered.
    pub fn new(tracer: SdkTracer, updates_max: usize) -> (Self, EndedWork) {
        let (ended, work) = mpsc::channel(ENDED_MAX);
        let carried = CarriedUpdates::new(updates_max);
        (Self(Some(Arc::new(Inner { tracer, carried, ended }))), work)
    }

    /// Begins the span of a request that came with `headers`; `None` where no traces are exported.
    pub fn begin(
        &self,
        name: impl FnOnce() -> Cow<'static, str>,
        headers: &HeaderMap,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Option<RequestSpan> {
        let inner = self.0.as_ref()?;
        let parent = TraceContextPropagator::new().extract_with_context(
            // Not what this thread may be at.
            &Context::new(),
            &Headers(headers),
        );
        let builder = SpanBuilder::from_name(name())
            .with_kind(SpanKind::Server)
            .with_attributes(attributes());
        Some(RequestSpan(inner.tracer.build_with_context(builder, &parent)))
    }

    /// Remembers an update that was accepted with the request whose span is `context`.
    pub fn carry(&self, context: SpanContext, app: AppId, subject: Subject, sequence: Sequence) {
        if let Some(inner) = &self.0 {
            inner.carried.push(Carried { context, app, subject, sequence });
        }
    }

    /// What is remembered of an app's updates, oldest first.
    pub fn carried(&self, app: AppId) -> Vec<Carried> {
        self.0.as_ref().map_or_else(Vec::new, |inner| inner.carried.of(app))
    }

    /// What is remembered of one subject's updates, oldest first. Looks at these alone.
    pub fn carried_of(&self, app: AppId, subject: &Subject) -> Vec<Carried> {
        self.0.as_ref().map_or_else(Vec::new, |inner| inner.carried.of_subject(app, subject))
    }

    /// Forgets an update that is over.
    pub fn forget(&self, update: &Carried) {
        if let Some(inner) = &self.0 {
            inner.carried.forget(update);
        }
    }

    /// Tells that something ended. Never waits.
    pub fn ended(&self, app: AppId, ended: impl FnOnce() -> Ended) {
        if let Some(inner) = &self.0 {
            // Rather no span than a delivery that waits for one.
            inner.ended.try_send((app, ended())).ok();
        }
    }

    /// A span of what is over, with links.
    pub fn over(
        &self,
        builder: SpanBuilder,
        links: Vec<SpanContext>,
        end: SystemTime,
        status: Status,
    ) {
        let Some(inner) = &self.0 else { return };
        let mut span = inner.tracer.build_with_context(builder, &Context::new());
        for context in links {
            span.add_link(context, Vec::new());
        }
        span.set_status(status);
        span.end_with_timestamp(end);
    }
}

/// The span of a request that is being served.
#[derive(Debug)]
pub struct RequestSpan(Span);

impl RequestSpan {
    /// Serves the request. `told` says what came of it.
    pub async fn around<F: Future>(
        mut self,
        serving: F,
        told: impl FnOnce(&F::Output) -> (Vec<KeyValue>, Status),
    ) -> F::Output {
        let context = Some(self.0.span_context().clone()).filter(SpanContext::is_sampled);
        let answer = SERVED.scope(context, serving).await;
        let (attributes, status) = told(&answer);
        self.0.set_attributes(attributes);
        self.0.set_status(status);
        self.0.end();
        answer
    }
}

/// The span of the request that is being served, where it is sampled.
pub fn served() -> Option<SpanContext> {
    SERVED.try_with(Clone::clone).ok().flatten()
}

/// Does `work` as part of a request that is answered piece by piece.
pub async fn serving<F: Future>(span: Option<SpanContext>, work: F) -> F::Output {
    match span {
        Some(_) => SERVED.scope(span, work).await,
        None => work.await,
    }
}

/// A time as exporters have it.
pub fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH
        + Duration::from_micros(u64::try_from(at.as_micros()).unwrap_or_default())
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn context(id: u64, flags: TraceFlags) -> SpanContext {
        let (trace, span) = (TraceId::from(u128::from(id)), SpanId::from(id));
        SpanContext::new(trace, span, flags, true, TraceState::default())
    }

    #[test]
    fn without_an_exporter_no_request_has_a_span() {
        let traces = Traces::default();
        let span = traces.begin(|| unreachable!(), &HeaderMap::new(), || unreachable!());
        assert!(span.is_none());
        traces.ended(AppId(1), || unreachable!());
    }

    #[tokio::test]
    async fn what_is_done_for_a_request_knows_its_span() {
        assert_eq!(served(), None);
        let own = context(7, TraceFlags::SAMPLED);
        let seen = serving(Some(own.clone()), async { served() }).await;
        assert_eq!(seen, Some(own));
        assert_eq!(served(), None);
    }
}

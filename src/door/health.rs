//! The standard health service, whose watches would otherwise hold up every stop.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status};
use tonic_health::{
    pb::{HealthCheckRequest, HealthCheckResponse, health_server::Health},
    server::{HealthService, WatchStream},
};

/// A health service whose watches end on `stop`.
pub struct UntilStopped {
    /// The service.
    pub health: HealthService,
    /// Ends its watches.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl Health for UntilStopped {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.health.check(request).await
    }

    type WatchStream = Watch;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let statuses = self.health.watch(request).await?;
        let stopped = || Box::pin(self.stop.clone().cancelled_owned());
        Ok(statuses.map(|statuses| Watch { statuses, stopped: Some(stopped()) }))
    }
}

/// Tells of each status, the last one too, and ends once it is stopped.
pub struct Watch {
    statuses: WatchStream,
    /// `None` once it is.
    stopped: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(status) = self.statuses.poll_next_unpin(cx) {
            return Poll::Ready(status);
        }
        let stopped = self.stopped.as_mut().is_none_or(|stopped| stopped.poll_unpin(cx).is_ready());
        if !stopped {
            return Poll::Pending;
        }
        self.stopped = None;
        Poll::Ready(None)
    }
}

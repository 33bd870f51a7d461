//! How an app has done over time, for operators.

use tokio::sync::watch;
use tonic::Status;

use super::{
    grpc::Admin,
    history::{Columns, Resolution},
    messages::duration,
    status::App,
};
use crate::proto::{self, HistoryResolution};

impl Admin {
    pub(super) fn history(
        &self,
        request: &proto::GetHistoryRequest,
    ) -> Result<proto::GetHistoryResponse, Status> {
        let app = self.app_or_held(&request.app)?;
        let resolution = HistoryResolution::try_from(request.resolution)
            .map_err(|_| Status::invalid_argument("resolution: is not known"))?;
        let resolution = match resolution {
            HistoryResolution::Unspecified | HistoryResolution::Hour => Resolution::Hour,
            HistoryResolution::Day => Resolution::Day,
        };
        Ok(self.columns(app, resolution, usize::MAX))
    }

    /// How often the apps were sampled for it.
    pub fn samples(&self) -> watch::Receiver<u64> {
        self.observatory.history.samples()
    }

    /// The newest interval of each app.
    pub fn newest(&self) -> Vec<(String, proto::GetHistoryResponse)> {
        let of = |app: &App| (app.name.clone(), self.columns(app, Resolution::Hour, 1));
        self.observatory.apps.iter().map(of).collect()
    }

    fn columns(
        &self,
        app: &App,
        resolution: Resolution,
        newest: usize,
    ) -> proto::GetHistoryResponse {
        let columns = self.observatory.history.columns(app.id, resolution, newest);
        let Columns {
            time,
            accepted,
            coalesced,
            suppressed,
            delivered,
            refused,
            pending_records,
            oldest_pending_seconds,
            freshness_p50_seconds,
            freshness_p99_seconds,
        } = columns;
        proto::GetHistoryResponse {
            interval: duration(resolution.interval()),
            time,
            accepted,
            coalesced,
            suppressed,
            delivered,
            refused,
            pending_records,
            oldest_pending_seconds,
            freshness_p50_seconds,
            freshness_p99_seconds,
            budget_per_second: f64::from(app.users_per_minute) / 60.0,
        }
    }
}

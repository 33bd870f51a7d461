//! Forgetting a subject, for operators.

use tonic::Status;

use super::{
    grpc::{Admin, Asked},
    status::App,
};
use crate::{
    domain::update::{Subject, SubjectKind},
    proto::{self, subject::Id},
    store::{Erased, Traces, queue::Forgotten},
};

/// As long as ids are taken at the door, at the most.
const ID_BYTES_MAX: usize = 512;

impl Admin {
    pub(super) async fn forget(
        &self,
        request: proto::ForgetSubjectRequest,
    ) -> Result<proto::ForgetSubjectResponse, Status> {
        let subject = subject(request.subject)?;
        let mut apps = Vec::new();
        let Asked { apps: asked, held: held_apps } = self.apps(&request.app)?;
        for app in asked {
            let erased = self.observatory.store.forget(app.id, subject.clone()).await;
            let erased = erased.map_err(|error| Status::unavailable(error.to_string()))?;
            tell(app, &erased);
            apps.push(message(app, erased));
        }
        Ok(proto::ForgetSubjectResponse { apps, held_apps })
    }
}

/// Who is meant.
pub(super) fn subject(named: Option<proto::Subject>) -> Result<Subject, Status> {
    let (kind, id) = match named.and_then(|named| named.id) {
        Some(Id::UserId(id)) => (SubjectKind::User, id),
        Some(Id::CompanyId(id)) => (SubjectKind::Company, id),
        None => return Err(Status::invalid_argument("give a user_id or a company_id")),
    };
    if !(1..=ID_BYTES_MAX).contains(&id.len()) {
        let message = format!("subject: expected an id of 1 to {ID_BYTES_MAX} bytes");
        return Err(Status::invalid_argument(message));
    }
    Ok(Subject { kind, id })
}

/// The log says that somebody was forgotten, and not who.
fn tell(app: &App, erased: &Erased) {
    let Erased { forgotten, mentions, traces } = erased;
    let app = &*app.name;
    tracing::info!(
        app,
        pending = forgotten.pending,
        in_flight = forgotten.in_flight,
        dead_letters = forgotten.dead_letters,
        deliveries = forgotten.deliveries,
        quarantined = forgotten.quarantined,
        mentions,
        left = traces.left,
        "a subject is forgotten"
    );
}

fn message(app: &App, erased: Erased) -> proto::ForgottenSubject {
    let Erased { forgotten, mentions, traces } = erased;
    let Forgotten { up_to: _, pending, in_flight, dead_letters, deliveries, quarantined } =
        forgotten;
    let Traces { entries, left, until_settled, newer } = traces;
    proto::ForgottenSubject {
        app: app.name.clone(),
        pending,
        in_flight,
        dead_letters,
        deliveries,
        quarantined,
        mentions,
        scan: Some(proto::SubjectScan { entries, left, until_settled, newer }),
    }
}

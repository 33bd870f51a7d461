//! What happens, as it happens: server-sent events.

use std::{
    collections::VecDeque, convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration,
};

use axum::{
    extract::{Request, State},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use http::StatusCode;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    Shared,
    answer::{self, refusal},
    bridge::{self, Answers},
    handlers::LoggedIn,
};
use crate::{clock, door::token::Hash, proto};

/// A proxy in between gives up on what is silent for long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The state each second, and each new sample of an app's history, until the session ends.
pub(super) async fn events(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some(logged_in) = LoggedIn::that_listens(&shared, &request) else {
        return refusal(StatusCode::UNAUTHORIZED, "log in first");
    };
    let question = match shared.bridge.question("WatchStatus", b"") {
        Ok(question) => question,
        Err(status) => return answer::of_status(&status),
    };
    let path = question.path();
    let statuses = match shared.bridge.ask(question, logged_in.asker).await {
        Ok(statuses) => statuses,
        Err(status) => return answer::of_status(&status),
    };
    let (credential, role) = (logged_in.asker.credential, logged_in.role);
    let revoked = shared.admins.clone().revoked(credential, path, role);
    let (ended, stop) = (logged_in.session.ended, shared.stop.clone());
    let ended = async move {
        tokio::select! {
            _ = revoked => {}
            () = ended.cancelled() => {}
            () = stop.cancelled() => {}
        }
    };
    let samples = shared.admin.samples();
    let session = logged_in.id;
    let feed = Feed {
        shared,
        session,
        statuses,
        samples,
        ended: Box::pin(ended),
        waiting: VecDeque::new(),
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    Sse::new(feed.events()).keep_alive(keep_alive).into_response()
}

/// What one page hears of.
struct Feed {
    shared: Arc<Shared>,
    session: Hash,
    statuses: Answers,
    samples: watch::Receiver<u64>,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What it is still to be told.
    waiting: VecDeque<Event>,
}

impl Feed {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut feed| async move {
            loop {
                if let Some(event) = feed.waiting.pop_front() {
                    return Some((Ok(event), feed));
                }
                feed.listen().await?;
            }
        })
    }

    /// Waits until there is something to be told. `None` at the end.
    async fn listen(&mut self) -> Option<()> {
        tokio::select! {
            biased;
            () = &mut self.ended => return None,
            status = self.statuses.next() => {
                let message = status?.ok()?;
                let status = message.get_field_by_name("status")?;
                self.waiting.push_back(event("status", &bridge::json(status.as_message()?)));
            }
            changed = self.samples.changed() => {
                changed.ok()?;
                self.samples.borrow_and_update();
                self.tell_samples();
            }
        }
        // That it listens is no request.
        let is_alive = self.shared.sessions.is_alive(self.session, clock::now().instant);
        is_alive.then_some(())
    }

    /// The newest sample of each app: its history, as far as it is of one interval.
    fn tell_samples(&mut self) {
        for (app, sample) in self.shared.admin.newest() {
            if sample.time.is_empty() {
                continue;
            }
            let sample = proto::dynamic("GetHistoryResponse", &sample);
            let sample = sample.map(|sample| bridge::json(&sample)).unwrap_or_default();
            if let Ok(Value::Object(mut sample)) = serde_json::from_slice(&sample) {
                sample.insert("app".to_owned(), app.into());
                let sample = Value::Object(sample).to_string();
                self.waiting.push_back(event("sample", sample.as_bytes()));
            }
        }
    }
}

fn event(name: &str, json: &[u8]) -> Event {
    Event::default().event(name).data(String::from_utf8_lossy(json))
}

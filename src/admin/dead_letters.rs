//! Dead letters, for operators: to look at, to replay, to discard, to take away.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tonic::{Request, Status};

use super::{
    access,
    grpc::{Admin, PAGE_SIZE_MAX, read_page_size, read_page_token},
    messages::{self, timestamp},
    status::App,
};
use crate::{
    domain::{
        batch::DeadReason,
        update::{AppId, Subject, SubjectKind},
    },
    proto::{
        self, DeadLetterReason, DeadLetterState, dead_letter_selection::Selection,
        subject::Id as SubjectId,
    },
    store::{
        Closing, StoreError,
        queue::{DeadFilter, DeadId, DeadLetter, DeadPage, Replay},
    },
};

/// Letters that are read at once, whatever is asked of all of them.
const CHUNK: usize = 16;
/// A page ends with the chunk that brings it here: 4 MiB is what clients take in one message.
const PAGE_BYTES: usize = 1 << 20;

/// An export.
pub(super) type DeadLetters =
    Pin<Box<dyn Stream<Item = Result<proto::ExportDeadLettersResponse, Status>> + Send>>;

/// Which letters are to be replayed or discarded.
enum Selected {
    Ids(Vec<DeadId>),
    /// Those of this filter, up to this one: what dies again meanwhile comes behind it.
    Filter(DeadFilter, Option<DeadId>),
}

impl Admin {
    pub(super) async fn list_dead(
        &self,
        request: Request<proto::ListDeadLettersRequest>,
    ) -> Result<proto::ListDeadLettersResponse, Status> {
        let is_operator = access::is_operator(request.extensions());
        let request = request.into_inner();
        let app = self.app(&request.app)?;
        let filter = read_filter(request.filter, request.include_closed)?;
        let page_size = read_page_size(request.page_size)?;
        let mut next = Some(read_page_token(&request.page_token)?);
        let (mut dead_letters, mut bytes) = (Vec::new(), 0);
        while let Some(after) = next
            && dead_letters.len() < page_size
            && bytes < PAGE_BYTES
        {
            let limit = CHUNK.min(page_size - dead_letters.len());
            let page = self.dead_page(app.id, &filter, after, limit).await?;
            bytes += page.letters.iter().map(|letter| letter.record.size()).sum::<usize>();
            let listed = |letter| listed(dead_letter(&app.name, letter), is_operator);
            dead_letters.extend(page.letters.into_iter().map(listed));
            next = page.next.map(Some);
        }
        let next_page_token = next.flatten().map(|id| id.to_string()).unwrap_or_default();
        Ok(proto::ListDeadLettersResponse { dead_letters, next_page_token })
    }

    pub(super) async fn get_dead(
        &self,
        request: proto::GetDeadLetterRequest,
    ) -> Result<proto::GetDeadLetterResponse, Status> {
        let app = self.app(&request.app)?;
        let missing = || Status::not_found("no dead letter has this id");
        let id = request.id.parse().map_err(|()| missing())?;
        let letter = self.observatory.store.dead_letter(app.id, id).await.map_err(unreadable)?;
        let letter = dead_letter(&app.name, letter.ok_or_else(missing)?);
        Ok(proto::GetDeadLetterResponse { dead_letter: Some(letter) })
    }

    pub(super) async fn replay_dead(
        &self,
        request: proto::ReplayDeadLettersRequest,
    ) -> Result<proto::ReplayDeadLettersResponse, Status> {
        let app = self.app(&request.app)?;
        let store = &self.observatory.store;
        let mut selected = self.select(app, request.selection).await?;
        let mut answer = proto::ReplayDeadLettersResponse::default();
        let mut after = None;
        while let Some(ids) = self.next_selected(app.id, &mut selected, &mut after).await? {
            for id in ids {
                self.go_on()?;
                let replay = store.replay(app.id, id).await;
                match replay.map_err(|closed| Status::unavailable(closed.to_string()))? {
                    Replay::Replayed => answer.replayed += 1,
                    Replay::NoRoom => answer.no_room += 1,
                    Replay::NotThere => answer.not_there += 1,
                }
            }
        }
        let proto::ReplayDeadLettersResponse { replayed, no_room, not_there } = answer;
        tracing::info!(app = app.name, replayed, no_room, not_there, "replays dead letters");
        Ok(answer)
    }

    pub(super) async fn discard_dead(
        &self,
        request: proto::DiscardDeadLettersRequest,
    ) -> Result<proto::DiscardDeadLettersResponse, Status> {
        let app = self.app(&request.app)?;
        let store = &self.observatory.store;
        let mut selected = self.select(app, request.selection).await?;
        let mut answer = proto::DiscardDeadLettersResponse::default();
        let mut after = None;
        while let Some(ids) = self.next_selected(app.id, &mut selected, &mut after).await? {
            for id in ids {
                self.go_on()?;
                let discarded = store.discard(app.id, id).await;
                match discarded.map_err(|closed| Status::unavailable(closed.to_string()))? {
                    true => answer.discarded += 1,
                    false => answer.not_there += 1,
                }
            }
        }
        let proto::DiscardDeadLettersResponse { discarded, not_there } = answer;
        tracing::info!(app = app.name, discarded, not_there, "discards dead letters");
        Ok(answer)
    }

    pub(super) fn export_dead(
        &self,
        request: proto::ExportDeadLettersRequest,
    ) -> Result<DeadLetters, Status> {
        let App { id, name, .. } = self.app(&request.app)?.clone();
        let filter = read_filter(request.filter, request.include_closed)?;
        let begin = (self.clone(), filter, Some(None));
        let pages = stream::try_unfold(begin, move |(admin, filter, from)| async move {
            let Some(after) = from else { return Ok::<_, Status>(None) };
            admin.go_on()?;
            let page = admin.dead_page(id, &filter, after, CHUNK).await?;
            let letters = stream::iter(page.letters.into_iter().map(Ok::<_, Status>));
            Ok(Some((letters, (admin, filter, page.next.map(Some)))))
        });
        let letters = pages.try_flatten().map(move |letter| {
            let dead_letter = Some(dead_letter(&name, letter?));
            Ok(proto::ExportDeadLettersResponse { dead_letter })
        });
        Ok(Box::pin(letters))
    }

    pub(super) async fn dead_page(
        &self,
        app: AppId,
        filter: &DeadFilter,
        after: Option<DeadId>,
        limit: usize,
    ) -> Result<DeadPage, Status> {
        let page = self.observatory.store.dead_letters(app, filter.clone(), after, limit).await;
        page.map_err(unreadable)
    }

    async fn select(
        &self,
        app: &App,
        selection: Option<proto::DeadLetterSelection>,
    ) -> Result<Selected, Status> {
        let filter = match selection.and_then(|selection| selection.selection) {
            None => return Err(Status::invalid_argument("selection: is missing")),
            Some(Selection::Ids(proto::DeadLetterIds { ids })) => {
                return read_ids(&ids).map(Selected::Ids);
            }
            Some(Selection::Filter(filter)) => match read_filter(Some(filter), false)? {
                filter if filter == DeadFilter::default() => {
                    let message = "selection.filter: is empty; `all` selects all";
                    return Err(Status::invalid_argument(message));
                }
                filter => filter,
            },
            Some(Selection::All(proto::AllDeadLetters {})) => DeadFilter::default(),
        };
        let (mut last, mut after) = (None, None);
        loop {
            let page = self.dead_page(app.id, &filter, after, CHUNK).await?;
            last = page.letters.last().map(|letter| letter.id).or(last);
            after = page.next;
            if after.is_none() {
                return Ok(Selected::Filter(filter, last));
            }
        }
    }

    /// Some more of what is selected, behind `after`; `None` at the end.
    async fn next_selected(
        &self,
        app: AppId,
        selected: &mut Selected,
        after: &mut Option<DeadId>,
    ) -> Result<Option<Vec<DeadId>>, Status> {
        let ids = match selected {
            Selected::Ids(ids) => std::mem::take(ids),
            Selected::Filter(_, None) => Vec::new(),
            Selected::Filter(filter, Some(last)) => {
                let page = self.dead_page(app, filter, *after, CHUNK).await?;
                let ids = page.letters.into_iter().map(|letter| letter.id);
                ids.take_while(|id| id <= last).collect()
            }
        };
        *after = ids.last().copied().or(*after);
        Ok(Some(ids).filter(|ids| !ids.is_empty()))
    }

    /// Between two letters, whether the gateway goes on.
    pub(super) fn go_on(&self) -> Result<(), Status> {
        match self.stop.is_cancelled() {
            true => Err(Status::unavailable("the gateway is stopping: not all is done")),
            false => Ok(()),
        }
    }
}

pub(super) fn unreadable(error: StoreError) -> Status {
    Status::unavailable(error.to_string())
}

fn read_ids(ids: &[String]) -> Result<Vec<DeadId>, Status> {
    if ids.is_empty() || ids.len() > PAGE_SIZE_MAX {
        let message = format!("selection.ids: expected 1 to {PAGE_SIZE_MAX}, found {}", ids.len());
        return Err(Status::invalid_argument(message));
    }
    let read = |(nth, id): (usize, &String)| {
        let unread = || format!("selection.ids[{nth}]: is not the id of a dead letter");
        id.parse().map_err(|()| Status::invalid_argument(unread()))
    };
    ids.iter().enumerate().map(read).collect()
}

fn read_filter(
    filter: Option<proto::DeadLetterFilter>,
    closed_too: bool,
) -> Result<DeadFilter, Status> {
    let proto::DeadLetterFilter { reason, subject } = filter.unwrap_or_default();
    let reason = DeadLetterReason::try_from(reason)
        .map_err(|_| Status::invalid_argument("filter.reason: is not known"))?;
    let reason = match reason {
        DeadLetterReason::Unspecified => None,
        DeadLetterReason::BadRow => Some(DeadReason::BadRow),
        DeadLetterReason::TooLarge => Some(DeadReason::TooLarge),
        DeadLetterReason::JobFailed => Some(DeadReason::JobFailed),
        DeadLetterReason::NotTaken => Some(DeadReason::NotTaken),
    };
    let subject = match subject {
        None => None,
        Some(proto::Subject { id: None }) => {
            return Err(Status::invalid_argument("filter.subject: names nobody"));
        }
        Some(proto::Subject { id: Some(SubjectId::UserId(id)) }) => Some(Subject::user(id)),
        Some(proto::Subject { id: Some(SubjectId::CompanyId(id)) }) => {
            Some(Subject { kind: SubjectKind::Company, id })
        }
    };
    Ok(DeadFilter { subject, reason, closed_too })
}

/// A letter as it stands in a list, which is not for its values. Upstream's words may quote them.
fn listed(letter: proto::DeadLetter, is_operator: bool) -> proto::DeadLetter {
    let detail = if is_operator { letter.detail } else { String::new() };
    proto::DeadLetter { detail, company_id: None, metadata: None, ..letter }
}

pub(super) fn dead_letter(app: &str, letter: DeadLetter) -> proto::DeadLetter {
    let DeadLetter { id, subject, death, closed, record } = letter;
    let (state, closed_at) = match closed {
        None => (DeadLetterState::Open, None),
        Some((Closing::Superseded, at)) => (DeadLetterState::Superseded, Some(at)),
        Some((Closing::Discarded, at)) => (DeadLetterState::Discarded, Some(at)),
    };
    let reason = match death.reason {
        DeadReason::BadRow => DeadLetterReason::BadRow,
        DeadReason::TooLarge => DeadLetterReason::TooLarge,
        DeadReason::JobFailed => DeadLetterReason::JobFailed,
        DeadReason::NotTaken => DeadLetterReason::NotTaken,
    };
    proto::DeadLetter {
        app: app.to_owned(),
        id: id.to_string(),
        subject: Some(messages::subject(subject)),
        reason: reason.into(),
        detail: death.detail,
        batch_id: death.batch.to_string(),
        job_id: death.job_id.unwrap_or_default(),
        request_id: death.request_id.unwrap_or_default(),
        died_at: Some(timestamp(id.died_at)),
        accepted_at: Some(timestamp(record.first_accepted_at)),
        first_sequence: record.first_sequence,
        last_sequence: record.last_sequence,
        updates: record.updates,
        state: state.into(),
        closed_at: closed_at.map(timestamp),
        company_id: record.company_id.map(|(id, _)| id),
        metadata: Some(messages::metadata(record.properties)),
    }
}

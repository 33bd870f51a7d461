//! An uploaded file: a form with one part, `file`, one JSON object a line. It is read as it
//! comes, and no more of it than a line is held in memory.

use super::{
    BadRows,
    bulk::Taking,
    envelope::{self, Envelope, bounded},
    error::{ApiError, too_slow},
    lines::{Line, Lines},
    rows::too_many_rows,
    spool::Spool,
    watched::is_too_slow,
};
use crate::{
    domain::update::Update,
    door::{
        refusal::{Refusal, Violation},
        wire::json::Place,
    },
};
use axum::{
    body::Bytes,
    extract::{
        FromRequest as _, Request,
        multipart::{Field, Multipart, MultipartError},
    },
};

/// Violations of one file that are named at the most, where it is refused for them.
const VIOLATIONS_MAX: usize = 16;
const FILE_NAME_CHARS_MAX: usize = 255;

/// Reads the file, and hands its rows over.
pub(super) async fn read(request: Request, taking: &mut Taking) -> Result<(), ApiError> {
    let envelope = Envelope::default();
    let request = request.map(|body| bounded(body, &envelope));
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|_| ApiError::malformed("the form has no boundary"))?;
    let field = form.next_field().await.map_err(|error| broken(&error))?;
    let field = field.filter(|field| field.name() == Some("file"));
    let field = field.ok_or_else(|| ApiError::malformed("the form must have one part, file"))?;
    let name = |name: &str| name.chars().take(FILE_NAME_CHARS_MAX).collect();
    taking.job.filename = field.file_name().map(name);
    let limits = &taking.target.api.limits;
    let mut upload = Upload { field, envelope, bytes: 0, bytes_max: limits.bulk_bytes_max };
    let rows = match limits.bad_rows {
        BadRows::SkipRows => {
            rows(&mut Source::Upload(&mut upload), taking, &mut Pass::Take).await?
        }
        BadRows::RejectFile => {
            let api = &taking.target.api;
            let held = api.spools.held_by(taking.target.caller.client());
            let mut spool = Spool::new(&limits.spool, api.intake.space(), held).await?;
            let mut check = Pass::Check { violations: Vec::new() };
            let mut source = Source::Kept(&mut upload, &mut spool);
            rows(&mut source, taking, &mut check).await?;
            check.conclude()?;
            spool.rewind().await?;
            rows(&mut Source::Spool(&mut spool), taking, &mut Pass::Take).await?
        }
    };
    taking.job.file_bytes = Some(upload.bytes as u64);
    drop(upload);
    // What it would say would be lost without a word.
    if form.next_field().await.map_err(|error| broken(&error))?.is_some() {
        return Err(ApiError::malformed("the form must have one part, file"));
    }
    match rows {
        0 => Err(Refusal::field("file", "has no row").into()),
        _ => Ok(()),
    }
}

/// Goes through the rows of a source. Returns how many there are.
async fn rows(
    source: &mut Source<'_, '_>,
    taking: &mut Taking,
    pass: &mut Pass,
) -> Result<usize, ApiError> {
    let rows_max = taking.target.api.limits.bulk_rows_max;
    let mut lines = Lines::default();
    let mut rows = 0;
    loop {
        let chunk = source.chunk().await?;
        let ended = chunk.is_none();
        lines.push(chunk.as_deref().unwrap_or_default(), ended);
        while let Some((number, line)) = lines.next() {
            rows += 1;
            if rows > rows_max {
                return Err(too_many_rows(rows_max));
            }
            let update = match line {
                Line::Whole(line) => read_line(taking, number, &line),
                Line::TooLong => taking
                    .on_record(Err(Place::Line(number).refusal("is longer than any row may be"))),
            };
            pass.row(taking, number, update).await?;
        }
        if ended {
            return Ok(rows);
        }
    }
}

fn read_line(taking: &Taking, number: usize, line: &[u8]) -> Result<Update, Refusal> {
    let place = Place::Line(number);
    match serde_json::from_slice(line) {
        Ok(row) => taking.read(row, place),
        // The parser's own words may hold a value.
        Err(_) => taking.on_record(Err(place.refusal("is not JSON"))),
    }
}

/// What is done with rows as they are met.
enum Pass {
    /// They are handed over, and bad ones noted.
    Take,
    /// They are only looked at.
    Check { violations: Vec<Violation> },
}

impl Pass {
    async fn row(
        &mut self,
        taking: &mut Taking,
        number: usize,
        update: Result<Update, Refusal>,
    ) -> Result<(), ApiError> {
        let row = u32::try_from(number).unwrap_or(u32::MAX);
        match (self, update) {
            (Self::Take, Ok(update)) => taking.take(row, update).await,
            (Self::Take, Err(refusal)) => {
                taking.refuse(row, &refusal);
                Ok(())
            }
            (Self::Check { .. }, Ok(_)) => Ok(()),
            (this @ Self::Check { .. }, Err(refusal)) => this.note(refusal),
        }
    }

    fn note(&mut self, refusal: Refusal) -> Result<(), ApiError> {
        match (self, refusal) {
            (Self::Check { violations }, Refusal::Invalid(more)) => {
                violations.extend(more);
                match violations.len() >= VIOLATIONS_MAX {
                    true => Err(Refusal::Invalid(std::mem::take(violations)).into()),
                    false => Ok(()),
                }
            }
            (_, refusal) => Err(refusal.into()),
        }
    }

    fn conclude(self) -> Result<(), ApiError> {
        match self {
            Self::Check { violations } if !violations.is_empty() => {
                Err(Refusal::Invalid(violations).into())
            }
            Self::Check { .. } | Self::Take => Ok(()),
        }
    }
}

/// Where bytes of the file come from.
enum Source<'a, 'form> {
    /// The caller.
    Upload(&'a mut Upload<'form>),
    /// The caller; and they are kept.
    Kept(&'a mut Upload<'form>, &'a mut Spool),
    /// Where they were kept.
    Spool(&'a mut Spool),
}

impl Source<'_, '_> {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        match self {
            Self::Upload(upload) => upload.chunk().await,
            Self::Kept(upload, spool) => {
                let chunk = upload.chunk().await?;
                spool.keep(chunk.as_deref().unwrap_or_default()).await?;
                Ok(chunk)
            }
            Self::Spool(spool) => spool.chunk().await,
        }
    }
}

struct Upload<'form> {
    field: Field<'form>,
    envelope: Envelope,
    bytes: usize,
    bytes_max: usize,
}

impl Upload<'_> {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        let chunk = self.field.chunk().await.map_err(|error| broken(&error))?;
        self.bytes += chunk.as_ref().map_or(0, Bytes::len);
        self.envelope.opened();
        if self.bytes > self.bytes_max {
            let max = self.bytes_max;
            let message = format!("the file has more than {max} bytes (http.bulk_bytes_max)");
            return Err(ApiError::too_large(message));
        }
        Ok(chunk)
    }
}

fn broken(error: &MultipartError) -> ApiError {
    match (envelope::is_too_long(error), is_too_slow(error)) {
        (true, _) => ApiError::too_large("what the form says around its file takes too many bytes"),
        (false, true) => too_slow(),
        (false, false) => ApiError::malformed("the form cannot be read"),
    }
}

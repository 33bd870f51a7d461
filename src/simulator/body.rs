//! Reading what a client sends, strictly: what the document does not name is refused.

use axum::extract::{FromRequest, Multipart, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::jobs::{File, Submission};
use super::profiles::{Properties, Row, Subjects};
use super::refusal::Refusal;

/// What a submission may hold at most.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows_max: usize,
    pub(super) bytes_max: usize,
}

/// Reads a submission, as a JSON body or as an uploaded file.
pub(super) async fn read_submission(
    request: Request,
    subjects: Subjects,
    limits: Limits,
) -> Result<Submission, Refusal> {
    if media_type(request.headers()) == "multipart/form-data" {
        let (file, content) = read_file(request).await?;
        let rows = parse_ndjson(&content, subjects, limits)?;
        return Ok(Submission { subjects, rows, file: Some(file) });
    }
    expect_json(request.headers())?;
    let body = Bytes::from_request(request, &())
        .await
        .map_err(|_| Refusal::Malformed("the body cannot be read".to_owned()))?;
    let rows = parse_json(&body, subjects, limits)?;
    Ok(Submission { subjects, rows, file: None })
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

/// Refuses a body that does not say that it is JSON.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), Refusal> {
    if media_type(headers) == "application/json" {
        return Ok(());
    }
    Err(Refusal::Malformed("the Content-Type must be application/json".to_owned()))
}

async fn read_file(request: Request) -> Result<(File, Bytes), Refusal> {
    let malformed = |what: &str| Refusal::Malformed(format!("the form {what}"));
    let mut form =
        Multipart::from_request(request, &()).await.map_err(|_| malformed("has no boundary"))?;
    let mut found = None;
    while let Some(part) = form.next_field().await.map_err(|_| malformed("cannot be read"))? {
        if part.name() != Some("file") || found.is_some() {
            return Err(malformed("must have one part, named file"));
        }
        let name = part.file_name().map(str::to_owned);
        let content = part.bytes().await.map_err(|_| malformed("cannot be read"))?;
        found = Some((File { name, bytes: content.len() }, content));
    }
    found.ok_or_else(|| malformed("must have one part, named file"))
}

fn parse_ndjson(content: &[u8], subjects: Subjects, limits: Limits) -> Result<Vec<Row>, Refusal> {
    check_size(content, limits)?;
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    if content.is_empty() {
        return Err(Refusal::Invalid("there is no record in the file".to_owned()));
    }
    check_rows(content.iter().filter(|byte| **byte == b'\n').count() + 1, limits)?;
    let parse_line = |(nth, line): (usize, &[u8])| {
        let record = serde_json::from_slice(line)
            .map_err(|_| Refusal::Invalid(format!("line {}: must be a JSON object", nth + 1)))?;
        parse_record(record, subjects).map_err(|why| at_line(nth, &why))
    };
    content.split(|byte| *byte == b'\n').enumerate().map(parse_line).collect()
}

fn parse_json(body: &[u8], subjects: Subjects, limits: Limits) -> Result<Vec<Row>, Refusal> {
    check_size(body, limits)?;
    let key = match subjects {
        Subjects::Users => "users",
        Subjects::Companies => "companies",
    };
    let shape = || Refusal::Invalid(format!("the body must be an object of one array, {key}"));
    let mut object = parse_object(body)?;
    let Some(Value::Array(records)) = object.remove(key) else { return Err(shape()) };
    if !object.is_empty() || records.is_empty() {
        return Err(shape());
    }
    check_rows(records.len(), limits)?;
    let parse = |(nth, record)| parse_record(record, subjects).map_err(|why| at_line(nth, &why));
    records.into_iter().enumerate().map(parse).collect()
}

fn check_size(content: &[u8], limits: Limits) -> Result<(), Refusal> {
    if content.len() > limits.bytes_max {
        return Err(Refusal::TooLarge { bytes_max: limits.bytes_max });
    }
    Ok(())
}

fn check_rows(rows: usize, limits: Limits) -> Result<(), Refusal> {
    if rows > limits.rows_max {
        return Err(Refusal::TooManyRows { rows, rows_max: limits.rows_max });
    }
    Ok(())
}

fn at_line(nth: usize, why: &str) -> Refusal {
    Refusal::Invalid(format!("line {}: {why}", nth + 1))
}

fn parse_object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refusal::Invalid("the body must be a JSON object".to_owned())),
        Err(_) => Err(Refusal::Malformed("the body is not JSON".to_owned())),
    }
}

/// A row of a submission; why it cannot be one, otherwise.
fn parse_record(record: Value, subjects: Subjects) -> Result<Row, String> {
    let Value::Object(mut record) = record else { return Err("must be a JSON object".to_owned()) };
    let row = match subjects {
        Subjects::Users => Row {
            subject: take_text(&mut record, "user_id")?,
            company_id: take_optional_text(&mut record, "company_id")?,
            metadata: take_metadata(&mut record)?,
        },
        Subjects::Companies => Row {
            subject: take_text(&mut record, "company_id")?,
            company_id: None,
            metadata: take_metadata(&mut record)?,
        },
    };
    expect_nothing_else(&record)?;
    Ok(row)
}

/// The rows of `POST /v1/identify`: the user, and the company if one is given.
pub(super) fn parse_identify(body: &[u8]) -> Result<Vec<(Subjects, Row)>, Refusal> {
    let mut object = parse_object(body)?;
    let mut parse = || {
        let subject = take_text(&mut object, "user_id")?;
        let metadata = take_metadata(&mut object)?;
        let company = take_company(&mut object)?;
        expect_nothing_else(&object)?;
        let company_id = company.as_ref().map(|company| company.subject.clone());
        let user = (Subjects::Users, Row { subject, company_id, metadata });
        Ok(company.into_iter().map(|row| (Subjects::Companies, row)).chain([user]).collect())
    };
    parse().map_err(Refusal::Invalid)
}

/// The row of `POST /v1/companies/identify`.
pub(super) fn parse_company_identify(body: &[u8]) -> Result<Vec<(Subjects, Row)>, Refusal> {
    let record = Value::Object(parse_object(body)?);
    let row = parse_record(record, Subjects::Companies).map_err(Refusal::Invalid)?;
    Ok(vec![(Subjects::Companies, row)])
}

/// Checks the body of `POST /v1/track`.
pub(super) fn parse_track(body: &[u8]) -> Result<(), Refusal> {
    let mut object = parse_object(body)?;
    let mut parse = || {
        take_text(&mut object, "user_id")?;
        take_text(&mut object, "event_name")?;
        take_metadata(&mut object)?;
        expect_nothing_else(&object)
    };
    parse().map_err(Refusal::Invalid)
}

/// The document names the key `id` in one place and `company_id` in another: either will do,
/// and both will do if they agree. Every other key is a property of the company.
fn take_company(object: &mut Map<String, Value>) -> Result<Option<Row>, String> {
    let Some(company) = object.remove("company") else { return Ok(None) };
    let Value::Object(mut company) = company else {
        return Err("company must be an object".to_owned());
    };
    let id = take_optional_text(&mut company, "id")?;
    let company_id = take_optional_text(&mut company, "company_id")?;
    if id.is_some() && company_id.is_some() && id != company_id {
        return Err("company.id and company.company_id must agree".to_owned());
    }
    let subject = id.or(company_id).ok_or("company.id must be a non-empty string")?;
    let metadata = primitives("company", company)?;
    Ok(Some(Row { subject, company_id: None, metadata }))
}

fn take_text(object: &mut Map<String, Value>, key: &str) -> Result<String, String> {
    take_optional_text(object, key)?.ok_or_else(|| format!("{key} must be a non-empty string"))
}

fn take_optional_text(
    object: &mut Map<String, Value>,
    key: &str,
) -> Result<Option<String>, String> {
    match object.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(format!("{key} must be a non-empty string")),
    }
}

fn take_metadata(object: &mut Map<String, Value>) -> Result<Properties, String> {
    match object.remove("metadata") {
        None => Ok(Properties::new()),
        Some(Value::Object(metadata)) => primitives("metadata", metadata),
        Some(_) => Err("metadata must be an object".to_owned()),
    }
}

fn primitives(within: &str, values: Map<String, Value>) -> Result<Properties, String> {
    let compound = values.iter().find(|(_, value)| value.is_array() || value.is_object());
    match compound {
        Some((key, _)) => Err(format!("{within}.{key} must be a string, number, boolean or null")),
        None => Ok(values.into_iter().collect()),
    }
}

fn expect_nothing_else(object: &Map<String, Value>) -> Result<(), String> {
    match object.keys().next() {
        Some(key) => Err(format!("{key} is not a known field")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

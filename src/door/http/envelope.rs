//! What a form says around its file: bounded, since whoever takes the form apart holds all of it in
//! memory until the next boundary, or the end of a part's headers, has come.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::{
    BoxError,
    body::{Body, BodyDataStream, Bytes},
};
use futures_util::Stream;

/// How much may come without that any of it is the file's. One chunk more may be held.
const ENVELOPE_BYTES_MAX: usize = 32 << 10;

/// What has come of a form since its file last got on.
#[derive(Clone, Debug, Default)]
pub(super) struct Envelope(Arc<AtomicUsize>);

impl Envelope {
    /// The file has got on: what came until now was for that.
    pub(super) fn opened(&self) {
        self.0.store(0, Relaxed);
    }
}

/// What stands around the file takes more than it may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the form's envelope is too long")]
struct TooLong;

/// Whether a form was broken off for that, whoever passed the error on.
pub(super) fn is_too_long(error: &(dyn std::error::Error + 'static)) -> bool {
    super::request::has_cause::<TooLong>(error)
}

/// The body of a form, broken off where its envelope is too long.
pub(super) fn bounded(body: Body, envelope: &Envelope) -> Body {
    let (envelope, pause) = (envelope.clone(), false);
    Body::from_stream(Bounded { body: body.into_data_stream(), envelope, pause })
}

struct Bounded {
    body: BodyDataStream,
    envelope: Envelope,
    /// Who takes the form apart asks for as long as there is something, and holds it. So after each
    /// chunk there is nothing for once: then it looks at what it has.
    pause: bool,
}

impl Stream for Bounded {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BoxError>>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.envelope.0.load(Relaxed) > ENVELOPE_BYTES_MAX {
            return Poll::Ready(Some(Err(TooLong.into())));
        }
        let polled = Pin::new(&mut self.body).poll_next(context);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.envelope.0.fetch_add(chunk.len(), Relaxed);
            self.pause = true;
        }
        polled.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        extract::{FromRequest as _, Multipart, Request},
        http::header,
    };
    use futures_util::stream;

    use super::*;

    const CHUNK: usize = 8 << 10;

    /// What becomes of a form that begins so, and then goes on for ever, always there at once; and
    /// how much of it was asked for.
    async fn taken_apart(beginning: &'static str, on: &'static [u8]) -> (bool, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let more = stream::repeat_with({
            let asked = asked.clone();
            move || {
                asked.fetch_add(CHUNK, Relaxed);
                Ok::<_, BoxError>(Bytes::from(on.repeat(CHUNK / on.len())))
            }
        });
        let start = stream::iter([Ok::<_, BoxError>(Bytes::from_static(beginning.as_bytes()))]);
        // What is not bounded at all ends, too, some day.
        let body =
            futures_util::StreamExt::take(futures_util::StreamExt::chain(start, more), 4_096);
        let envelope = Envelope::default();
        let request =
            Request::builder().header(header::CONTENT_TYPE, "multipart/form-data; boundary=b");
        let request = request.body(bounded(Body::from_stream(body), &envelope)).unwrap();
        let mut form = Multipart::from_request(request, &()).await.unwrap();
        let ended = async {
            while let Some(mut field) = form.next_field().await? {
                while field.chunk().await?.is_some() {
                    envelope.opened();
                    if asked.load(Relaxed) > 64 * CHUNK {
                        return Ok(());
                    }
                }
            }
            Ok::<(), axum::extract::multipart::MultipartError>(())
        };
        let refused = ended.await.is_err_and(|error| is_too_long(&error));
        (refused, asked.load(Relaxed))
    }

    #[tokio::test]
    async fn what_stands_around_the_file_is_not_held_without_end() {
        let part = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n";
        for (beginning, on) in
            [("", &b"junk"[..]), ("--b", b" "), (part, b"x-a: b\r\n"), ("--b\r\n", b"x")]
        {
            let (refused, asked) = taken_apart(beginning, on).await;
            assert!(refused, "{beginning:?}");
            assert!(asked <= ENVELOPE_BYTES_MAX + 2 * CHUNK, "{beginning:?}: {asked} bytes");
        }
    }

    #[tokio::test]
    async fn a_file_that_gets_on_may_go_on() {
        let part = "--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n";
        let (refused, asked) = taken_apart(part, b"{}\n\n").await;
        assert!(!refused && asked > 64 * CHUNK, "{asked} bytes");
    }
}

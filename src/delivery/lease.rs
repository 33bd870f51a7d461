//! Whether an app may be delivered here, where several gateways might: nothing is asked of upstream
//! without the app's lease, and what is being asked when it ends is given up.

use std::{future::poll_fn, pin::pin, task::Poll};

use tokio::sync::watch;

use crate::{
    clock,
    domain::{
        batch::Batch,
        lease::Held,
        update::SubjectKind,
        verdict::{Failure, FailureKind, Identified, Jobs, Poll as Polled, Submission},
    },
    upstream::Upstream,
};

/// One lease, for who delivers under it. Clones are of the same.
#[derive(Clone, Debug)]
pub struct LeaseWatch(Option<Watched>);

#[derive(Clone, Debug)]
struct Watched {
    token: u64,
    held: watch::Receiver<Option<Held>>,
}

impl LeaseWatch {
    /// Where nobody else could deliver.
    pub fn needless() -> Self {
        Self(None)
    }

    /// The lease with this token, as long as it is among what is `held`.
    pub fn new(token: u64, held: watch::Receiver<Option<Held>>) -> Self {
        Self(Some(Watched { token, held }))
    }

    /// Whether anything may be asked of upstream now.
    pub fn may_ask(&self) -> bool {
        let Some(Watched { token, held }) = &self.0 else { return true };
        let held = *held.borrow();
        held.is_some_and(|held| held.token == *token && held.may_ask(clock::instant()))
    }

    /// Ends once nothing may be asked any more.
    pub async fn lost(&self) {
        let Some(Watched { held, .. }) = &self.0 else { return std::future::pending().await };
        let mut held = held.clone();
        while self.may_ask() {
            let until = held.borrow_and_update().map(|held| held.valid_until);
            tokio::select! {
                changed = held.changed() => if changed.is_err() {
                    return;
                },
                () = clock::sleep_until(until) => {}
            }
        }
    }

    /// What `asked` comes to, unless the lease ends first. A process that was stopped for longer
    /// than that finds out before anything else goes on.
    async fn during<T>(&self, asked: impl Future<Output = T>) -> Option<T> {
        let (mut asked, mut lost) = (pin!(asked), pin!(self.lost()));
        poll_fn(|cx| {
            if !self.may_ask() || lost.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            asked.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Upstream, as long as a lease is held.
#[derive(Clone, Debug)]
pub struct Leased<U> {
    /// Upstream.
    pub upstream: U,
    /// The lease.
    pub lease: LeaseWatch,
}

impl<U: Upstream> Leased<U> {
    async fn ask<T: Send>(
        &self,
        asked: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        if !self.lease.may_ask() {
            return Err(lost(FailureKind::NotSent));
        }
        let answer = self.lease.during(asked).await;
        answer.unwrap_or_else(|| Err(lost(FailureKind::Unknown)))
    }
}

fn lost(kind: FailureKind) -> Failure {
    let cause = "the app is another replica's to deliver".to_owned();
    Failure { kind, detail: cause.clone(), cause, request_id: None }
}

impl<U: Upstream> Upstream for Leased<U> {
    async fn submit(&self, batch: &Batch, upload: Vec<u8>) -> Submission {
        self.ask(self.upstream.submit(batch, upload)).await
    }

    async fn job(&self, job_id: &str) -> Polled {
        self.ask(self.upstream.job(job_id)).await
    }

    async fn jobs(&self) -> Jobs {
        self.ask(self.upstream.jobs()).await
    }

    async fn identify(&self, kind: SubjectKind, body: Vec<u8>) -> Identified {
        self.ask(self.upstream.identify(kind, body)).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering::Relaxed},
        time::Duration,
    };

    use super::*;
    use crate::domain::verdict::AcceptedJob;

    /// One that never answers, and counts what is asked.
    #[derive(Default)]
    struct Silent(AtomicU32);

    impl Silent {
        async fn asked<T>(&self) -> T {
            self.0.fetch_add(1, Relaxed);
            std::future::pending().await
        }
    }

    impl Upstream for &Silent {
        async fn submit(&self, _: &Batch, _: Vec<u8>) -> Result<AcceptedJob, Failure> {
            self.asked().await
        }

        async fn job(&self, _: &str) -> Polled {
            self.asked().await
        }

        async fn jobs(&self) -> Jobs {
            self.asked().await
        }

        async fn identify(&self, _: SubjectKind, _: Vec<u8>) -> Identified {
            self.asked().await
        }
    }

    fn held(token: u64, for_ms: u64) -> Option<Held> {
        let valid_until = clock::instant().plus(Duration::from_millis(for_ms));
        Some(Held { token, valid_until })
    }

    #[tokio::test]
    async fn nothing_is_asked_without_the_lease_and_what_is_asked_ends_with_it() {
        let silent = Silent::default();
        let (holder, watcher) = watch::channel(held(3, 0));
        let leased = Leased { upstream: &silent, lease: LeaseWatch::new(3, watcher) };
        let ended = leased.jobs().await.unwrap_err();
        assert_eq!((ended.kind, silent.0.load(Relaxed)), (FailureKind::NotSent, 0));
        // It has ended by its own clock.
        holder.send_replace(held(3, 30));
        let ended = leased.jobs().await.unwrap_err();
        assert_eq!((ended.kind, silent.0.load(Relaxed)), (FailureKind::Unknown, 1));
        // It is prolonged, and then another one is held in its place.
        holder.send_replace(held(3, 60_000));
        let asking = leased.job("j");
        let taken = async {
            tokio::task::yield_now().await;
            holder.send_replace(held(3, 70_000));
            tokio::task::yield_now().await;
            holder.send_replace(held(4, 60_000));
        };
        let (answer, ()) = tokio::join!(asking, taken);
        assert_eq!(answer.unwrap_err().kind, FailureKind::Unknown);
        assert!(!leased.lease.may_ask());
        leased.lease.lost().await;
        assert!(LeaseWatch::needless().may_ask());
    }
}

//! Keys of virtual jobs: `j` and `k`, both by app, client and number, which is descending.

use std::ops::RangeInclusive;

use super::{below, of_app};
use crate::domain::update::{AppId, ClientId};

/// A virtual job's name in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// The app that its rows are of.
    pub app: AppId,
    /// Who sent them, and may ask.
    pub client: ClientId,
    /// Rises from job to job.
    pub number: u64,
}

/// A job. Later ones of the same client come first.
pub(crate) fn job(id: JobId) -> Vec<u8> {
    of_job(b'j', id)
}

/// The jobs of one client in an app, newest first.
pub(crate) fn jobs_of(app: AppId, client: ClientId) -> RangeInclusive<Vec<u8>> {
    let id = |number| JobId { app, client, number };
    job(id(u64::MAX))..=job(id(0))
}

/// All jobs, from a key on.
pub(crate) fn all_jobs(from: Option<Vec<u8>>) -> RangeInclusive<Vec<u8>> {
    let (start, end) = below(b"j").into_inner();
    from.unwrap_or(start)..=end
}

/// All jobs of an app.
pub(crate) fn all_of_app(app: AppId) -> RangeInclusive<Vec<u8>> {
    below(&of_app(b'j', app))
}

/// All pages of the jobs of an app.
pub(crate) fn all_pages_of_app(app: AppId) -> RangeInclusive<Vec<u8>> {
    below(&of_app(b'k', app))
}

/// A page of a job's rows that are not final yet.
pub(crate) fn job_page(id: JobId, page: u32) -> Vec<u8> {
    let mut key = of_job(b'k', id);
    key.extend(page.to_be_bytes());
    key
}

/// All pages of a job.
pub(crate) fn job_pages(id: JobId) -> RangeInclusive<Vec<u8>> {
    job_page(id, 0)..=job_page(id, u32::MAX)
}

/// The job of a key of kind `j` or `k`.
pub(crate) fn job_of(key: &[u8]) -> Option<JobId> {
    let (app, rest) = key.get(1..)?.split_first_chunk()?;
    let (client, rest) = rest.split_first_chunk()?;
    let number = rest.first_chunk()?;
    Some(JobId {
        app: AppId(u16::from_be_bytes(*app)),
        client: ClientId(u16::from_be_bytes(*client)),
        number: u64::MAX - u64::from_be_bytes(*number),
    })
}

/// The page that a key of kind `k` names.
pub(crate) fn page_of(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|page| u32::from_be_bytes(*page))
}

fn of_job(kind: u8, id: JobId) -> Vec<u8> {
    let mut key = of_app(kind, id.app);
    key.extend(id.client.0.to_be_bytes());
    key.extend((u64::MAX - id.number).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_job_reads_back_from_its_keys_and_later_ones_come_first(
            (app, client, a, b) in any::<(u16, u16, u64, u64)>(),
            page in any::<u32>(),
        ) {
            let id = |number| JobId { app: AppId(app), client: ClientId(client), number };
            prop_assert_eq!(job_of(&job(id(a))), Some(id(a)));
            let key = job_page(id(a), page);
            prop_assert_eq!((job_of(&key), page_of(&key)), (Some(id(a)), Some(page)));
            prop_assert_eq!(job(id(a)).cmp(&job(id(b))), b.cmp(&a));
            prop_assert_eq!(job_pages(id(b)).contains(&key), a == b);
            prop_assert!(jobs_of(AppId(app), ClientId(client)).contains(&job(id(a))));
            prop_assert!(!jobs_of(AppId(app), ClientId(!client)).contains(&job(id(a))));
            prop_assert!(all_jobs(None).contains(&job(id(a))));
        }
    }
}

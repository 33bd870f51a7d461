//! Whether the queue takes an update: everything has a limit.

/// How much may wait, in one app's queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Pending records.
    pub records_max: u64,
    /// Bytes of pending records, as stored.
    pub bytes_max: u64,
    /// Bytes of one record.
    pub record_bytes_max: usize,
    /// Properties of one record.
    pub record_properties_max: usize,
}

/// What waits in one app's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Pending records.
    pub records: u64,
    /// Bytes of pending records, as stored.
    pub bytes: u64,
}

/// Why the queue does not take an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueRefusal {
    /// As many records wait as may.
    TooManyRecords,
    /// As many bytes wait as may.
    TooManyBytes,
    /// As many records of the client's own wait as may.
    TooManyOfClient,
    /// Merged with what waits and what is in flight, the subject's record would be over its
    /// limit.
    RecordTooLarge,
    /// What the store holds of the app is damaged, so that nothing can be stored for it.
    AppHeld,
    /// There is no way to the store now. Nothing was stored.
    StoreAway,
}

/// Decides about an update of a subject of which nothing waits. `Ok` means take it.
pub fn admit_new(depth: Depth, limits: &QueueLimits) -> Result<(), QueueRefusal> {
    if depth.records >= limits.records_max {
        Err(QueueRefusal::TooManyRecords)
    } else if depth.bytes >= limits.bytes_max {
        Err(QueueRefusal::TooManyBytes)
    } else {
        Ok(())
    }
}

/// Decides about an update of a client of whose own `waiting` records wait, if it would make
/// another. `max` is what the client may have, where it has a limit.
pub fn admit_of_client(waiting: u64, max: Option<u64>) -> Result<(), QueueRefusal> {
    match max {
        Some(max) if waiting >= max => Err(QueueRefusal::TooManyOfClient),
        Some(_) | None => Ok(()),
    }
}

/// Decides about an update that makes its subject's record one of `bytes` and `properties`:
/// merged with what waits, and with what is in flight and may come back. Where something
/// waits it does not lengthen the queue, so a full queue still takes it.
pub fn admit_merged(
    bytes: usize,
    properties: usize,
    limits: &QueueLimits,
) -> Result<(), QueueRefusal> {
    if bytes > limits.record_bytes_max || properties > limits.record_properties_max {
        Err(QueueRefusal::RecordTooLarge)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits = QueueLimits {
        records_max: 2,
        bytes_max: 100,
        record_bytes_max: 10,
        record_properties_max: 3,
    };

    #[test]
    fn a_full_queue_refuses_new_subjects() {
        assert_eq!(admit_new(Depth { records: 1, bytes: 99 }, &LIMITS), Ok(()));
        let full = Depth { records: 2, bytes: 0 };
        assert_eq!(admit_new(full, &LIMITS), Err(QueueRefusal::TooManyRecords));
        let heavy = Depth { records: 1, bytes: 100 };
        assert_eq!(admit_new(heavy, &LIMITS), Err(QueueRefusal::TooManyBytes));
    }

    #[test]
    fn a_client_has_as_many_of_its_own_as_it_may_and_no_more() {
        assert_eq!(admit_of_client(1, Some(2)), Ok(()));
        assert_eq!(admit_of_client(2, Some(2)), Err(QueueRefusal::TooManyOfClient));
        assert_eq!(admit_of_client(3, Some(2)), Err(QueueRefusal::TooManyOfClient));
        assert_eq!(admit_of_client(u64::MAX, None), Ok(()));
    }

    #[test]
    fn a_merged_record_stays_within_the_limits_of_one() {
        assert_eq!(admit_merged(10, 3, &LIMITS), Ok(()));
        assert_eq!(admit_merged(11, 3, &LIMITS), Err(QueueRefusal::RecordTooLarge));
        assert_eq!(admit_merged(10, 4, &LIMITS), Err(QueueRefusal::RecordTooLarge));
    }
}

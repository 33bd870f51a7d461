//! What the requests that are under way hold together: bytes in memory, and bytes of files on disk.
//! No configured client has more than its part of it, so that one that is slow, or slowed down,
//! does not keep the others out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{domain::update::ClientId, door::caller::Client};

/// What there is for all requests.
pub struct Room {
    all: Arc<Semaphore>,
    of_client_max: usize,
    of_clients: Mutex<BTreeMap<ClientId, Arc<Semaphore>>>,
}

/// There is no more of it, for anybody or for this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Room {
    /// So many bytes, half of them for one client, but room for one request of `request_bytes_max`
    /// in any case.
    pub fn new(bytes_max: usize, request_bytes_max: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bytes_max)),
            of_client_max: half(bytes_max).max(request_bytes_max),
            of_clients: Mutex::default(),
        }
    }

    /// How many bytes are free.
    #[cfg(any(test, fuzzing))]
    pub(super) fn free(&self) -> usize {
        self.all.available_permits()
    }

    /// What one request of a client's holds of it: nothing yet.
    pub(super) fn held_by(&self, client: &Client) -> Held {
        let of_client = client.is_configured.then(|| {
            let mut clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
            let semaphore = || Arc::new(Semaphore::new(self.of_client_max));
            clients.entry(client.id).or_insert_with(semaphore).clone()
        });
        let from = [Some(self.all.clone()), of_client].into_iter().flatten();
        Held { parts: from.map(|from| Part { from, permit: None }).collect() }
    }
}

/// The part of a limit that one client may have, where there are clients.
pub(super) fn half(max: usize) -> usize {
    max.div_ceil(2)
}

/// What a request holds. It is free again once this is dropped.
pub(super) struct Held {
    parts: Vec<Part>,
}

struct Part {
    from: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Takes more.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let count = u32::try_from(bytes).map_err(|_| NoRoom)?;
        for part in &mut self.parts {
            // What the first gave and the second refuses goes back with the request, which ends.
            let more = part.from.clone().try_acquire_many_owned(count).map_err(|_| NoRoom)?;
            match &mut part.permit {
                Some(permit) => permit.merge(more),
                None => part.permit = Some(more),
            }
        }
        Ok(())
    }

    /// Gives so much back.
    pub(super) fn give_back(&mut self, bytes: usize) {
        for permit in self.parts.iter_mut().filter_map(|part| part.permit.as_mut()) {
            drop(permit.split(bytes));
        }
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        let permit = self.parts.first().and_then(|part| part.permit.as_ref());
        permit.map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u16) -> Client {
        Client { id: ClientId(id), is_configured: true, ..Client::default() }
    }

    #[test]
    fn one_client_leaves_room_for_another() {
        let room = Room::new(100, 10);
        let (mut one, mut same) = (room.held_by(&client(1)), room.held_by(&client(1)));
        assert_eq!((one.take(30), same.take(20)), (Ok(()), Ok(())));
        assert_eq!(same.take(1), Err(NoRoom));
        let mut other = room.held_by(&client(2));
        assert_eq!(other.take(49), Ok(()));
        one.give_back(10);
        assert_eq!((one.bytes(), same.take(1)), (20, Ok(())));
        drop((one, same));
        assert_eq!(room.held_by(&client(1)).take(50), Ok(()));
    }

    #[test]
    fn all_have_no_more_than_there_is() {
        let room = Room::new(100, 100);
        let mut one = room.held_by(&client(1));
        assert_eq!((one.take(100), one.bytes()), (Ok(()), 100));
        assert_eq!(room.held_by(&client(2)).take(1), Err(NoRoom));
    }

    #[test]
    fn whoever_calls_without_a_credential_is_not_one_client() {
        let room = Room::new(100, 10);
        assert_eq!(room.held_by(&Client::default()).take(100), Ok(()));
    }
}

//! What holds of leases, as whoever looks at the store past all that gets in the way sees them.

use std::{collections::BTreeMap, sync::PoisonError};

use userpilot_gateway::{
    domain::{
        lease::{Lease, ReplicaId},
        update::AppId,
    },
    store::{
        check::check,
        engine::MemoryEngine,
        queue::{Queue, Reads},
    },
};

use super::{scenario::FleetScenario, world::World};
use crate::process::{STORE, at_once};

/// Who looks.
pub(crate) struct Observer {
    queue: Queue<MemoryEngine>,
    pub(crate) reads: Reads<MemoryEngine>,
    apps: Vec<AppId>,
    leases: BTreeMap<AppId, Lease>,
}

impl Observer {
    /// It makes the store, and numbers what has a name.
    pub(crate) fn new(engine: MemoryEngine, scenario: &FleetScenario) -> (Self, Vec<AppId>) {
        let queue = Queue::open(engine.clone(), scenario.base.queue, STORE);
        let mut queue = at_once(queue).expect("it is new");
        let names = (0..scenario.apps).map(name_of);
        let apps = names.map(|name| at_once(queue.app(&name)).expect("it is new"));
        let apps: Vec<AppId> = apps.collect();
        at_once(queue.client("crm")).expect("it is new");
        let leases = BTreeMap::new();
        let observer = Self { queue, reads: Reads::new(engine), apps: apps.clone(), leases };
        (observer, apps)
    }

    fn lease(&self, app: AppId) -> Lease {
        let mut look = at_once(self.queue.look_at_leases(&[app])).expect("it is in memory");
        look.leases.remove(&app).unwrap_or_default()
    }
}

/// What an app is called.
pub(crate) fn name_of(app: usize) -> String {
    format!("app-{app}")
}

/// Tokens rise with every holder, and nobody takes a lease that another has.
pub(crate) fn look_at_leases(world: &World) {
    let now = world.store_time();
    let mut observer = world.observer.lock().unwrap_or_else(PoisonError::into_inner);
    for app in observer.apps.clone() {
        let lease = observer.lease(app);
        let Some(before) = observer.leases.insert(app, lease.clone()) else { continue };
        if lease.token < before.token {
            world.break_with(format!("token {} of {app:?} after {}", lease.token, before.token));
        }
        let is_new = lease.holder.is_some() && lease.holder != before.holder;
        if is_new && lease.token == before.token {
            world.break_with(format!("two holders of {app:?} with token {}", lease.token));
        }
        if is_new && before.is_held(now) {
            world.break_with(format!("{lease:?} is taken, and {before:?} was held"));
        }
    }
}

/// A request leaves: whoever sends it has the lease.
pub(crate) fn look_at_sender(world: &World, (app, me, token): (usize, ReplicaId, u64), asks: &str) {
    let now = world.store_time();
    let observer = world.observer.lock().unwrap_or_else(PoisonError::into_inner);
    let lease = observer.lease(world.apps[app]);
    drop(observer);
    if lease.holder != Some(me) || lease.token != token || !lease.is_held(now) {
        world.break_with(format!("{asks} under token {token} of {me:?}, while there is {lease:?}"));
    }
}

/// How many records wait, and are in flight.
pub(crate) fn left_to_do(world: &World) -> usize {
    let unfinished = [b'r', b'f'];
    let keys = world.engine.keys();
    keys.iter().filter(|key| key.first().is_some_and(|kind| unfinished.contains(kind))).count()
}

/// Once all is delivered, what is counted is what is there.
pub(crate) fn look_at_counts(world: &World) -> Result<(), String> {
    let mut observer = world.observer.lock().unwrap_or_else(PoisonError::into_inner);
    let apps = observer.apps.clone();
    at_once(observer.queue.refresh(&apps)).map_err(|error| error.to_string())?;
    for app in apps {
        let depth = observer.queue.depth(app);
        let counts = (depth.records, depth.bytes, depth.bulk_records, depth.company_records);
        if counts != (0, 0, 0, 0) || (depth.express_records, depth.express_in_flight) != (0, 0) {
            return Err(format!("nothing waits, and {depth:?} is counted"));
        }
    }
    let findings = at_once(check(&world.engine)).map_err(|error| error.to_string())?;
    match findings.problems.first() {
        Some(problem) => Err(format!("a check of the store says {problem:?}")),
        None => Ok(()),
    }
}

//! How an operator reaches a driver, and sees what it does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Mutex, mpsc, watch};

use super::told::Told;
use crate::{
    clock,
    domain::lifecycle::{Activity, View},
};

/// What an operator, or who acts for one, asks of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Pause or resume. Is durable already.
    Pause(bool),
    /// Flush now.
    Flush,
    /// The next request bears another API key.
    KeyChanged,
}

/// Where an app is delivered.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Place {
    /// By this gateway.
    #[default]
    Here,
    /// By another one that shares the store, which tells this of it.
    Elsewhere(Box<Told>),
    /// By none, for now.
    Nowhere,
}

/// How an operator reaches a driver, and sees what it does.
#[derive(Clone, Debug)]
pub struct Operator {
    operations: mpsc::Sender<Operation>,
    /// The driver of the app's express lane, where it has one.
    express: Option<mpsc::Sender<Operation>>,
    view: watch::Receiver<View>,
    place: watch::Receiver<Place>,
    pause: Arc<Pause>,
}

/// What one driver after the other listens to, and shows itself by.
#[derive(Clone, Debug)]
pub struct Ports {
    /// What is asked of the driver. Whoever drives holds it.
    pub(super) operations: Listener,
    /// What is asked of the express lane's.
    pub(super) express: Option<Listener>,
    pub(super) view: watch::Sender<View>,
    place: watch::Sender<Place>,
    pause: Arc<Pause>,
}

pub(super) type Listener = Arc<Mutex<mpsc::Receiver<Operation>>>;

/// Whether the app is paused by what is durable: a driver that uploads hears of it only afterwards.
#[derive(Debug, Default)]
struct Pause {
    paused: AtomicBool,
    /// How often it was changed from here.
    changes: AtomicU64,
    /// Who changes it: one after the other, so that drivers hear of it in the order of the store.
    turn: Mutex<()>,
}

/// Operations are rare, and the driver may be busy with an upload meanwhile.
const OPERATIONS_MAX: usize = 16;

impl Operator {
    /// Reaches the drivers of an app, one after the other; those of its express lane as well, where
    /// it has one.
    pub fn new(has_express: bool) -> (Self, Ports) {
        let ((view, viewer), (place, placed)) =
            (watch::channel(View::default()), watch::channel(Place::default()));
        let listen = || {
            let (sender, listener) = mpsc::channel(OPERATIONS_MAX);
            (sender, Arc::new(Mutex::new(listener)))
        };
        let (operations, listener) = listen();
        let (express, express_listener) = has_express.then(listen).unzip();
        let pause = Arc::<Pause>::default();
        let operator =
            Self { operations, express, view: viewer, place: placed, pause: pause.clone() };
        let ports = Ports { operations: listener, express: express_listener, view, place, pause };
        (operator, ports)
    }

    /// Asks something. Has no effect once the driver has ended.
    pub async fn ask(&self, operation: Operation) {
        self.operations.send(operation).await.ok();
        if let Some(express) = &self.express {
            express.send(operation).await.ok();
        }
    }

    /// The same without waiting for a driver that is busy. Whether it was asked.
    pub fn ask_at_once(&self, operation: Operation) -> bool {
        let Ok(place) = self.operations.try_reserve() else { return false };
        match self.express.as_ref().map(mpsc::Sender::try_reserve) {
            Some(Err(_)) => return false,
            Some(Ok(place)) => place.send(operation),
            None => {}
        }
        place.send(operation);
        true
    }

    /// Pauses or resumes the app: makes it durable by `store`, and then tells the drivers. It is
    /// seen from then on, also while a driver is busy.
    ///
    /// # Errors
    ///
    /// Those of `store`: nothing is told then.
    pub async fn pause<E>(
        &self,
        paused: bool,
        store: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let _turn = self.pause.turn.lock().await;
        store.await?;
        self.pause.paused.store(paused, Ordering::Relaxed);
        self.pause.changes.fetch_add(1, Ordering::Relaxed);
        self.ask(Operation::Pause(paused)).await;
        Ok(())
    }

    /// How often the app was paused or resumed from here.
    pub fn pauses(&self) -> u64 {
        self.pause.changes.load(Ordering::Relaxed)
    }

    /// The app was found paused, or not, after so many pauses from here: another gateway's operator
    /// may have done it. What has been changed from here since is newer. So is what is being changed.
    pub fn find_paused(&self, paused: bool, pauses: u64) {
        let Ok(_turn) = self.pause.turn.try_lock() else { return };
        let standing = &self.pause.paused;
        let is_news = self.pauses() == pauses && standing.load(Ordering::Relaxed) != paused;
        if is_news && self.ask_at_once(Operation::Pause(paused)) {
            standing.store(paused, Ordering::Relaxed);
        }
    }

    /// Where the app is delivered.
    pub fn place(&self) -> Place {
        self.place.borrow().clone()
    }

    /// What the driver is doing, as far as that is known.
    pub fn view(&self) -> View {
        let paused = self.pause.paused.load(Ordering::Relaxed);
        let view = match &*self.place.borrow() {
            Place::Here => self.view.borrow().clone(),
            Place::Elsewhere(told) => told.view(clock::now()),
            Place::Nowhere => View::default(),
        };
        View { paused, ..view }
    }
}

impl Ports {
    /// A driver begins, which shows this first.
    pub(super) fn begin(&self, view: View) {
        self.pause.paused.store(view.paused, Ordering::Relaxed);
        self.view.send_replace(view);
    }

    /// Nothing can be done for the app: this is shown instead of a driver.
    pub fn hold(&self, reason: String) {
        let held = Some(reason);
        self.view.send_replace(View { activity: Activity::Halted, held, ..View::default() });
    }

    /// What its driver shows, or has shown last.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// From now on it is known to be delivered there.
    pub fn place(&self, place: Place) {
        self.place.send_if_modified(|standing| {
            let changes = *standing != place;
            *standing = place;
            changes
        });
    }

    /// Hears what is asked while there is no driver, for ever. It is of no use then: what is durable
    /// the next driver finds.
    pub async fn idle(&self) -> std::convert::Infallible {
        let mut operations = self.operations.lock().await;
        match &self.express {
            None => while operations.recv().await.is_some() {},
            Some(express) => {
                let mut express = express.lock().await;
                loop {
                    tokio::select! {
                        Some(_) = operations.recv() => {}
                        Some(_) = express.recv() => {}
                        else => break,
                    }
                }
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_is_seen_before_a_busy_driver_hears_of_it() {
        // Nobody listens yet, as a driver that uploads.
        let (operator, ports) = Operator::new(false);
        let mut listener = ports.operations.lock().await;
        let seen_by_another = operator.clone();
        operator.pause(true, async { Ok::<_, ()>(()) }).await.unwrap();
        assert!(seen_by_another.view().paused);
        assert_eq!(listener.recv().await, Some(Operation::Pause(true)));
        operator.pause(false, async { Ok::<_, ()>(()) }).await.unwrap();
        assert!(!operator.view().paused);
    }

    #[tokio::test]
    async fn a_pause_that_is_not_durable_is_not_told() {
        let (operator, ports) = Operator::new(false);
        let mut listener = ports.operations.lock().await;
        assert_eq!(operator.pause(true, async { Err("closed") }).await, Err("closed"));
        assert!(!operator.view().paused);
        assert!(listener.try_recv().is_err());
    }

    #[tokio::test]
    async fn drivers_hear_in_the_order_of_the_store() {
        let (operator, ports) = Operator::new(false);
        let mut listener = ports.operations.lock().await;
        let (stored, wait) = tokio::sync::oneshot::channel::<()>();
        let slow = operator.pause(true, async { wait.await.map_err(drop) });
        let quick = operator.pause(false, async { Ok::<_, ()>(()) });
        let release = async {
            tokio::task::yield_now().await;
            stored.send(()).map_err(drop)
        };
        // The first one has begun when the second comes.
        let (first, second, released) = tokio::join!(biased; slow, quick, release);
        assert_eq!((first, second, released), (Ok(()), Ok(()), Ok(())));
        assert_eq!(listener.recv().await, Some(Operation::Pause(true)));
        assert_eq!(listener.recv().await, Some(Operation::Pause(false)));
        assert!(!operator.view().paused);
    }

    #[tokio::test]
    async fn a_pause_that_another_gateway_made_is_found_unless_it_is_old_news() {
        let (operator, ports) = Operator::new(true);
        let mut listener = ports.operations.lock().await;
        let before = operator.pauses();
        operator.find_paused(true, before);
        operator.find_paused(true, before);
        assert!(operator.view().paused);
        assert_eq!(listener.recv().await, Some(Operation::Pause(true)));
        assert!(listener.try_recv().is_err(), "it is told once");
        // What was read before the last change from here is not taken for news.
        operator.pause(false, async { Ok::<_, ()>(()) }).await.unwrap();
        operator.find_paused(true, before);
        assert!(!operator.view().paused);
        operator.find_paused(true, operator.pauses());
        assert!(operator.view().paused);
        // A driver that has no room for it hears of it the next time.
        while operator.ask_at_once(Operation::Flush) {}
        operator.find_paused(false, operator.pauses());
        assert!(operator.view().paused);
    }

    #[tokio::test]
    async fn what_another_gateway_tells_is_shown_while_it_delivers() {
        let (operator, ports) = Operator::new(false);
        ports.begin(View { activity: Activity::Running, ..View::default() });
        assert_eq!(operator.view().activity, Activity::Running);
        let view = View { activity: Activity::Occupied, ..View::default() };
        let told = Told::of("b", &view, clock::now());
        ports.place(Place::Elsewhere(Box::new(told)));
        assert_eq!(operator.view().activity, Activity::Occupied);
        ports.place(Place::Nowhere);
        assert_eq!(operator.view().activity, Activity::Idle);
    }
}

//! How an operator reaches a driver, and sees what it does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{Mutex, mpsc, watch};

use crate::domain::lifecycle::View;

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

/// How an operator reaches a driver, and sees what it does.
#[derive(Clone, Debug)]
pub struct Operator {
    operations: mpsc::Sender<Operation>,
    /// The driver of the app's express lane, where it has one.
    express: Option<mpsc::Sender<Operation>>,
    view: watch::Receiver<View>,
    pause: Arc<Pause>,
}

/// Whether the app is paused by what is durable: a driver that uploads hears of it only afterwards.
#[derive(Debug)]
struct Pause {
    paused: AtomicBool,
    /// Who changes it: one after the other, so that drivers hear of it in the order of the store.
    turn: Mutex<()>,
}

/// Operations are rare, and the driver may be busy with an upload meanwhile.
const OPERATIONS_MAX: usize = 16;

impl Operator {
    /// Reaches a driver that shows itself by `view`, and what the driver is to listen to.
    pub(super) fn new(view: watch::Receiver<View>) -> (Self, mpsc::Receiver<Operation>) {
        let (operations, listener) = mpsc::channel(OPERATIONS_MAX);
        let paused = AtomicBool::new(view.borrow().paused);
        let pause = Arc::new(Pause { paused, turn: Mutex::new(()) });
        (Self { operations, express: None, view, pause }, listener)
    }

    /// Reaches the driver of the app's express lane, too.
    #[must_use]
    pub fn with_express(self, express: mpsc::Sender<Operation>) -> Self {
        Self { express: Some(express), ..self }
    }

    /// Asks something. Has no effect once the driver has ended.
    pub async fn ask(&self, operation: Operation) {
        self.operations.send(operation).await.ok();
        if let Some(express) = &self.express {
            express.send(operation).await.ok();
        }
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
        self.ask(Operation::Pause(paused)).await;
        Ok(())
    }

    /// What the driver is doing.
    pub fn view(&self) -> View {
        let paused = self.pause.paused.load(Ordering::Relaxed);
        View { paused, ..self.view.borrow().clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_is_seen_before_a_busy_driver_hears_of_it() {
        // Whoever keeps the sender does not listen, as a driver that uploads.
        let (_driver, view) = watch::channel(View::default());
        let (operator, mut listener) = Operator::new(view);
        let seen_by_another = operator.clone();
        operator.pause(true, async { Ok::<_, ()>(()) }).await.unwrap();
        assert!(seen_by_another.view().paused);
        assert_eq!(listener.recv().await, Some(Operation::Pause(true)));
        operator.pause(false, async { Ok::<_, ()>(()) }).await.unwrap();
        assert!(!operator.view().paused);
    }

    #[tokio::test]
    async fn a_pause_that_is_not_durable_is_not_told() {
        let (_driver, view) = watch::channel(View::default());
        let (operator, mut listener) = Operator::new(view);
        assert_eq!(operator.pause(true, async { Err("closed") }).await, Err("closed"));
        assert!(!operator.view().paused);
        assert!(listener.try_recv().is_err());
    }

    #[tokio::test]
    async fn drivers_hear_in_the_order_of_the_store() {
        let (_driver, view) = watch::channel(View::default());
        let (operator, mut listener) = Operator::new(view);
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
}

//! Apps and clients have numbers, which they keep.

use super::{Engine, Queue, Scope, StoreError, Stored, Transaction, rescue::set_aside};
use crate::{
    domain::{
        lease::Lease,
        update::{AppId, ClientId},
    },
    store::{
        keys::{
            self, NameSpace,
            course::{course, lease},
        },
        names::{Name, names, names_in},
        records::{AppState, Course},
    },
};

impl<E: Engine> Queue<E> {
    /// The app called `name`: its number, which it keeps. An app whose state is damaged is an
    /// error here: [`Self::serve`] makes it anew.
    pub async fn app(&mut self, name: &str) -> Result<AppId, StoreError> {
        let app = self.named(name).await?;
        if self.fleet.is_some() {
            self.refresh(&[app]).await?;
            return Ok(app);
        }
        let mut transaction = self.engine.begin().await?;
        let state = match transaction.get(&keys::app(app)).await? {
            Some(bytes) => AppState::decode(bytes.as_ref()).map_err(|damage| {
                StoreError::unreadable(format!("the state of app {name:?} (keys a)"), damage)
            })?,
            None => AppState::default(),
        };
        self.apps.insert(app, state);
        Ok(app)
    }

    /// The number of the app called `name`.
    pub async fn named(&mut self, name: &str) -> Result<AppId, StoreError> {
        let app = AppId(self.number(NameSpace::App, name).await?);
        self.names.insert(app, name.to_owned());
        Ok(app)
    }

    /// The number of the client called `name`, which it keeps.
    pub async fn client(&mut self, name: &str) -> Result<ClientId, StoreError> {
        self.number(NameSpace::Client, name).await.map(ClientId)
    }

    async fn number(&mut self, space: NameSpace, name: &str) -> Result<u16, StoreError> {
        let key = keys::name(space, name);
        if self.fleet.is_some() {
            let known = names(&self.engine, space).await?;
            let known = known.iter().find(|it| it.key == key && it.damage.is_none());
            if let Some(known) = known {
                return Ok(known.number.unwrap_or(u16::MAX));
            }
        }
        let mut transaction = self.begin(Scope::Names, &[]).await?;
        let known_names = names_in(&mut transaction, space).await?;
        if let Some(known) = known_names.iter().find(|known| known.key == key) {
            let Some(damage) = known.damage else {
                self.leave(transaction).await?;
                return Ok(known.number.unwrap_or(u16::MAX));
            };
            let unreadable = StoreError::unreadable(lost(space, &known_names), damage);
            let (StoreError::Damaged { .. }, Some(number)) = (&unreadable, known.number) else {
                return Err(unreadable);
            };
            let mut head = self.head;
            set_aside::<u16>(&mut transaction, &mut head, &key).await?;
            transaction.put(&key, number.encode());
            if self.fleet.is_none() {
                transaction.put(keys::HEAD, head.encode());
            }
            transaction.commit().await?;
            self.head = head;
            return Ok(number);
        }
        let number = u16::try_from(known_names.len()).unwrap_or(u16::MAX);
        transaction.put(&key, number.encode());
        if self.fleet.is_some() && space == NameSpace::App {
            self.put_app(&mut transaction, AppId(number));
        }
        transaction.commit().await?;
        Ok(number)
    }

    /// Puts what is locked of an app that is new to a store that others write to.
    fn put_app(&self, transaction: &mut E::Transaction, app: AppId) {
        for stripe in 0..self.stripes() {
            transaction.put(&course(app, stripe), Course::default().encode());
        }
        transaction.put(&lease(app), Lease::default().encode());
        transaction.put(&keys::app(app), AppState::default().encode());
    }
}

/// The names whose numbers cannot be told.
fn lost(space: NameSpace, names: &[Name]) -> String {
    let of = match space {
        NameSpace::App => "apps",
        NameSpace::Client => "clients",
    };
    let names = names.iter().filter(|name| name.number.is_none()).map(|name| &name.text);
    let names: Vec<&String> = names.collect();
    format!("the numbers of the {of} {names:?} (keys n), of which one alone could be told")
}

//! Calls a controller for the objects that changed, or whose children did, and again later where
//! something failed.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::store::{Gone, Kind, Store, object};

/// First pause before something that failed is tried again; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// When to look at an object again, though nothing of it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Not at all.
    Rest,
    /// After a pause that grows.
    Retry,
    /// After this time.
    After(Duration),
}

/// One kind's controller.
pub(super) trait Controller {
    /// What it looks after.
    const OWNER: Kind;
    /// What it makes.
    const CHILD: Kind;

    /// Does what is to be done for an object that is not being deleted.
    fn sync(&mut self, owner: &Arc<Value>) -> impl Future<Output = Next> + Send;
}

/// Namespace and name.
type Name = (String, String);

#[derive(Default)]
struct Work {
    dirty: BTreeSet<Name>,
    /// When to look again, and how long the pause was.
    later: HashMap<Name, (Instant, Duration)>,
}

pub(super) async fn drive<C: Controller>(
    store: &Store,
    mut controller: C,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let turn = turn(store, &mut controller);
        // When history was lost, all is read again.
        let _: Option<Result<(), Gone>> = shutdown.run_until_cancelled(turn).await;
    }
}

async fn turn<C: Controller>(store: &Store, controller: &mut C) -> Result<(), Gone> {
    let (owners, mut owner_watch) = store.list_and_watch(C::OWNER);
    let (_, mut child_watch) = store.list_and_watch(C::CHILD);
    let mut work = Work::default();
    work.dirty.extend(owners.iter().map(|owner| name_of(owner)));
    loop {
        while let Some(name) = work.dirty.pop_first() {
            let found = store.get(C::OWNER, &name.0, &name.1);
            let next = match found.filter(|owner| !object::is_deleting(owner)) {
                Some(owner) => controller.sync(&owner).await,
                None => Next::Rest,
            };
            work.plan(name, next);
        }
        let wake = work.later.values().map(|(at, _)| *at).min();
        let timer = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = owner_watch.next() => {
                work.dirty.insert(name_of(&event?.object));
            }
            event = child_watch.next() => {
                work.dirty.extend(owner_of(&event?.object, C::OWNER));
            }
            () = timer => work.wake(),
        }
    }
}

impl Work {
    fn plan(&mut self, name: Name, next: Next) {
        let now = Instant::now();
        match next {
            Next::Rest => drop(self.later.remove(&name)),
            Next::After(pause) => drop(self.later.insert(name, (now + pause, Duration::ZERO))),
            Next::Retry => {
                let last = self.later.get(&name).map_or(Duration::ZERO, |(_, p)| *p);
                let pause = (last * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
                self.later.insert(name, (now + pause, pause));
            }
        }
    }

    fn wake(&mut self) {
        let now = Instant::now();
        for (name, (at, _)) in &mut self.later {
            if *at <= now {
                self.dirty.insert(name.clone());
                // Its pause is remembered until it is looked at.
                *at = now + LAST_PAUSE;
            }
        }
    }
}

fn name_of(object: &Value) -> Name {
    let (namespace, name) = (object::namespace(object), object::name(object));
    (namespace.to_owned(), name.to_owned())
}

fn owner_of(child: &Value, kind: Kind) -> Option<Name> {
    let owner = object::array(child, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["controller"] == true && owner["kind"] == kind.info().kind)?;
    let namespace = object::namespace(child).to_owned();
    Some((namespace, object::text(owner, "/name").to_owned()))
}

use std::sync::Arc;

use futures::future::join_all;
use tidegate_core::{DeploymentStatus, Environment, Route, Version, VersionStatus};
use tidegate_store::{CommitError, DeploymentRecord, Store, Transition};

use crate::bench::Bench;
use crate::samples::{deployment, registered, route, transition};

/// A deployment that publishes one route after another.
struct Publisher<'a> {
    store: &'a Store,
    record: DeploymentRecord,
}

impl<'a> Publisher<'a> {
    async fn new(store: &'a Store, version: &Version, environment: Environment) -> Self {
        let record = deployment(version, environment);
        store.deployments.create(&record, &[]).await.unwrap();
        Self { store, record }
    }

    async fn publish(&mut self, arms: &[(&Version, u32)]) {
        let current = self.store.routes.get(self.record.environment, &self.record.model_id).await.unwrap();
        let generation = current.map_or(1, |route| route.generation + 1);
        self.try_publish(arms, generation).await.unwrap();
    }

    async fn try_publish(&mut self, arms: &[(&Version, u32)], generation: u64) -> Result<(), CommitError> {
        let route = Some(Route { generation, ..route(&self.record, arms) });
        let published = Transition { route, ..transition(&self.record) };
        self.record.revision = self.store.deployments.commit(&published).await?;
        Ok(())
    }

    /// Lets the next deployment begin.
    async fn end(self) {
        let ended = DeploymentRecord { status: DeploymentStatus::Active, ..self.record };
        self.store.deployments.commit(&transition(&ended)).await.unwrap();
    }
}

async fn statuses(store: &Store, versions: &[Version]) -> Vec<VersionStatus> {
    let mut statuses = Vec::new();
    for version in versions {
        statuses.push(store.versions.get(&version.id).await.unwrap().unwrap().status);
    }
    statuses
}

pub async fn generations_grow(bench: Arc<Bench>) {
    let store = &bench.store;
    let (model, versions) = registered(store, "m", &["1.0.0"]).await;
    assert_eq!(store.routes.get(Environment::Production, &model.id).await.unwrap(), None);
    let mut first = Publisher::new(store, &versions[0], Environment::Production).await;
    first.publish(&[(&versions[0], 10_000)]).await;
    first.publish(&[]).await;
    first.end().await;
    let mut second = Publisher::new(store, &versions[0], Environment::Production).await;
    second.publish(&[(&versions[0], 10_000)]).await;
    let mut staging = Publisher::new(store, &versions[0], Environment::Staging).await;
    staging.publish(&[]).await;

    let stored = store.routes.get(Environment::Production, &model.id).await.unwrap().unwrap();
    assert_eq!((stored.generation, &stored.deployment_id), (3, &second.record.id));
    let listed = store.routes.list().await.unwrap();
    let generations: Vec<_> = listed.iter().map(|route| (route.environment, route.generation)).collect();
    assert_eq!(generations, [(Environment::Production, 3), (Environment::Staging, 1)]);
}

/// An older deployment that unloads its previous version must not undo a switch that it did not see.
pub async fn a_route_made_on_top_of_an_older_one_is_refused_whole(bench: Arc<Bench>) {
    let store = &bench.store;
    let (model, versions) = registered(store, "m", &["1.0.0", "2.0.0"]).await;
    let mut publisher = Publisher::new(store, &versions[0], Environment::Production).await;
    for generation in [0, 2] {
        let early = publisher.try_publish(&[(&versions[0], 10_000)], generation).await;
        assert!(matches!(early, Err(CommitError::Conflict)), "{generation} is not the first: {early:?}");
    }
    publisher.publish(&[(&versions[0], 10_000)]).await;
    publisher.publish(&[(&versions[1], 10_000)]).await;
    let revision = publisher.record.revision;
    for generation in [1, 2, 4] {
        let stale = publisher.try_publish(&[(&versions[0], 10_000)], generation).await;
        assert!(matches!(stale, Err(CommitError::Conflict)), "{generation} does not follow 2: {stale:?}");
    }
    let stored = store.routes.get(Environment::Production, &model.id).await.unwrap().unwrap();
    assert_eq!((stored.generation, &stored.arms[0].version_id), (2, &versions[1].id));
    let record = store.deployments.get(&publisher.record.id).await.unwrap().unwrap();
    assert_eq!(record.revision, revision, "the refused transition left nothing");
}

pub async fn versions_are_deployed_while_an_arm_names_them(bench: Arc<Bench>) {
    use VersionStatus::{Deployed, Registered, Validated};
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0", "2.0.0", "3.0.0"]).await;
    let (_, other) = registered(store, "other", &["1.0.0"]).await;
    Publisher::new(store, &other[0], Environment::Production).await.publish(&[(&other[0], 10_000)]).await;
    let mut production = Publisher::new(store, &versions[0], Environment::Production).await;
    let mut staging = Publisher::new(store, &versions[0], Environment::Staging).await;

    production.publish(&[(&versions[0], 10_000)]).await;
    assert_eq!(statuses(store, &versions).await, [Deployed, Registered, Registered]);
    staging.publish(&[(&versions[0], 5_000), (&versions[1], 5_000)]).await;
    assert_eq!(statuses(store, &versions).await, [Deployed, Deployed, Registered]);
    production.publish(&[(&versions[2], 10_000)]).await;
    assert_eq!(
        statuses(store, &versions).await,
        [Deployed, Deployed, Deployed],
        "staging still names the first"
    );
    staging.publish(&[]).await;
    assert_eq!(statuses(store, &versions).await, [Validated, Validated, Deployed]);
    assert_eq!(statuses(store, &other).await, [Deployed], "another model is not concerned");
}

pub async fn the_largest_arm_is_the_active_version(bench: Arc<Bench>) {
    let store = &bench.store;
    let (model, versions) = registered(store, "m", &["1.0.0", "2.0.0"]).await;
    let active = async || {
        let model = store.models.get(&model.id).await.unwrap().unwrap();
        model.active_version.map(|number| number.to_string())
    };
    let mut staging = Publisher::new(store, &versions[1], Environment::Staging).await;
    staging.publish(&[(&versions[1], 10_000)]).await;
    assert_eq!(active().await, None, "only Production counts");
    let mut production = Publisher::new(store, &versions[1], Environment::Production).await;
    for (old, new, expected) in
        [(10_000, 0, "1.0.0"), (9_000, 1_000, "1.0.0"), (5_000, 5_000, "1.0.0"), (4_999, 5_001, "2.0.0")]
    {
        production.publish(&[(&versions[0], old), (&versions[1], new)]).await;
        assert_eq!(active().await.as_deref(), Some(expected), "{old} to {new}");
    }
    production.publish(&[]).await;
    assert_eq!(active().await, None);
}

/// Both environments of a model, from two processes: no deadlock, and the statuses follow from both routes.
pub async fn two_environments_change_at_once(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    let (_, versions) = registered(&bench.store, "m", &["1.0.0", "2.0.0"]).await;
    let (old, new) = (&versions[0], &versions[1]);
    let publish = async |store, environment| {
        let mut publisher = Publisher::new(store, old, environment).await;
        for _ in 0..10 {
            publisher.publish(&[(old, 5_000), (new, 5_000)]).await;
            publisher.publish(&[(new, 10_000)]).await;
        }
    };
    join_all([publish(&bench.store, Environment::Production), publish(&others, Environment::Staging)]).await;
    others.close().await;
    let statuses = statuses(&bench.store, &versions).await;
    assert_eq!(statuses, [VersionStatus::Validated, VersionStatus::Deployed]);
    let generations: Vec<_> =
        bench.store.routes.list().await.unwrap().iter().map(|route| route.generation).collect();
    assert_eq!(generations, [20, 20]);
}

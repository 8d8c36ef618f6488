//! What the replicas say of a version: whether they have it loaded, and whether they answer with it.

use tidegate_core::{Route, VersionId};
use tidegate_delivery::ReplicaHealth;
use tidegate_store::{LoadState, ReplicaRecord};

/// As its last report has it.
pub(super) fn health(replica: &ReplicaRecord, route: &Route, candidate: &VersionId) -> ReplicaHealth {
    let applied = replica
        .report
        .routes
        .iter()
        .find(|applied| (applied.environment, &applied.model_id) == (route.environment, &route.model_id));
    let is_up_to_date = applied.is_some_and(|applied| applied.generation >= route.generation);
    let route = route.clone().on(&replica.id);
    let is_routed = route.arms.iter().any(|arm| arm.version_id == *candidate);
    let (is_loaded, fault) = match state_of(replica, candidate) {
        Some(LoadState::Loaded { .. }) => (true, None),
        Some(LoadState::Failed { reason }) => (false, Some(format!("the version does not load: {reason}"))),
        Some(LoadState::Loading) | None => (false, None),
    };
    let serves_candidate = is_up_to_date && is_routed && is_loaded;
    ReplicaHealth { id: replica.id.clone(), serves_candidate, fault }
}

/// Whether every replica has the version loaded; the error names one where it does not load.
pub(super) fn all_have_loaded(replicas: &[ReplicaRecord], version: &VersionId) -> Result<bool, String> {
    let mut have_all = true;
    for replica in replicas {
        match state_of(replica, version) {
            Some(LoadState::Loaded { .. }) => {}
            Some(LoadState::Failed { reason }) => {
                return Err(format!("on {} ({}): {reason}", replica.id, replica.address));
            }
            Some(LoadState::Loading) | None => have_all = false,
        }
    }
    Ok(have_all)
}

fn state_of<'a>(replica: &'a ReplicaRecord, version: &VersionId) -> Option<&'a LoadState> {
    let reported = replica.report.versions.iter().find(|reported| reported.version_id == *version);
    reported.map(|reported| &reported.state)
}

#[cfg(test)]
mod tests {
    use tidegate_core::{Arm, DeploymentId, Environment, ModelId, Moved, ReplicaId, StickyBy, Timestamp};
    use tidegate_store::{AppliedRoute, ReplicaReport, VersionReport};

    use super::*;

    fn replica(name: &str, generation: u64, state: Option<LoadState>) -> ReplicaRecord {
        let reported = |state| VersionReport { version_id: VersionId::new("new"), state };
        let applied =
            AppliedRoute { environment: Environment::Production, model_id: ModelId::new("m"), generation };
        ReplicaRecord {
            id: ReplicaId::new(name),
            address: format!("http://{name}"),
            binary_version: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            heartbeat_at: Timestamp::UNIX_EPOCH,
            report: ReplicaReport {
                routes: vec![applied],
                versions: state.into_iter().map(reported).collect(),
            },
        }
    }

    fn failed() -> LoadState {
        LoadState::Failed { reason: "out of memory".to_owned() }
    }

    #[test]
    fn a_replica_serves_the_candidate_once_it_moved_and_applied_that_with_the_version_loaded() {
        let route = Route {
            environment: Environment::Production,
            model_id: ModelId::new("m"),
            generation: 7,
            deployment_id: DeploymentId::new("d"),
            arms: vec![Arm::all(VersionId::new("old"))],
            warm: vec![VersionId::new("new")],
            shadow: None,
            moved: Some(Moved { version_id: VersionId::new("new"), replicas: vec![ReplicaId::new("a")] }),
            sticky_by: StickyBy::Key,
        };
        let loaded = || Some(LoadState::Loaded { life: 1 });
        let cases = [
            (replica("a", 7, loaded()), true),
            (replica("a", 6, loaded()), false),
            (replica("a", 7, Some(LoadState::Loading)), false),
            (replica("a", 7, None), false),
            (replica("b", 7, loaded()), false),
        ];
        for (replica, serves) in cases {
            let health = health(&replica, &route, &VersionId::new("new"));
            assert_eq!((health.serves_candidate, health.fault), (serves, None), "{replica:?}");
        }
        let health = health(&replica("a", 7, Some(failed())), &route, &VersionId::new("new"));
        assert!(!health.serves_candidate && health.fault.unwrap().contains("out of memory"));
    }

    #[test]
    fn all_must_have_loaded_it_and_a_fault_anywhere_is_told_with_its_place() {
        let new = VersionId::new("new");
        let with = |state| replica("a", 1, state);
        let loaded = || with(Some(LoadState::Loaded { life: 1 }));
        assert_eq!(all_have_loaded(&[loaded(), loaded()], &new), Ok(true));
        assert_eq!(all_have_loaded(&[loaded(), with(None)], &new), Ok(false));
        assert_eq!(all_have_loaded(&[with(Some(LoadState::Loading)), loaded()], &new), Ok(false));
        let fault = all_have_loaded(&[with(None), with(Some(failed()))], &new).unwrap_err();
        assert!(fault.contains("http://a") && fault.contains("out of memory"), "{fault}");
    }
}

//! Which slot answers: names and ids, pins, generations, environments.

use std::sync::Arc;

use tidegate_core::{Arm, Caller, Environment, ModelId, SemVer};
use tidegate_serve::{ResolveError, Server, Slot};

use crate::fake::FakeRuntime;
use crate::support::{SMALL, model_name, route, spec, version_id};

const PRODUCTION: Environment = Environment::Production;

struct Scene {
    server: Server,
    slots: Vec<Arc<Slot>>,
}

/// A server with versions 1 to 3 loaded, none routed.
async fn scene() -> Scene {
    let server = Server::new(FakeRuntime::new(), SMALL);
    let mut slots = vec![];
    for number in 1..=3 {
        slots.push(server.load(spec(number, "any".into())).await.unwrap());
    }
    Scene { server, slots }
}

impl Scene {
    fn apply(&self, generation: u64, active: Option<u64>, warm: &[u64]) {
        self.server.apply(route(generation, active, warm), model_name(), self.slots.clone());
    }

    /// The version that answers, and the arm; none for a pin.
    fn answer(&self, model: &str, pin: Option<u64>) -> Result<(u64, Option<usize>), ResolveError> {
        let pin = pin.map(|number| SemVer::new(number, 0, 0));
        let resolved = self.server.resolve(PRODUCTION, model, pin.as_ref(), &Caller::unnamed("request-1"))?;
        Ok((resolved.slot.number().major, resolved.arm))
    }
}

#[tokio::test]
async fn models_are_found_by_name_and_by_id_in_their_environment() {
    let scene = scene().await;
    let missing = ResolveError::NotRouted { model: "m".to_owned() };
    assert_eq!(scene.answer("m", None), Err(missing.clone()));
    scene.apply(1, Some(1), &[]);
    assert_eq!(scene.answer("m", None), Ok((1, Some(0))));
    assert_eq!(scene.answer("model-1", None), Ok((1, Some(0))));
    let staging = scene.server.resolve(Environment::Staging, "m", None, &Caller::unnamed("request-1")).err();
    assert_eq!(staging, Some(missing));
    let resolved = scene.server.resolve(PRODUCTION, "m", None, &Caller::unnamed("request-1")).unwrap();
    assert_eq!(resolved.deployment_id.as_str(), "deploy-1");
}

#[tokio::test]
async fn a_pin_reaches_every_loaded_version_of_the_route() {
    let scene = scene().await;
    scene.apply(1, Some(2), &[1]);
    assert_eq!(scene.answer("m", Some(2)), Ok((2, None)));
    assert_eq!(scene.answer("m", Some(1)), Ok((1, None)));
    let error = scene.answer("m", Some(3)).unwrap_err();
    assert_eq!(error.to_string(), "version 3.0.0 is not loaded here; loaded: 2.0.0, 1.0.0");
}

#[tokio::test]
async fn generations_never_go_back() {
    let scene = scene().await;
    scene.apply(5, Some(2), &[]);
    scene.apply(4, Some(1), &[]);
    assert_eq!(scene.answer("m", None), Ok((2, Some(0))));
    scene.apply(6, Some(3), &[]);
    assert_eq!(scene.answer("m", None), Ok((3, Some(0))));
}

#[tokio::test]
async fn an_empty_route_says_so_and_keeps_its_generation() {
    let scene = scene().await;
    scene.apply(1, Some(1), &[]);
    scene.apply(2, None, &[1]);
    assert_eq!(scene.answer("m", None), Err(ResolveError::NothingActive));
    assert_eq!(scene.answer("m", Some(1)), Ok((1, None)), "a warm version is reached by its number");
    scene.apply(1, Some(1), &[]);
    assert_eq!(scene.answer("m", None), Err(ResolveError::NothingActive));
}

#[tokio::test]
async fn a_name_belongs_to_the_model_that_serves_and_an_id_to_its_own() {
    let scene = scene().await;
    scene.apply(1, Some(1), &[]);
    // Archived, and the name taken by another model; then a late change to the archived one.
    scene.apply(2, None, &[]);
    let mut successor = route(1, Some(2), &[]);
    successor.model_id = ModelId::new("model-2");
    scene.server.apply(successor.clone(), model_name(), scene.slots.clone());
    scene.apply(3, None, &[]);
    assert_eq!(scene.answer("m", None), Ok((2, Some(0))));
    // A model that calls itself by the id of another gets none of its traffic.
    let mut imposter = route(1, Some(3), &[]);
    imposter.model_id = ModelId::new("model-3");
    let name = tidegate_core::ModelName::parse("model-2").unwrap();
    scene.server.apply(imposter, name, scene.slots.clone());
    assert_eq!(scene.answer("model-2", None), Ok((2, Some(0))));
}

#[tokio::test]
async fn weights_decide_by_key_and_a_missing_warm_version_is_no_fault() {
    let scene = scene().await;
    let mut split = route(1, None, &[9]);
    split.arms = vec![
        Arm { version_id: version_id(1), weight: 5_000 },
        Arm { version_id: version_id(2), weight: 5_000 },
    ];
    let expected = split.clone();
    scene.server.apply(split, model_name(), scene.slots.clone());
    let mut seen = [0, 0];
    for index in 0..200 {
        let key = format!("user-{index}");
        let resolved = scene.server.resolve(PRODUCTION, "m", None, &Caller::unnamed(&key)).unwrap();
        assert_eq!(resolved.arm, expected.pick(&key));
        let arm = resolved.arm.unwrap();
        assert_eq!(resolved.slot.version_id(), &expected.arms[arm].version_id);
        seen[arm] += 1;
    }
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
}

//! Which version does a job.

use tidegate_core::{Environment, Model, Route, SemVer, Version};
use tidegate_geo::ModelItem;
use tidegate_store::{Store, StoreError};

use crate::operations::predict::numbers;

/// Why no version can do it.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    #[error("model `{model}` has no version {version}")]
    NoSuchVersion { model: String, version: SemVer },
    #[error("model `{model}` is not deployed in {environment}; deploy a version first")]
    NotDeployed { model: String, environment: Environment },
    #[error(
        "version {version} of model `{model}` is not deployed in {environment}; ask for one of {}, or deploy it",
        numbers(deployed)
    )]
    NotThere { model: String, version: SemVer, environment: Environment, deployed: Vec<SemVer> },
    #[error(
        "version {version} does not say how to read images; register it with its STAC-MLM item (a part named `stac`)"
    )]
    NoItem { version: SemVer },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The version that has most of the traffic, or the one that is asked for if the route names it: a job is not a request
/// among many that a candidate may get a share of. With its STAC item, which says how to read scenes.
pub async fn choose_version(
    store: &Store,
    model: &Model,
    environment: Environment,
    wanted: Option<&SemVer>,
) -> Result<(Version, ModelItem), ChooseError> {
    let name = model.name.to_string();
    let route = store.routes.get(environment, &model.id).await?;
    let version = match wanted {
        None => {
            let leader = route.as_ref().and_then(Route::leader);
            let Some(leader) = leader else {
                return Err(ChooseError::NotDeployed { model: name, environment });
            };
            store.versions.get(&leader.version_id).await?
        }
        Some(number) => {
            let found = store.versions.by_number(&model.id, number).await?;
            let Some(found) = found else {
                return Err(ChooseError::NoSuchVersion { model: name, version: number.clone() });
            };
            let is_there = |route: &Route| route.versions().any(|version| *version == found.id);
            if !route.as_ref().is_some_and(is_there) {
                let deployed = deployed(store, route.as_ref()).await?;
                let version = number.clone();
                return Err(ChooseError::NotThere { model: name, version, environment, deployed });
            }
            Some(found)
        }
    };
    let Some(version) = version else { return Err(ChooseError::NotDeployed { model: name, environment }) };
    let item = version.stac_item.as_ref().and_then(|item| ModelItem::parse(item).ok());
    match item {
        Some(item) => Ok((version, item)),
        None => Err(ChooseError::NoItem { version: version.version }),
    }
}

async fn deployed(store: &Store, route: Option<&Route>) -> Result<Vec<SemVer>, StoreError> {
    let mut numbers = Vec::new();
    for id in route.into_iter().flat_map(Route::versions) {
        numbers.extend(store.versions.get(id).await?.map(|version| version.version));
    }
    Ok(numbers)
}

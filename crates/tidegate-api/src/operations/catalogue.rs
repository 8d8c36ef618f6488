//! The registry as a catalogue: versions of all live models by place, time and name, page by page.

use serde_json::Value;
use tidegate_core::{Model, ModelName, Timestamp, Version, VersionId};
use tidegate_store::{Store, StoreError};

/// A version and whose it is.
pub(crate) struct Entry {
    pub model: ModelName,
    pub version: Version,
}

/// West, south, east, north in degrees; west of an area across the antimeridian lies beyond its east.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    pub west: f64,
    pub south: f64,
    pub east: f64,
    pub north: f64,
}

/// Both ends belong to it; absent ones are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

/// Which entries; empty lists and absent fields keep everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    pub area: Option<Area>,
    pub interval: Interval,
    pub ids: Vec<String>,
    pub models: Vec<String>,
}

/// A page of entries, the newest first.
pub(crate) struct Found {
    pub entries: Vec<Entry>,
    /// What the next page begins after; `None` on the last.
    pub next: Option<VersionId>,
}

/// Versions read at a time: items are a few kilobytes each.
const CHUNK: u32 = 100;

/// At most `limit` entries registered before `before`. What does not match is read and dropped: a catalogue has as many
/// entries as people have trained models.
pub(crate) async fn search(
    store: &Store,
    filter: &Filter,
    mut before: Option<VersionId>,
    limit: usize,
) -> Result<Found, StoreError> {
    let only_model = match filter.models.as_slice() {
        [] => None,
        [name] => match live_model(store, name).await? {
            Some(model) => Some(model.id),
            None => return Ok(Found { entries: vec![], next: None }),
        },
        _ => None,
    };
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let chunk = store.versions.browse(only_model.as_ref(), before.as_ref(), CHUNK).await?;
        let is_last = chunk.len() < CHUNK as usize;
        before = chunk.last().map(|(_, version)| version.id.clone());
        for (model, version) in chunk {
            let entry = Entry { model, version };
            if !filter.keeps(&entry) {
                continue;
            }
            if entries.len() == limit {
                let next = entries.last().map(|last| last.version.id.clone());
                return Ok(Found { entries, next });
            }
            entries.push(entry);
        }
        if is_last {
            return Ok(Found { entries, next: None });
        }
    }
}

/// By its name only: a catalogue has no archived models.
pub(crate) async fn live_model(store: &Store, name: &str) -> Result<Option<Model>, StoreError> {
    let model = store.models.find(name).await?;
    Ok(model.filter(|model| model.name.as_str() == name && !model.is_archived))
}

impl Filter {
    fn keeps(&self, entry: &Entry) -> bool {
        let is_named =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|known| known == name);
        is_named(&self.models, entry.model.as_str())
            && is_named(&self.ids, &entry.id())
            && self.interval.meets(entry.interval())
            && self.area.is_none_or(|area| entry.area().is_some_and(|of_entry| area.meets(of_entry)))
    }
}

impl Entry {
    /// Unique in the whole catalogue.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.model, self.version.version)
    }

    fn properties(&self) -> Option<&Value> {
        self.version.stac_item.as_ref()?.get("properties")
    }

    /// When the model is of: by its item, or else when it was registered.
    pub(crate) fn interval(&self) -> Interval {
        let time = |key: &str| self.properties()?.get(key)?.as_str()?.parse::<Timestamp>().ok();
        let datetime = time("datetime").or_else(|| {
            let open = time("start_datetime").is_none() && time("end_datetime").is_none();
            open.then_some(self.version.created_at)
        });
        Interval { from: time("start_datetime").or(datetime), to: time("end_datetime").or(datetime) }
    }

    /// Where the model is of; `None` where its item does not say.
    pub(crate) fn area(&self) -> Option<Area> {
        let bbox = self.version.stac_item.as_ref()?.get("bbox")?.as_array()?;
        let numbers = bbox.iter().map(Value::as_f64).collect::<Option<Vec<_>>>()?;
        Area::from_numbers(&numbers)
    }
}

impl Area {
    /// Four numbers, or six with heights.
    pub(crate) fn from_numbers(numbers: &[f64]) -> Option<Self> {
        match *numbers {
            [west, south, east, north] | [west, south, _, east, north, _] => {
                Some(Self { west, south, east, north })
            }
            _ => None,
        }
    }

    pub(crate) fn to_numbers(self) -> [f64; 4] {
        [self.west, self.south, self.east, self.north]
    }

    fn meets(self, other: Area) -> bool {
        let rows_meet = self.south <= other.north && other.south <= self.north;
        // An area across the antimeridian is two.
        let spans = |area: Area| match area.west <= area.east {
            true => vec![(area.west, area.east)],
            false => vec![(area.west, 180.0), (-180.0, area.east)],
        };
        let others = spans(other);
        rows_meet && spans(self).iter().any(|a| others.iter().any(|b| a.0 <= b.1 && b.0 <= a.1))
    }
}

impl Interval {
    fn meets(self, other: Interval) -> bool {
        let before = |end: Option<Timestamp>, start: Option<Timestamp>| matches!((end, start), (Some(end), Some(start)) if end < start);
        !before(self.to, other.from) && !before(other.to, self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_meet_also_across_the_antimeridian() {
        let area = |numbers: [f64; 4]| Area::from_numbers(&numbers).unwrap();
        let fiji = area([177.0, -19.0, -178.0, -16.0]);
        let cases = [
            (area([0.0, 0.0, 10.0, 10.0]), area([10.0, 10.0, 20.0, 20.0]), true),
            (area([0.0, 0.0, 10.0, 10.0]), area([10.1, 0.0, 20.0, 10.0]), false),
            (area([0.0, 0.0, 10.0, 10.0]), area([0.0, 10.1, 10.0, 20.0]), false),
            (fiji, area([179.0, -18.0, 180.0, -17.0]), true),
            (fiji, area([-180.0, -18.0, -179.0, -17.0]), true),
            (fiji, area([-170.0, -18.0, 170.0, -17.0]), false),
            (fiji, fiji, true),
        ];
        for (a, b, meet) in cases {
            assert_eq!((a.meets(b), b.meets(a)), (meet, meet), "{a:?} {b:?}");
        }
        assert_eq!(Area::from_numbers(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Some(area([1.0, 2.0, 4.0, 5.0])));
    }

    #[test]
    fn intervals_meet_at_their_ends_and_when_open() {
        let interval = |from: Option<i64>, to: Option<i64>| Interval {
            from: from.map(|s| Timestamp::from_second(s).unwrap()),
            to: to.map(|s| Timestamp::from_second(s).unwrap()),
        };
        let cases = [
            ((Some(1), Some(3)), (Some(3), Some(5)), true),
            ((Some(1), Some(3)), (Some(4), Some(5)), false),
            ((None, Some(3)), (Some(1), None), true),
            ((Some(4), None), (None, Some(3)), false),
            ((None, None), (Some(1), Some(1)), true),
        ];
        for ((a, b), (c, d), meet) in cases {
            let (one, other) = (interval(a, b), interval(c, d));
            assert_eq!((one.meets(other), other.meets(one)), (meet, meet), "{one:?} {other:?}");
        }
    }
}

//! What is searched for, as it comes in a query string or in a body; both become one [`Query`].

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_core::{Timestamp, VersionId};

use crate::error::{ApiError, ErrorCode, ErrorDetail};
use crate::operations::catalogue::{Area, Filter, Interval};

/// Which entries, and which page of them.
#[derive(Debug, PartialEq)]
pub(super) struct Query {
    pub filter: Filter,
    pub before: Option<VersionId>,
    pub limit: usize,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemsParams {
    /// West, south, east, north in degrees, such as `85.5,27.6,85.6,27.7`.
    bbox: Option<String>,
    /// A time, or two with a slash between them; `..` is an open end.
    datetime: Option<String>,
    /// 1 to 100, default 20; more counts as 100.
    limit: Option<i64>,
    /// Of a `next` link.
    token: Option<String>,
    /// Items, with commas between them.
    ids: Option<String>,
    /// The model of the path once more, as pystac-client has it.
    collections: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParams {
    /// West, south, east, north in degrees, such as `85.5,27.6,85.6,27.7`.
    bbox: Option<String>,
    /// A time, or two with a slash between them; `..` is an open end.
    datetime: Option<String>,
    /// 1 to 100, default 20; more counts as 100.
    limit: Option<i64>,
    /// Of a `next` link.
    token: Option<String>,
    /// Items, with commas between them.
    ids: Option<String>,
    /// Models, with commas between them.
    collections: Option<String>,
    /// Not supported; give `bbox`.
    intersects: Option<String>,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchBody {
    /// West, south, east, north in degrees.
    bbox: Option<Vec<f64>>,
    /// A time, or two with a slash between them; `..` is an open end.
    datetime: Option<String>,
    /// 1 to 100, default 20; more counts as 100.
    limit: Option<i64>,
    /// Of a `next` link.
    token: Option<String>,
    /// Items.
    ids: Option<Vec<String>>,
    /// Models.
    collections: Option<Vec<String>>,
    /// Not supported; give `bbox`.
    #[schema(value_type = Option<Object>)]
    intersects: Option<Value>,
}

const DEFAULT_LIMIT: i64 = 20;

/// The specification lets a server give fewer than were asked for.
const MAX_LIMIT: i64 = 100;

impl ItemsParams {
    pub(super) fn query(&self, model: &str) -> Result<Query, ApiError> {
        let mut reader = Reader::default();
        if names(self.collections.as_deref()).iter().any(|name| name != model) {
            reader.fault(
                "collections",
                format!("the path asks for the items of `{model}` alone; use /stac/search"),
            );
        }
        reader.read(Asked {
            bbox: numbers(self.bbox.as_deref()),
            datetime: self.datetime.as_deref(),
            limit: self.limit,
            token: self.token.as_deref(),
            ids: names(self.ids.as_deref()),
            collections: vec![model.to_owned()],
            intersects: false,
        })
    }
}

impl SearchParams {
    pub(super) fn query(&self) -> Result<Query, ApiError> {
        Reader::default().read(Asked {
            bbox: numbers(self.bbox.as_deref()),
            datetime: self.datetime.as_deref(),
            limit: self.limit,
            token: self.token.as_deref(),
            ids: names(self.ids.as_deref()),
            collections: names(self.collections.as_deref()),
            intersects: self.intersects.is_some(),
        })
    }
}

impl SearchBody {
    pub(super) fn query(&self) -> Result<Query, ApiError> {
        Reader::default().read(Asked {
            bbox: self.bbox.clone().map(Ok),
            datetime: self.datetime.as_deref(),
            limit: self.limit,
            token: self.token.as_deref(),
            ids: self.ids.clone().unwrap_or_default(),
            collections: self.collections.clone().unwrap_or_default(),
            intersects: self.intersects.as_ref().is_some_and(|geometry| !geometry.is_null()),
        })
    }
}

impl Query {
    /// As a query string asks for the same.
    pub(super) fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let Filter { area, interval, ids, models } = &self.filter;
        let mut pairs = vec![("limit", self.limit.to_string())];
        pairs.extend(
            area.map(|area| ("bbox", area.to_numbers().map(|degrees| degrees.to_string()).join(","))),
        );
        pairs.extend(interval_text(*interval).map(|text| ("datetime", text)));
        for (key, names) in [("ids", ids), ("collections", models)] {
            if !names.is_empty() {
                pairs.push((key, names.join(",")));
            }
        }
        pairs
    }

    /// As a body asks for the same.
    pub(super) fn to_body(&self) -> Value {
        let Filter { area, interval, ids, models } = &self.filter;
        let mut body = json!({"limit": self.limit});
        if let Some(area) = area {
            body["bbox"] = json!(area.to_numbers());
        }
        if let Some(text) = interval_text(*interval) {
            body["datetime"] = json!(text);
        }
        for (key, names) in [("ids", ids), ("collections", models)] {
            if !names.is_empty() {
                body[key] = json!(names);
            }
        }
        body
    }
}

fn interval_text(interval: Interval) -> Option<String> {
    let end = |end: Option<Timestamp>| end.map_or_else(|| "..".to_owned(), |end| end.to_string());
    (interval != Interval::default()).then(|| format!("{}/{}", end(interval.from), end(interval.to)))
}

fn names(list: Option<&str>) -> Vec<String> {
    let names = list.unwrap_or_default().split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

type Numbers = Result<Vec<f64>, std::num::ParseFloatError>;

fn numbers(list: Option<&str>) -> Option<Numbers> {
    list.map(|list| list.split(',').map(|number| number.trim().parse()).collect())
}

/// The same from wherever it came.
struct Asked<'a> {
    bbox: Option<Numbers>,
    datetime: Option<&'a str>,
    limit: Option<i64>,
    token: Option<&'a str>,
    ids: Vec<String>,
    collections: Vec<String>,
    intersects: bool,
}

/// Collects every fault of a query.
#[derive(Default)]
struct Reader(Vec<ErrorDetail>);

impl Reader {
    fn read(mut self, asked: Asked<'_>) -> Result<Query, ApiError> {
        if asked.intersects {
            self.fault("intersects", "is not supported here: give the bbox of the geometry");
        }
        let area = asked.bbox.and_then(|numbers| self.area(numbers));
        let interval = asked.datetime.map(|text| self.interval(text)).unwrap_or_default();
        let limit = self.limit(asked.limit);
        let filter = Filter { area, interval, ids: asked.ids, models: asked.collections };
        let before = asked.token.map(VersionId::new);
        match self.0.is_empty() {
            true => Ok(Query { filter, before, limit }),
            false => Err(ApiError::faults(ErrorCode::ValidationError, "the search does not fit", self.0)),
        }
    }

    fn fault(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(ErrorDetail::new(field, message));
    }

    fn area(&mut self, numbers: Numbers) -> Option<Area> {
        let area = numbers.ok().and_then(|numbers| Area::from_numbers(&numbers));
        let in_degrees = |area: &Area| {
            let longitudes = [area.west, area.east].iter().all(|degrees| (-180.0..=180.0).contains(degrees));
            longitudes && area.south >= -90.0 && area.south <= area.north && area.north <= 90.0
        };
        let area = area.filter(in_degrees);
        if area.is_none() {
            self.fault("bbox", "must be west,south,east,north in degrees, south below north");
        }
        area
    }

    fn interval(&mut self, text: &str) -> Interval {
        let instant = |text: &str| match text {
            "" | ".." => Ok(None),
            text => text.parse::<Timestamp>().map(Some),
        };
        let ends = match text.split_once('/') {
            Some((from, to)) => instant(from).and_then(|from| Ok((from, instant(to)?))),
            None => text.parse().map(|at| (Some(at), Some(at))),
        };
        match ends {
            Ok((None, None)) => self.fault("datetime", "must have one end at least"),
            Ok((Some(from), Some(to))) if from > to => self.fault("datetime", "ends before it begins"),
            Ok((from, to)) => return Interval { from, to },
            Err(_) => {
                let message = "must be a time such as 2026-11-22T00:00:00Z, or two with a slash between them";
                self.fault("datetime", message);
            }
        }
        Interval::default()
    }

    fn limit(&mut self, limit: Option<i64>) -> usize {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if limit < 1 {
            self.fault("limit", format!("must be 1 or more, got {limit}"));
        }
        usize::try_from(limit.clamp(1, MAX_LIMIT)).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(params: SearchParams) -> Result<Query, Vec<String>> {
        params.query().map_err(|error| error.details.into_iter().map(|detail| detail.field).collect())
    }

    #[test]
    fn a_query_is_read_whole_or_refused_with_every_fault() {
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let cases = [
            ("2026-01-01T00:00:00Z", (time("2026-01-01T00:00:00Z"), time("2026-01-01T00:00:00Z"))),
            ("2026-01-01T00:00:00Z/..", (time("2026-01-01T00:00:00Z"), None)),
            ("/2026-01-01T00:00:00+01:00", (None, time("2025-12-31T23:00:00Z"))),
        ];
        for (text, (from, to)) in cases {
            let params = SearchParams { datetime: Some(text.to_owned()), ..SearchParams::default() };
            assert_eq!(query(params).unwrap().filter.interval, Interval { from, to }, "{text}");
        }
        let params = SearchParams {
            bbox: Some("1, 2,3,4".to_owned()),
            ids: Some("a, b".to_owned()),
            limit: Some(100_000),
            ..SearchParams::default()
        };
        let read = query(params).unwrap();
        assert_eq!(read.filter.ids, ["a", "b"]);
        assert_eq!((read.filter.area.unwrap().north, read.limit), (4.0, 100));
        for bbox in ["1,2,3", "1,2,3,x", "1,4,3,2", "1,2,200,4", "NaN,2,3,4"] {
            let params = SearchParams { bbox: Some(bbox.to_owned()), ..SearchParams::default() };
            assert_eq!(query(params), Err(vec!["bbox".to_owned()]), "{bbox}");
        }
        let params = SearchParams {
            datetime: Some("../..".to_owned()),
            limit: Some(0),
            intersects: Some("{}".to_owned()),
            ..SearchParams::default()
        };
        assert_eq!(query(params).unwrap_err(), ["intersects", "datetime", "limit"]);
        for datetime in ["yesterday", "2026-01-02T00:00:00Z/2026-01-01T00:00:00Z", "2026-01-01"] {
            let params = SearchParams { datetime: Some(datetime.to_owned()), ..SearchParams::default() };
            assert_eq!(query(params), Err(vec!["datetime".to_owned()]), "{datetime}");
        }
    }
}

//! `limit` and `offset`, the same for every listing.

use tidegate_store::Page;

use crate::error::{ApiError, ErrorCode, ErrorDetail};

const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;

/// The two query parameters as they came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pagination {
    pub limit: Option<i64>,
    pub offset: Option<i64>,
}

impl Pagination {
    /// Refuses what is out of range rather than quietly answering something else.
    pub(crate) fn page(self) -> Result<Page, ApiError> {
        let mut faults = Vec::new();
        let limit = in_range("limit", self.limit.unwrap_or(DEFAULT_LIMIT), 1, MAX_LIMIT, &mut faults);
        let offset = in_range("offset", self.offset.unwrap_or(0), 0, i64::from(u32::MAX), &mut faults);
        match faults.is_empty() {
            true => Ok(Page { limit, offset }),
            false => Err(ApiError::faults(ErrorCode::ValidationError, "paging", faults)),
        }
    }
}

fn in_range(field: &str, value: i64, min: i64, max: i64, faults: &mut Vec<ErrorDetail>) -> u32 {
    if (min..=max).contains(&value) {
        return u32::try_from(value).unwrap_or(u32::MAX);
    }
    let message = format!("must be from {min} to {max}, got {value}");
    faults.push(ErrorDetail::new(field, message));
    0
}

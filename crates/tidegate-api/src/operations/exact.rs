//! JSON numbers as numbers of a datatype: exactly or not at all.

use tidegate_core::DType;
use tidegate_core::tensor::Element;

pub(super) fn in_range<T: Element + TryFrom<i128>>(whole: i128) -> Result<T, String> {
    T::try_from(whole).map_err(|_| out_of_range(whole, T::DTYPE))
}

pub(super) fn out_of_range(value: impl std::fmt::Display, dtype: DType) -> String {
    format!("{value} is out of the range of {dtype}")
}

/// `3.0` is taken for an integer, `3.5` is not.
pub(super) fn whole(value: f64) -> Result<i128, String> {
    /// Beyond 2^53 a float no longer holds every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.fract() == 0.0 && value.abs() <= EXACT {
        true => Ok(value as i128),
        false => Err(format!("expected a whole number, got {value}")),
    }
}

//! Samples in the type that the file keeps them in, plane by plane.

/// One plane of one band, row by row.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    /// Every other type: signed and wide integers, and floating point.
    F32(Vec<f32>),
}

/// Some whole rows of a raster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strip {
    pub top: usize,
    pub n_rows: usize,
    pub width: usize,
    /// One per band that was asked for; all of one type.
    pub planes: Vec<Samples>,
    /// `n_rows x width`: 255 where a pixel is valid, 0 where it is not. `None`: all are valid.
    pub valid: Option<Vec<u8>>,
}

/// A type that samples come in.
pub trait Sample: Copy + Default + Send + Sync + 'static {
    fn to_f32(self) -> f32;
    /// Rounded and cut off at the ends of the type.
    fn from_f32(value: f32) -> Self;
}

impl Sample for u8 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
    /// What `value.round() as u8` is, without a call for each pixel: casting cuts off at zero and at both ends of the type.
    fn from_f32(value: f32) -> Self {
        let whole = value as u8;
        whole.saturating_add(Self::from(value - f32::from(whole) >= 0.5))
    }
}

impl Sample for u16 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
    fn from_f32(value: f32) -> Self {
        value.round() as u16
    }
}

impl Sample for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Samples {
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One sample as a number.
    pub fn at(&self, index: usize) -> f32 {
        match self {
            Self::U8(values) => values[index].to_f32(),
            Self::U16(values) => values[index].to_f32(),
            Self::F32(values) => values[index],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_as_numbers_are() {
        let thirds = (-30..800).map(|third| third as f32 / 3.0);
        let halves = (-4..600).map(|half| half as f32 / 2.0);
        let edges = [0.499_999_97, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 254.499_98, 1e20];
        for value in thirds.chain(halves).chain(edges) {
            assert_eq!(u8::from_f32(value), value.round() as u8, "{value}");
        }
    }
}

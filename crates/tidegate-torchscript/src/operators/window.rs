//! What convolutions and pools share: a window that slides over the last axes.

use super::Call;
use crate::fault::Fault;
use crate::graph::{Dim, Operation, ValueId};

/// How a window slides, one number per spatial axis.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) kernel: Vec<i64>,
    pub(super) stride: Vec<i64>,
    pub(super) padding: Vec<i64>,
    pub(super) dilation: Vec<i64>,
}

impl Window {
    /// From here to its last element, along an axis.
    pub(super) fn extent(&self, axis: usize) -> Result<i64, Fault> {
        let extent =
            self.dilation[axis].checked_mul(self.kernel[axis] - 1).and_then(|reach| reach.checked_add(1));
        extent.ok_or_else(Fault::overflow)
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        let is_positive = |numbers: &[i64]| numbers.iter().all(|number| (1..=1 << 24).contains(number));
        let is_padding = self.padding.iter().all(|padding| (0..=1 << 24).contains(padding));
        if is_positive(&self.kernel) && is_positive(&self.stride) && is_positive(&self.dilation) && is_padding
        {
            return Ok(());
        }
        Err(Fault::malformed("a kernel, stride, dilation or padding that makes no sense"))
    }

    /// ONNX's order: all beginnings, then all ends.
    pub(super) fn pads(&self) -> Vec<i64> {
        [self.padding.as_slice(), &self.padding].concat()
    }
}

impl Call<'_> {
    /// `floor((size + padding - extent) / stride) + 1`, with the padding of both ends.
    pub(super) fn slid(&mut self, size: Dim, padding: i64, extent: i64, stride: i64) -> Result<Dim, Fault> {
        let room = self.apply(Operation::Add, size, padding - extent)?;
        if matches!(room, Dim::Fixed(..0)) {
            return Err(Fault::Mismatch(format!("the input is smaller than the window of `{}`", self.name)));
        }
        let steps = self.apply(Operation::Div, room, stride)?;
        self.apply(Operation::Add, steps, 1)
    }

    /// The input of a layer that slides over `n` axes: batch, channels, and those.
    pub(super) fn spatial_input(&mut self, input: ValueId, n: usize) -> Result<Vec<Dim>, Fault> {
        let shape = self.graph.shape(input);
        if shape.len() != n + 2 {
            let rank = shape.len();
            return Err(Fault::Mismatch(format!("`{}` takes a rank of {}, got {rank}", self.name, n + 2)));
        }
        self.graph.confirm_rank(input);
        Ok(shape)
    }
}

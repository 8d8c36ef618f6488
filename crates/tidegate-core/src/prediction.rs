//! What a prediction says, apart from how it is laid out: what kind of answer an output is, the one number or class that it
//! comes down to, and how much two answers to the same request differ.
//!
//! Pure functions of tensors, for serving and for the protocols. They know no model: the kind of an output is read from its
//! data type, shape and values. Start reading at [`compare`] and [`Predictions`].

mod compare;
mod deviation;
mod layout;
mod numbers;
mod observe;

pub use compare::{Difference, OutputDifference, Tolerance, compare};
pub use deviation::{Deviation, OutputDeviation, Reading};
pub use observe::{Predictions, observe};

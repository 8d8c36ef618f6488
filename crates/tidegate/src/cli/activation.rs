//! `--activation`: asked for where neither an item nor the model's file tells.

use clap::ValueEnum;
use tidegate_geo::Activation;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActivationArg {
    /// The output is a probability already
    None,
    Sigmoid,
    Softmax,
}

impl From<ActivationArg> for Activation {
    fn from(argument: ActivationArg) -> Self {
        match argument {
            ActivationArg::None => Self::AlreadyProbability,
            ActivationArg::Sigmoid => Self::Sigmoid,
            ActivationArg::Softmax => Self::Softmax,
        }
    }
}

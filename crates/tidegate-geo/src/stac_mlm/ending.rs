//! What a model's last operator tells of its output. A fact beside the item's word: where the two contradict each other,
//! one of them is wrong, and a double sigmoid or a missing one goes unnoticed until somebody looks at the map.

use super::{Activation, ItemFault, ModelItem};

/// By the operator that computes the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ends in this activation: it gives probabilities.
    Activated(Activation),
    /// The values are unbounded: they are logits, or no probabilities at all.
    Unbounded,
    /// It tells nothing.
    Unknown,
}

impl Ending {
    /// `operator` by its ONNX name.
    pub fn of_operator(operator: &str) -> Self {
        match operator {
            "Sigmoid" | "HardSigmoid" => Self::Activated(Activation::Sigmoid),
            "Softmax" => Self::Activated(Activation::Softmax),
            "Conv"
            | "ConvTranspose"
            | "Gemm"
            | "MatMul"
            | "Add"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "ConvInteger"
            | "QLinearConv"
            | "LogSoftmax" => Self::Unbounded,
            _ => Self::Unknown,
        }
    }

    /// Where the item's word contradicts the model.
    pub fn contradiction(self, item: &ModelItem) -> Option<ItemFault> {
        let said = item.output.activation;
        let message = match (self, said) {
            (Self::Activated(own), Activation::Sigmoid | Activation::Softmax) => format!(
                "`{}` would be applied a second time: the model ends in its own {}; give null",
                said.name(),
                own.name()
            ),
            (Self::Unbounded, Activation::AlreadyProbability) if item.output.activation_is_said => {
                "null says that the model gives probabilities, but it ends in an unbounded operator: give `sigmoid` or \
                 `softmax`"
                    .to_owned()
            }
            (Self::Unbounded, Activation::AlreadyProbability) => {
                "missing, and the model ends in an unbounded operator: give `sigmoid` or `softmax`".to_owned()
            }
            _ => return None,
        };
        Some(ItemFault { pointer: "/properties/mlm:output/0/post_processing_function".to_owned(), message })
    }
}

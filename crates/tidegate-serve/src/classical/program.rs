//! A graph made ready to run: its nodes in their order, each with its kernel and the places of its values.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tidegate_core::{NamedTensor, TensorSpec};

use super::SPEAKER;
use super::array::Array;
use super::model::{self, Graph, Node};
use super::operators::{self, Inputs, Kernel};
use crate::load_error::LoadError;
use crate::onnx_file::OnnxFile;
use crate::runtime::RunError;

pub(super) struct Program {
    inputs: Vec<(String, usize)>,
    steps: Vec<Step>,
    outputs: Vec<(TensorSpec, usize)>,
    /// What each place holds when a run begins: weights.
    weights: Vec<Option<Arc<Array>>>,
}

struct Step {
    operator: String,
    kernel: Kernel,
    inputs: Vec<Option<usize>>,
    /// Outputs that nothing uses have no place.
    outputs: Vec<Option<usize>>,
}

impl Program {
    pub(super) fn load(path: &Path, file: &OnnxFile, fix: &str) -> Result<Self, LoadError> {
        let graph = model::read(path)?;
        Builder::new(file, fix).build(graph, file)
    }

    pub(super) fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        let mut values = self.weights.clone();
        for input in inputs {
            let fault = |reason: String| RunError::Input { name: input.name.clone(), reason };
            let known = self.inputs.iter().find(|(name, _)| *name == input.name);
            let (_, place) = known.ok_or_else(|| fault("the model has no such input".to_owned()))?;
            values[*place] = Some(Arc::new(Array::from_tensor(&input.tensor).map_err(fault)?));
        }
        if let Some((name, _)) = self.inputs.iter().find(|(_, place)| values[*place].is_none()) {
            return Err(RunError::Input { name: name.clone(), reason: "it is missing".to_owned() });
        }
        for step in &self.steps {
            let fault = |reason: String| RunError::Failed {
                message: format!("the operator `{}` {reason}", step.operator),
            };
            let given = step.inputs.iter().map(|place| place.and_then(|place| values[place].as_deref()));
            let made = (step.kernel)(&Inputs(given.collect())).map_err(fault)?;
            for (place, array) in step.outputs.iter().zip(made) {
                if let Some(place) = place {
                    values[*place] = Some(Arc::new(array));
                }
            }
        }
        self.outputs.iter().map(|(spec, place)| output(spec, values[*place].take())).collect()
    }
}

fn output(spec: &TensorSpec, value: Option<Arc<Array>>) -> Result<NamedTensor, RunError> {
    let fault = |reason: String| RunError::Output { name: spec.name.clone(), reason };
    let value = value.ok_or_else(|| fault("the model does not compute it".to_owned()))?;
    let array = Arc::unwrap_or_clone(value);
    let tensor = array.into_tensor().map_err(|error| fault(error.to_string()))?;
    if tensor.dtype() != spec.datatype {
        return Err(fault(format!(
            "{SPEAKER} gave {} where the model declares {}",
            tensor.dtype(),
            spec.datatype
        )));
    }
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

struct Builder<'a> {
    fix: &'a str,
    opset: u64,
    places: HashMap<String, usize>,
    weights: Vec<Option<Arc<Array>>>,
    steps: Vec<Step>,
}

impl<'a> Builder<'a> {
    fn new(file: &OnnxFile, fix: &'a str) -> Self {
        // A file that uses no standard operators need not say their version.
        let opset = file.opset.unwrap_or(u64::MAX);
        Self { fix, opset, places: HashMap::new(), weights: vec![], steps: vec![] }
    }

    fn build(mut self, graph: Graph, file: &OnnxFile) -> Result<Program, LoadError> {
        if graph.has_sparse_weights {
            return Err(self.refused("the model has sparse weights".to_owned()));
        }
        // Before anything else, so that what a file lacks most is what its author reads.
        if let Some(node) = graph.nodes.iter().find(|node| operators::find(&node.operator).is_none()) {
            return Err(LoadError::UnsupportedOperator {
                operator: node.operator.name.clone(),
                domain: node.operator.domain.clone(),
                runtime: SPEAKER,
                fix: self.fix.to_owned(),
            });
        }
        for weight in graph.weights {
            let array = weight
                .values
                .map_err(|reason| self.refused(format!("the weight `{}` {reason}", weight.name)))?;
            let place = self.new_place(weight.name);
            self.weights[place] = Some(Arc::new(array));
        }
        let inputs =
            file.inputs.iter().map(|spec| (spec.name.clone(), self.new_place(spec.name.clone()))).collect();
        for node in graph.nodes {
            let step = self.step(node)?;
            self.steps.push(step);
        }
        let mut outputs = vec![];
        for output in &file.outputs {
            let place = self.places.get(&output.name).copied();
            let place = place
                .ok_or_else(|| self.invalid(format!("nothing computes the output `{}`", output.name)))?;
            let shape = output.shape.clone().unwrap_or_default();
            outputs.push((TensorSpec { name: output.name.clone(), datatype: output.datatype, shape }, place));
        }
        // The same value under two names would be taken by the first.
        let mut taken: Vec<usize> = outputs.iter().map(|(_, place)| *place).collect();
        taken.sort_unstable();
        taken.dedup();
        if taken.len() != outputs.len() {
            return Err(self.invalid("it gives one output twice".to_owned()));
        }
        Ok(Program { inputs, steps: self.steps, outputs, weights: self.weights })
    }

    fn step(&mut self, node: Node) -> Result<Step, LoadError> {
        let build = operators::find(&node.operator);
        let name = node.operator.name;
        let build = build.ok_or_else(|| self.invalid(format!("`{name}` is unknown")))?;
        let kernel = build(&node.attributes, self.opset)
            .map_err(|reason| self.refused(format!("the operator `{name}` {reason}")))?;
        let mut inputs = vec![];
        for input in node.inputs {
            inputs.push(match input.as_str() {
                "" => None,
                input => {
                    let place = self.places.get(input).copied();
                    let unknown =
                        || format!("the operator `{name}` uses `{input}` before anything computes it");
                    Some(place.ok_or_else(|| self.invalid(unknown()))?)
                }
            });
        }
        let mut outputs = vec![];
        for output in node.outputs {
            if self.places.contains_key(&output) {
                return Err(self.invalid(format!("two operators compute `{output}`")));
            }
            outputs.push((!output.is_empty()).then(|| self.new_place(output)));
        }
        Ok(Step { operator: name, kernel, inputs, outputs })
    }

    fn new_place(&mut self, name: String) -> usize {
        self.weights.push(None);
        self.places.insert(name, self.weights.len() - 1);
        self.weights.len() - 1
    }

    /// Something that ONNX Runtime may well run.
    fn refused(&self, subject: String) -> LoadError {
        LoadError::Unsupported { subject, fix: self.fix.to_owned() }
    }

    /// Something that nothing runs.
    fn invalid(&self, message: String) -> LoadError {
        LoadError::Runtime { runtime: SPEAKER, message }
    }
}

//! Which axes of the inputs can vary: the freest choice that the program accepts.
//!
//! A trace may have sizes written into it. So the program is run with every axis open that could be, and again with fewer
//! where it asked for a number. Running it costs little: no weights are touched.

use std::rc::Rc;

use crate::error::ConvertError;
use crate::fault::Fault;
use crate::graph::{Dim, Fixable, Graph, ValueId};
use crate::heap::Value;
use crate::interpret::Interpreter;
use crate::pickle::Module;
use crate::source::Program;
use crate::source::ast::{Expression, Function};
use crate::{Converted, Options};

/// The graph of a module, ready to be written.
pub(crate) struct Traced {
    graph: Graph,
    operators: Vec<String>,
}

impl Traced {
    pub(crate) fn write(self, opset: i64) -> Result<Converted, ConvertError> {
        let inputs = self.graph.inputs().iter().map(|input| input.name.clone()).collect();
        let written = self.graph.write(opset)?;
        Ok(Converted {
            onnx: written.onnx,
            inputs,
            operators: self.operators,
            n_nodes: written.n_nodes,
            n_parameters: written.n_parameters,
        })
    }
}

/// Which axes are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axes {
    /// The batch, and all from the third on.
    BatchAndSpace,
    /// The batch, and those given as -1.
    Batch,
    /// Those given as -1.
    AsGiven,
}

/// Ranks to try for inputs whose shape is not given: images, rows of features, sequences, volumes.
const RANKS: [usize; 4] = [4, 2, 3, 5];

/// More inputs are no model.
const MAX_INPUTS: usize = 256;

/// Also what ends a result that contains itself.
const MAX_OUTPUTS: usize = 10_000;

pub(crate) fn trace(program: &Program, module: &Module, options: &Options) -> Result<Traced, ConvertError> {
    let forward = forward(program, module)?;
    let names = input_names(&forward)?;
    match &options.input_shapes {
        Some(shapes) => {
            check_shapes(shapes, &names)?;
            trace_given(program, module, &forward, shapes, options.opset)
        }
        None => trace_guessed(program, module, &forward, names.len(), options.opset),
    }
}

fn forward(program: &Program, module: &Module) -> Result<Rc<Function>, ConvertError> {
    let class = &module.heap.object(module.root).class;
    let missing = || ConvertError::malformed(format!("`{class}` has no method `forward`"));
    program.method(class, "forward").cloned().ok_or_else(missing)
}

/// Tensors are inputs; parameters with a default keep it.
fn input_names(forward: &Function) -> Result<Vec<Rc<str>>, ConvertError> {
    let mut names = vec![];
    for parameter in forward.parameters.iter().skip(1) {
        match &parameter.annotation {
            Some(Expression::Name(kind)) if &**kind == "Tensor" => names.push(Rc::clone(&parameter.name)),
            None => names.push(Rc::clone(&parameter.name)),
            _ if parameter.default.is_some() => {}
            Some(kind) => {
                let found = kind_name(kind);
                return Err(ConvertError::UnsupportedInput { name: parameter.name.to_string(), found });
            }
        }
    }
    if names.len() > MAX_INPUTS {
        return Err(ConvertError::Limit {
            what: "the number of inputs".to_owned(),
            limit: MAX_INPUTS as u64,
        });
    }
    Ok(names)
}

fn kind_name(kind: &Expression) -> String {
    let path = match kind {
        Expression::Item(base, _) => base.path(),
        other => other.path(),
    };
    path.map_or_else(|| "something else".to_owned(), |path| format!("a `{}`", path.join(".")))
}

fn check_shapes(shapes: &[Vec<i64>], names: &[Rc<str>]) -> Result<(), ConvertError> {
    if shapes.len() != names.len() {
        let (given, expected, names) = (shapes.len(), names.len(), names.join(", "));
        return Err(ConvertError::InputShapesMismatch { given, expected, names });
    }
    let is_size = |size: &i64| *size == -1 || (1..=1 << 32).contains(size);
    match shapes.iter().find(|shape| shape.len() > 16 || !shape.iter().all(is_size)) {
        None => Ok(()),
        Some(shape) => {
            let why = format!("{shape:?} is no shape: sizes are 1 or more, or -1 for any");
            Err(ConvertError::ShapeMismatch { why, location: "`input_shapes`".to_owned() })
        }
    }
}

fn trace_given(
    program: &Program,
    module: &Module,
    forward: &Rc<Function>,
    shapes: &[Vec<i64>],
    opset: i64,
) -> Result<Traced, ConvertError> {
    let mut last = None;
    for axes in [Axes::BatchAndSpace, Axes::Batch, Axes::AsGiven] {
        let mut attempt = Attempt::new(program, module, opset);
        attempt.add_inputs(forward, shapes, axes);
        match attempt.run(forward) {
            Ok(outputs) if axes == Axes::AsGiven || attempt.is_batch_kept(&outputs) => {
                return Ok(attempt.finish(outputs));
            }
            Ok(_) => {}
            Err(Failure::Run(fault)) if fault.depends_on_shapes() => {
                last = Some(attempt.interpreter.fail(fault))
            }
            Err(failure) => return Err(attempt.error(failure)),
        }
    }
    Err(last.unwrap_or_else(|| ConvertError::malformed("the outputs depend on no input")))
}

/// Without shapes, a rank is accepted only where a layer that takes it was applied to the input.
fn trace_guessed(
    program: &Program,
    module: &Module,
    forward: &Rc<Function>,
    n_inputs: usize,
    opset: i64,
) -> Result<Traced, ConvertError> {
    let mut best = None;
    for (rank, batch) in RANKS.into_iter().flat_map(|rank| [(rank, -1), (rank, 1)]) {
        let shape: Vec<i64> = std::iter::once(batch).chain(vec![-1; rank - 1]).collect();
        let mut attempt = Attempt::new(program, module, opset);
        attempt.add_inputs(forward, &vec![shape; n_inputs], Axes::AsGiven);
        let result = attempt.run(forward);
        let is_confirmed = attempt.interpreter.graph.inputs().iter().all(|input| input.is_rank_confirmed);
        match result {
            Ok(outputs) if is_confirmed && (batch == 1 || attempt.is_batch_kept(&outputs)) => {
                return Ok(attempt.finish(outputs));
            }
            Ok(_) => {}
            // What fails where a layer has confirmed the rank says best what is missing.
            Err(Failure::Run(fault)) if fault.depends_on_shapes() => {
                let error = attempt.interpreter.fail(Fault::OpenAxis(fault.why()));
                if is_confirmed && batch == 1 {
                    return Err(error);
                }
                best.get_or_insert(error);
            }
            Err(failure) => return Err(attempt.error(failure)),
        }
    }
    let why = "no layer says what shape it takes".to_owned();
    let location = forward.file.to_string();
    Err(best.unwrap_or(ConvertError::InputShapeNeeded { why, location }))
}

struct Attempt<'p> {
    interpreter: Interpreter<'p>,
    program: &'p Program,
    root: Value,
    /// The batch axis that inputs share, where it is open, and its size as given.
    batch: Option<(Dim, i64)>,
}

enum Failure {
    Run(Fault),
    Output { found: String },
}

type Outputs = Vec<(String, ValueId)>;

impl<'p> Attempt<'p> {
    fn new(program: &'p Program, module: &'p Module, opset: i64) -> Self {
        let interpreter = Interpreter::new(program, module, opset);
        Self { interpreter, program, root: Value::Object(module.root), batch: None }
    }

    fn error(&self, failure: Failure) -> ConvertError {
        match failure {
            Failure::Run(fault) => self.interpreter.fail(fault),
            Failure::Output { found } => ConvertError::UnsupportedOutput { found },
        }
    }

    /// Inputs have the type of the weights until a layer asks for something else.
    fn add_inputs(&mut self, forward: &Function, shapes: &[Vec<i64>], axes: Axes) {
        let names = input_names(forward).unwrap_or_default();
        let dtype = self.interpreter.graph.weight_dtype();
        for (input, (name, shape)) in names.iter().zip(shapes).enumerate() {
            let sizes = shape.iter().enumerate();
            let dims = sizes.map(|(axis, size)| self.axis((input, axis), *size, axes)).collect();
            self.interpreter.graph.add_input(name, dtype, dims);
        }
    }

    fn axis(&mut self, at: (usize, usize), size: i64, axes: Axes) -> Dim {
        let symbols = self.interpreter.graph.symbols_mut();
        let is_open = size == -1
            || match at.1 {
                0 => axes != Axes::AsGiven,
                1 => false,
                _ => axes == Axes::BatchAndSpace,
            };
        match (at.1, self.batch) {
            _ if !is_open => Dim::Fixed(size),
            (0, Some((batch, given))) if given == size || given == -1 || size == -1 => batch,
            (0, Some(_)) => Dim::Fixed(size),
            (0, None) => {
                let batch = symbols.add_axis(at.0, at.1, Fixable::Never);
                self.batch = Some((batch, size));
                batch
            }
            _ => symbols.add_axis(at.0, at.1, if size == -1 { Fixable::ToAny } else { Fixable::To(size) }),
        }
    }

    fn run(&mut self, forward: &Rc<Function>) -> Result<Outputs, Failure> {
        let inputs: Vec<_> =
            self.interpreter.graph.inputs().iter().map(|input| (input.name.clone(), input.value)).collect();
        let named =
            inputs.into_iter().map(|(name, value)| (name.into(), self.interpreter.heap.add_tensor(value)));
        let named = named.collect();
        let result =
            self.interpreter.call_function(forward, vec![self.root.clone()], named).map_err(Failure::Run)?;
        self.outputs(result)
    }

    /// The tensors of the result: one is `output`, several are numbered, those of a dictionary have their keys.
    fn outputs(&self, result: Value) -> Result<Outputs, Failure> {
        let mut outputs = vec![];
        let mut open = vec![("output".to_owned(), result)];
        while let Some((name, value)) = open.pop() {
            let before = open.len();
            match value {
                Value::Tensor(tensor) => {
                    let value =
                        self.interpreter.heap.tensor(tensor).map_err(|stale| Failure::Run(stale.into()))?;
                    outputs.push((name, value));
                }
                Value::List(list) | Value::Tuple(list) => {
                    let items = self.interpreter.heap.list(list).iter().enumerate();
                    open.extend(items.map(|(index, item)| (format!("{name}_{index}"), item.clone())));
                }
                Value::Dict(dict) => {
                    let entries = &self.interpreter.heap.dict(dict).entries;
                    open.extend(entries.iter().map(|(key, item)| (key.to_string(), item.clone())));
                }
                Value::Object(object) => {
                    let object = self.interpreter.heap.object(object);
                    let class = self
                        .program
                        .class(&object.class)
                        .filter(|class| class.base.as_deref() == Some("NamedTuple"));
                    let Some(class) = class else {
                        return Err(Failure::Output { found: "an object".to_owned() });
                    };
                    let field = |(name, _): &(Rc<str>, _)| {
                        Some((name.to_string(), object.attributes.get(name)?.clone()))
                    };
                    open.extend(class.fields.iter().filter_map(field));
                }
                // What a model gives in training only.
                Value::None => {}
                other => return Err(Failure::Output { found: other.kind().to_owned() }),
            }
            // Taken from the end, so that they come out in order.
            open[before..].reverse();
            if open.len() > MAX_OUTPUTS || outputs.len() > MAX_OUTPUTS {
                return Err(Failure::Output { found: "thousands of tensors".to_owned() });
            }
        }
        if outputs.is_empty() { Err(Failure::Output { found: "nothing".to_owned() }) } else { Ok(outputs) }
    }

    /// Every output begins with the batch axis of the inputs; otherwise more than one sample at once is mixed up.
    fn is_batch_kept(&self, outputs: &Outputs) -> bool {
        let graph = &self.interpreter.graph;
        self.batch.is_some_and(|(batch, _)| {
            outputs.iter().all(|(_, value)| graph.shape(*value).first() == Some(&batch))
        })
    }

    fn finish(mut self, outputs: Outputs) -> Traced {
        self.interpreter.graph.set_outputs(outputs);
        Traced { graph: self.interpreter.graph, operators: self.interpreter.operators.into_iter().collect() }
    }
}

//! Runs `forward` once, symbolically: what Python would compute is computed, what torch would compute becomes a graph.
//!
//! Knows the language, not the operators: those are in `operators`. A branch or a loop that depends on the values of the
//! input is a fault, as is one that depends on the size of an axis that varies.

mod access;
mod call;
mod evaluate;
mod host;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::error::ConvertError;
use crate::fault::Fault;
use crate::graph::{Dim, Graph, Number};
use crate::heap::{Heap, Value};
use crate::source::Program;
use crate::source::ast::{Function, Name, Statement, StatementKind, Target};

/// Statements and expressions, many times what the largest networks take.
const MAX_STEPS: u64 = 2_000_000;
/// What a network of a hundred thousand layers would need; weights do not count.
const MAX_GRAPH_BYTES: usize = 64 << 20;
/// Calls, blocks and expressions around the current one; bounds the stack.
const MAX_DEPTH: usize = 300;

pub(crate) struct Interpreter<'p> {
    program: &'p Program,
    /// What the program calls `CONSTANTS.c0`...
    constants: &'p [Value],
    pub(crate) heap: Heap,
    pub(crate) graph: Graph,
    /// Operators that were met, as `aten::relu`.
    pub(crate) operators: BTreeSet<String>,
    opset: i64,
    /// The module says of itself that it is being trained.
    is_training: bool,
    file: Rc<str>,
    line: u32,
    n_steps: u64,
    depth: usize,
}

type Variables = HashMap<Name, Value>;

enum Flow {
    Next,
    Return(Value),
    Break,
    Continue,
}

impl<'p> Interpreter<'p> {
    pub(crate) fn new(program: &'p Program, module: &'p crate::pickle::Module, opset: i64) -> Self {
        let training = module.heap.object(module.root).attributes.get("training");
        Self {
            program,
            constants: &module.constants,
            heap: module.heap.clone(),
            graph: module.graph.clone(),
            operators: BTreeSet::new(),
            opset,
            is_training: matches!(training, Some(Value::Bool(true))),
            file: "code".into(),
            line: 0,
            n_steps: 0,
            depth: 0,
        }
    }

    /// Where the program is, or was when it failed.
    pub(crate) fn location(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    pub(crate) fn fail(&self, fault: Fault) -> ConvertError {
        fault.at(self.location())
    }

    /// Runs a function. Parameters without an argument take their default.
    pub(crate) fn call_function(
        &mut self,
        function: &Rc<Function>,
        arguments: Vec<Value>,
        named: Vec<(Name, Value)>,
    ) -> Result<Value, Fault> {
        if arguments.len() > function.parameters.len() {
            return Err(Fault::Code(format!("a call of `{}` with too many arguments", function.name)));
        }
        let mut variables: Variables = named.into_iter().collect();
        let mut arguments = arguments.into_iter();
        for parameter in &function.parameters {
            if let Some(argument) = arguments.next() {
                variables.insert(Rc::clone(&parameter.name), argument);
            } else if !variables.contains_key(&parameter.name) {
                let Some(default) = &parameter.default else {
                    let what = format!("a call of `{}` without `{}`", function.name, parameter.name);
                    return Err(Fault::Code(what));
                };
                let default = self.evaluate(default, &variables)?;
                variables.insert(Rc::clone(&parameter.name), default);
            }
        }
        let caller = (std::mem::replace(&mut self.file, Rc::clone(&function.file)), self.line);
        let flow = self.deeper(|this| this.run_block(&function.body, &mut variables))?;
        // Not after a failure, nor at the end: then the place is the last one.
        if self.depth > 0 {
            (self.file, self.line) = caller;
        }
        Ok(match flow {
            Flow::Return(value) => value,
            Flow::Next | Flow::Break | Flow::Continue => Value::None,
        })
    }

    fn run_block(&mut self, statements: &[Statement], variables: &mut Variables) -> Result<Flow, Fault> {
        for statement in statements {
            self.line = statement.line;
            self.spend(1)?;
            match self.run_statement(&statement.kind, variables)? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn run_statement(&mut self, statement: &StatementKind, variables: &mut Variables) -> Result<Flow, Fault> {
        match statement {
            StatementKind::Assign { target, value } => {
                let value = self.evaluate(value, variables)?;
                self.assign(target, value, variables)?;
            }
            StatementKind::Expression(expression) => _ = self.evaluate(expression, variables)?,
            StatementKind::Return(None) => return Ok(Flow::Return(Value::None)),
            StatementKind::Return(Some(value)) => return self.evaluate(value, variables).map(Flow::Return),
            StatementKind::If { test, then, otherwise } => {
                let test = self.evaluate(test, variables)?;
                let block = if self.truth(&test)? { then } else { otherwise };
                return self.deeper(|this| this.run_block(block, variables));
            }
            StatementKind::For { target, iterable, body } => {
                let iterable = self.evaluate(iterable, variables)?;
                for item in self.items(&iterable)? {
                    self.assign(target, item, variables)?;
                    match self.deeper(|this| this.run_block(body, variables))? {
                        Flow::Next | Flow::Continue => {}
                        Flow::Break => break,
                        flow @ Flow::Return(_) => return Ok(flow),
                    }
                }
            }
            StatementKind::While { test, body } => loop {
                let test = self.evaluate(test, variables)?;
                if !self.truth(&test)? {
                    break;
                }
                match self.deeper(|this| this.run_block(body, variables))? {
                    Flow::Next | Flow::Continue => {}
                    Flow::Break => break,
                    flow @ Flow::Return(_) => return Ok(flow),
                }
            },
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
            StatementKind::Pass => {}
        }
        Ok(Flow::Next)
    }

    fn assign(&mut self, target: &Target, value: Value, variables: &mut Variables) -> Result<(), Fault> {
        match target {
            Target::Name(name) => _ = variables.insert(Rc::clone(name), value),
            Target::Attribute(base, name) => {
                let Value::Object(object) = self.evaluate(base, variables)? else {
                    return Err(Fault::Code("an attribute of what is no object".to_owned()));
                };
                self.heap.object_mut(object).attributes.insert(Rc::clone(name), value);
            }
            Target::Item(base, index) => {
                let (base, index) = (self.evaluate(base, variables)?, self.evaluate(index, variables)?);
                self.set_item(&base, &index, value)?;
            }
            Target::Unpack(targets) => {
                let items = self.items(&value)?;
                if items.len() != targets.len() {
                    let what = format!("{} values where {} are expected", items.len(), targets.len());
                    return Err(Fault::Mismatch(what));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.deeper(|this| this.assign(target, item, variables))?;
                }
            }
        }
        Ok(())
    }

    /// Python's truth of a value. That of a tensor would have to be computed by the model.
    fn truth(&self, value: &Value) -> Result<bool, Fault> {
        Ok(match value {
            Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(dim) => match self.graph.symbols().resolve(*dim) {
                Dim::Fixed(value) => value != 0,
                Dim::Symbol(_) => {
                    return Err(Fault::OpenAxis("a condition on the size of an axis".to_owned()));
                }
            },
            Value::Float(value) => *value != 0.0,
            Value::Scaled { .. } => {
                return Err(Fault::OpenAxis("a condition on the size of an axis".to_owned()));
            }
            Value::Str(text) => !text.is_empty(),
            Value::List(list) | Value::Tuple(list) => !self.heap.list(*list).is_empty(),
            Value::Dict(dict) => !self.heap.dict(*dict).entries.is_empty(),
            Value::Tensor(tensor) => {
                let number = self.graph.number(self.heap.tensor(*tensor)?).ok_or(Fault::DataDependent)?;
                number != Number::Bool(false) && number.as_f64() != 0.0
            }
            Value::Object(_) | Value::Code(_) => true,
        })
    }

    /// Counts work: a statement, an expression, an element of a list that is read or made. That bounds time, and the memory
    /// of what the program makes.
    fn spend(&mut self, n_steps: usize) -> Result<(), Fault> {
        self.n_steps = self.n_steps.saturating_add(n_steps as u64);
        if self.n_steps > MAX_STEPS {
            return Err(Fault::Limit { what: "the number of steps of the program", limit: MAX_STEPS });
        }
        if self.graph.n_bytes() > MAX_GRAPH_BYTES {
            return Err(Fault::Limit {
                what: "the size of the graph in bytes",
                limit: MAX_GRAPH_BYTES as u64,
            });
        }
        Ok(())
    }

    /// How much there is to walk through.
    fn length(&self, value: &Value) -> usize {
        match value {
            Value::List(list) | Value::Tuple(list) => self.heap.list(*list).len(),
            Value::Dict(dict) => self.heap.dict(*dict).entries.len(),
            Value::Str(text) => text.len(),
            _ => 0,
        }
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::Limit { what: "the depth of calls", limit: MAX_DEPTH as u64 });
        }
        let result = run(self);
        self.depth -= 1;
        result
    }
}

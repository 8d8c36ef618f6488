//! Calls: of methods, of functions of the program, of the language's own, and of operators.

use std::rc::Rc;

use super::{Interpreter, Variables, host};
use crate::fault::Fault;
use crate::heap::{TensorId, Value};
use crate::operators::{self, Call};
use crate::source::ast::{self, Expression, Name};

impl Interpreter<'_> {
    pub(super) fn call(&mut self, call: &ast::Call, variables: &Variables) -> Result<Value, Fault> {
        let path = call.function.path().filter(|path| !variables.contains_key(path[0]));
        if let Some(value) = self.special_form(call, path.as_deref(), variables)? {
            return Ok(value);
        }
        let target = match (&call.function, path.as_deref()) {
            (_, Some(["torch" | "ops", ..])) => None,
            (_, Some(["__torch__", .., "__new__"])) => None,
            (_, Some(["__torch__", ..])) => Some(self.evaluate(&call.function, variables)?),
            (Expression::Attribute(base, _), _) => Some(self.evaluate(base, variables)?),
            (_, Some(_)) => None,
            (function, None) => Some(self.evaluate(function, variables)?),
        };
        let arguments = self.evaluate_all(&call.arguments, variables)?;
        let mut named = vec![];
        for (name, value) in &call.named {
            named.push((Rc::clone(name), self.evaluate(value, variables)?));
        }
        match (path.as_deref(), target) {
            (Some(["torch", name]), None) => self.operator("aten", name, arguments, named),
            (Some(["ops", namespace, name]), None) => self.operator(namespace, name, arguments, named),
            (Some(["__torch__", .., "__new__"]), None) => match arguments.as_slice() {
                [Value::Code(class)] => Ok(self.heap.add_object(Rc::clone(class))),
                _ => Err(Fault::Code("an object of what is no class".to_owned())),
            },
            (Some([name]), None) => self.operator("aten", builtin_operator(name)?, arguments, named),
            (_, Some(Value::Code(code))) => self.call_code(&code, arguments, named),
            (_, Some(Value::Object(object))) => {
                let Expression::Attribute(_, method) = &call.function else {
                    return Err(Fault::Code("a call of an object".to_owned()));
                };
                let class = Rc::clone(&self.heap.object(object).class);
                self.call_method(&class, method, Value::Object(object), arguments, named)
            }
            _ => Err(Fault::Code("a call that is not understood".to_owned())),
        }
    }

    /// What looks like a call but takes types, or does not evaluate all its arguments.
    fn special_form(
        &mut self,
        call: &ast::Call,
        path: Option<&[&str]>,
        variables: &Variables,
    ) -> Result<Option<Value>, Fault> {
        let value = match (path, call.arguments.as_slice()) {
            (Some(["annotate" | "unchecked_cast"]), [_, value]) => self.evaluate(value, variables)?,
            (Some(["uninitialized"]), _) => Value::None,
            (Some(["isinstance"]), [value, kind]) => {
                let value = self.evaluate(value, variables)?;
                Value::Bool(self.is_instance(&value, kind)?)
            }
            (Some(["getattr"]), [object, name]) => {
                let (object, name) = (self.evaluate(object, variables)?, self.evaluate(name, variables)?);
                let (Value::Object(object), Value::Str(name)) = (object, name) else {
                    return Err(Fault::Code("getattr of what is no object".to_owned()));
                };
                self.attribute(object, &name)?
            }
            (Some(["hasattr"]), [object, name]) => {
                let (object, name) = (self.evaluate(object, variables)?, self.evaluate(name, variables)?);
                let (Value::Object(object), Value::Str(name)) = (object, name) else {
                    return Err(Fault::Code("hasattr of what is no object".to_owned()));
                };
                Value::Bool(self.attribute(object, &name).is_ok())
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    fn is_instance(&self, value: &Value, kind: &Expression) -> Result<bool, Fault> {
        let name = match kind {
            Expression::Name(name) => &**name,
            Expression::Item(base, _) => {
                base.path().and_then(|path| path.first().copied()).unwrap_or_default()
            }
            _ => "",
        };
        Ok(match name {
            "Tensor" => matches!(value, Value::Tensor(_)),
            "int" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_) | Value::Scaled { .. }),
            "bool" => matches!(value, Value::Bool(_)),
            "str" => matches!(value, Value::Str(_)),
            "List" | "list" => matches!(value, Value::List(_)),
            "Tuple" | "tuple" => matches!(value, Value::Tuple(_)),
            "Dict" | "dict" => matches!(value, Value::Dict(_)),
            "NoneType" => matches!(value, Value::None),
            _ => return Err(Fault::Code("a type test".to_owned())),
        })
    }

    fn call_code(
        &mut self,
        name: &str,
        arguments: Vec<Value>,
        named: Vec<(Name, Value)>,
    ) -> Result<Value, Fault> {
        if let Some(function) = self.program.function(name) {
            let function = Rc::clone(function);
            return self.call_function(&function, arguments, named);
        }
        let Some(class) = self.program.class(name) else {
            return Err(Fault::malformed(format!("the archive has no code for `{name}`")));
        };
        if class.base.as_deref() != Some("NamedTuple") {
            let object = self.heap.add_object(name.into());
            self.call_method(name, "__init__", object.clone(), arguments, named)?;
            return Ok(object);
        }
        let fields = class.fields.iter().map(|(field, _)| Rc::clone(field));
        let attributes: Vec<_> = fields.zip(arguments).chain(named).collect();
        let value = self.heap.add_object(name.into());
        if let Value::Object(object) = value {
            self.heap.object_mut(object).attributes.extend(attributes);
        }
        Ok(value)
    }

    pub(crate) fn call_method(
        &mut self,
        class: &str,
        method: &str,
        object: Value,
        arguments: Vec<Value>,
        named: Vec<(Name, Value)>,
    ) -> Result<Value, Fault> {
        let Some(function) = self.program.method(class, method) else {
            return Err(Fault::malformed(format!("`{class}` has no method `{method}`")));
        };
        let function = Rc::clone(function);
        self.call_function(&function, [vec![object], arguments].concat(), named)
    }

    /// Computes now what Python would, adds to the graph what torch would.
    pub(super) fn operator(
        &mut self,
        namespace: &str,
        name: &str,
        arguments: Vec<Value>,
        named: Vec<(Name, Value)>,
    ) -> Result<Value, Fault> {
        let n_read: usize = arguments.iter().map(|argument| self.length(argument)).sum();
        self.spend(n_read)?;
        let value = self.operator_value(namespace, name, arguments, named)?;
        self.spend(self.length(&value))?;
        Ok(value)
    }

    fn operator_value(
        &mut self,
        namespace: &str,
        name: &str,
        arguments: Vec<Value>,
        named: Vec<(Name, Value)>,
    ) -> Result<Value, Fault> {
        let base = in_place_base(namespace, name);
        let mut call = Call {
            graph: &mut self.graph,
            heap: &mut self.heap,
            opset: self.opset,
            name: base.unwrap_or(name),
            arguments,
            named,
        };
        if base.is_none()
            && let Some(value) = host::call(&mut call)?
        {
            return Ok(value);
        }
        let full_name = format!("{namespace}::{name}");
        let found = operators::find(namespace, call.name);
        let emit = found.ok_or_else(|| Fault::Operator(full_name.clone()))?;
        self.operators.insert(full_name.clone());
        let Some(_) = base else { return emit(&mut call) };
        let Some(Value::Tensor(written)) = call.arguments.first().cloned() else {
            return Err(Fault::Operator(full_name));
        };
        let result = emit(&mut call)?;
        self.write_back(written, &result, &full_name)?;
        Ok(Value::Tensor(written))
    }

    /// An in-place operator is the plain one, whose result its first argument then holds, in that one's type.
    fn write_back(&mut self, written: TensorId, result: &Value, name: &str) -> Result<(), Fault> {
        let Value::Tensor(result) = result else { return Err(Fault::Operator(name.to_owned())) };
        let (before, result) = (self.heap.tensor(written)?, self.heap.tensor(*result)?);
        if self.graph.is_parameter(before) {
            let what = format!("{name} on a weight or buffer of the module");
            return Err(if self.is_training { Fault::Training } else { Fault::Operator(what) });
        }
        let value = self.graph.cast(result, self.graph.dtype(before))?;
        if value != before {
            self.heap.write_tensor(written, value);
        }
        Ok(())
    }
}

/// `relu_` writes what `relu` computes; `__and__` and `pow` write nothing.
fn in_place_base<'a>(namespace: &str, name: &'a str) -> Option<&'a str> {
    name.strip_suffix('_').filter(|base| namespace == "aten" && !base.ends_with('_') && !base.is_empty())
}

/// The names of the language's own functions, as operators.
fn builtin_operator(name: &str) -> Result<&'static str, Fault> {
    Ok(match name {
        "int" => "Int",
        "float" => "Float",
        "bool" => "Bool",
        "str" => "str",
        "len" => "len",
        "range" => "range",
        "list" => "list",
        "dict" => "dict",
        "min" => "min",
        "max" => "max",
        "abs" => "abs",
        "print" => "Print",
        "ord" | "chr" | "hex" | "bin" => return Err(Fault::Code(format!("`{name}`"))),
        _ => return Err(Fault::malformed(format!("`{name}` is not defined"))),
    })
}

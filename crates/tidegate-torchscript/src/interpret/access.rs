//! Reading and writing what containers hold: attributes, items, elements.

use std::rc::Rc;

use super::{Interpreter, Variables};
use crate::fault::Fault;
use crate::graph::Dim;
use crate::heap::{Key, ObjectId, Value};

/// Longer lists and texts are no program that torch wrote.
pub(super) const MAX_LIST: usize = 100_000;

impl Interpreter<'_> {
    /// An attribute of an object, or a constant of its class.
    pub(super) fn attribute(&mut self, object: ObjectId, name: &str) -> Result<Value, Fault> {
        let object = self.heap.object(object);
        if let Some(value) = object.attributes.get(name) {
            return Ok(value.clone());
        }
        let fields = self.program.class(&object.class).map(|class| &class.fields);
        let field = fields.and_then(|fields| fields.iter().find(|(field, _)| &**field == name));
        match field {
            Some((_, Some(constant))) => self.evaluate(constant, &Variables::new()),
            _ => Err(Fault::malformed(format!("`{}` has no `{name}`", object.class))),
        }
    }

    /// What a `for` or an unpacking meets.
    pub(super) fn items(&mut self, value: &Value) -> Result<Vec<Value>, Fault> {
        self.spend(self.length(value))?;
        match value {
            Value::List(list) | Value::Tuple(list) => Ok(self.heap.list(*list).clone()),
            Value::Dict(dict) => {
                Ok(self.heap.dict(*dict).entries.iter().map(|(key, _)| key_value(key)).collect())
            }
            Value::Tensor(_) => self.unbind(value),
            other => Err(Fault::Code(format!("going through {}", other.kind()))),
        }
    }

    pub(super) fn item(&mut self, container: &Value, index: &Value) -> Result<Value, Fault> {
        match container {
            Value::List(list) | Value::Tuple(list) => {
                let list = self.heap.list(*list);
                let at = position(self.fixed(index)?, list.len()).ok_or_else(|| outside(index))?;
                Ok(list[at].clone())
            }
            Value::Dict(dict) => {
                let key = self.key(index)?;
                let missing = || Fault::Raised(format!("a dictionary has no such key: {key:?}"));
                self.heap.dict(*dict).get(&key).cloned().ok_or_else(missing)
            }
            Value::Tensor(_) => {
                self.operator("aten", "select", vec![container.clone(), Value::int(0), index.clone()], vec![])
            }
            other => Err(Fault::Code(format!("an item of {}", other.kind()))),
        }
    }

    pub(super) fn set_item(&mut self, container: &Value, index: &Value, value: Value) -> Result<(), Fault> {
        match container {
            Value::List(list) => {
                let index_value = self.fixed(index)?;
                let list = self.heap.list_mut(*list);
                let at = position(index_value, list.len()).ok_or_else(|| outside(index))?;
                list[at] = value;
            }
            Value::Dict(dict) => {
                let key = self.key(index)?;
                self.heap.dict_mut(*dict).insert(key, value);
            }
            other => return Err(Fault::Code(format!("writing an item of {}", other.kind()))),
        }
        Ok(())
    }

    pub(super) fn key(&self, value: &Value) -> Result<Key, Fault> {
        match value {
            Value::Str(text) => Ok(Key::Str(Rc::clone(text))),
            other => self.fixed(other).map(Key::Int),
        }
    }

    /// A whole number that is known now.
    pub(super) fn fixed(&self, value: &Value) -> Result<i64, Fault> {
        match value {
            Value::Int(dim) => match self.graph.symbols().resolve(*dim) {
                Dim::Fixed(value) => Ok(value),
                Dim::Symbol(_) => {
                    Err(Fault::OpenAxis("an index that depends on the size of an axis".to_owned()))
                }
            },
            Value::Bool(value) => Ok(i64::from(*value)),
            Value::Tensor(tensor) => {
                let number = self.graph.number(self.heap.tensor(*tensor)?);
                number.map(|number| number.as_i64()).ok_or(Fault::DataDependent)
            }
            other => Err(Fault::Code(format!("{} where an integer was expected", other.kind()))),
        }
    }

    fn unbind(&mut self, tensor: &Value) -> Result<Vec<Value>, Fault> {
        match self.operator("aten", "unbind", vec![tensor.clone()], vec![])? {
            Value::List(list) => Ok(self.heap.list(list).clone()),
            other => Err(Fault::malformed(format!("unbind gave {}", other.kind()))),
        }
    }
}

pub(super) fn key_value(key: &Key) -> Value {
    match key {
        Key::Str(text) => Value::Str(Rc::clone(text)),
        Key::Int(value) => Value::int(*value),
    }
}

/// Python's index: from the end where it is negative.
pub(super) fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index.checked_add(length)? } else { index };
    usize::try_from(index).ok().filter(|_| index < length)
}

fn outside(index: &Value) -> Fault {
    Fault::Raised(format!("an index is outside its list: {index:?}"))
}

//! Expressions.

use std::rc::Rc;

use super::{Interpreter, Variables};
use crate::fault::Fault;
use crate::heap::{Dict, Value};
use crate::source::ast::Expression;

impl Interpreter<'_> {
    pub(super) fn evaluate(
        &mut self,
        expression: &Expression,
        variables: &Variables,
    ) -> Result<Value, Fault> {
        match expression {
            Expression::None => Ok(Value::None),
            Expression::Bool(value) => Ok(Value::Bool(*value)),
            Expression::Int(value) => Ok(Value::int(*value)),
            Expression::Float(value) => Ok(Value::Float(*value)),
            Expression::Str(text) => Ok(Value::Str(Rc::clone(text))),
            Expression::Name(name) => {
                variables.get(name).cloned().ok_or_else(|| Fault::malformed(format!("`{name}` has no value")))
            }
            _ => self.deeper(|this| this.evaluate_parts(expression, variables)),
        }
    }

    fn evaluate_parts(&mut self, expression: &Expression, variables: &Variables) -> Result<Value, Fault> {
        self.spend(1)?;
        match expression {
            Expression::Attribute(base, name) => match self.code_or_constant(expression, variables)? {
                Some(value) => Ok(value),
                None => match self.evaluate(base, variables)? {
                    Value::Object(object) => self.attribute(object, name),
                    other => Err(Fault::Code(format!("`{name}` of {}", other.kind()))),
                },
            },
            Expression::Item(base, index) => {
                let (base, index) = (self.evaluate(base, variables)?, self.evaluate(index, variables)?);
                self.item(&base, &index)
            }
            Expression::Call(call) => self.call(call, variables),
            Expression::List(items) => {
                self.spend(items.len())?;
                let items = self.evaluate_all(items, variables)?;
                Ok(self.heap.add_list(items))
            }
            Expression::Tuple(items) => {
                self.spend(items.len())?;
                let items = self.evaluate_all(items, variables)?;
                Ok(self.heap.add_tuple(items))
            }
            Expression::Dict(items) => {
                let mut dict = Dict::default();
                for (key, value) in items {
                    let key = self.evaluate(key, variables)?;
                    let value = self.evaluate(value, variables)?;
                    dict.insert(self.key(&key)?, value);
                }
                Ok(self.heap.add_dict(dict))
            }
            Expression::Unary(operator, operand) => {
                let operand = self.evaluate(operand, variables)?;
                self.operator("aten", operator, vec![operand], vec![])
            }
            Expression::Binary(operator, operands) => {
                let left = self.evaluate(&operands.0, variables)?;
                let right = self.evaluate(&operands.1, variables)?;
                self.operator("aten", operator, vec![left, right], vec![])
            }
            Expression::Logic(is_and, operands) => {
                let left = self.evaluate(&operands.0, variables)?;
                if self.truth(&left)? == *is_and { self.evaluate(&operands.1, variables) } else { Ok(left) }
            }
            Expression::Conditional(parts) => {
                let test = self.evaluate(&parts.test, variables)?;
                let part = if self.truth(&test)? { &parts.then } else { &parts.otherwise };
                self.evaluate(part, variables)
            }
            _ => self.evaluate(expression, variables),
        }
    }

    pub(super) fn evaluate_all(
        &mut self,
        expressions: &[Expression],
        variables: &Variables,
    ) -> Result<Vec<Value>, Fault> {
        expressions.iter().map(|expression| self.evaluate(expression, variables)).collect()
    }

    /// `CONSTANTS.c0`, or the qualified name of a class or function.
    fn code_or_constant(
        &self,
        expression: &Expression,
        variables: &Variables,
    ) -> Result<Option<Value>, Fault> {
        let Some(path) = expression.path().filter(|path| !variables.contains_key(path[0])) else {
            return Ok(None);
        };
        match path.as_slice() {
            ["CONSTANTS", name] => {
                let index = name.strip_prefix('c').and_then(|index| index.parse::<usize>().ok());
                let constant = index.and_then(|index| self.constants.get(index)).cloned();
                constant.map(Some).ok_or_else(|| Fault::malformed(format!("there is no constant `{name}`")))
            }
            ["__torch__", ..] => Ok(Some(Value::Code(path.join(".").into()))),
            _ => Ok(None),
        }
    }
}

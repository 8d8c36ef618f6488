//! Expressions: Python's, by precedence climbing.

use super::ast::{Call, Conditional, Expression, Name};
use super::lexer::{SyntaxError, Token};
use super::parser::Parser;

/// Nesting, and the length of a chain of operators: what makes trees deep, and walking them needs stack.
const MAX_DEPTH: usize = 100;

/// What binds how tightly, and the torch operator that it means.
fn binary(token: &Token) -> Option<(u8, &'static str)> {
    let Token::Mark(mark) = token else { return None };
    Some(match *mark {
        "==" => (1, "eq"),
        "!=" => (1, "ne"),
        "<" => (1, "lt"),
        "<=" => (1, "le"),
        ">" => (1, "gt"),
        ">=" => (1, "ge"),
        "|" => (2, "__or__"),
        "&" => (3, "__and__"),
        "+" => (4, "add"),
        "-" => (4, "sub"),
        "*" => (5, "mul"),
        "/" => (5, "div"),
        "//" => (5, "floordiv"),
        "%" => (5, "remainder"),
        "**" => (6, "pow"),
        _ => return None,
    })
}

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Expression, SyntaxError> {
        self.deeper(|parser| {
            let then = parser.logic(false)?;
            if !parser.accept_word("if") {
                return Ok(then);
            }
            let test = parser.logic(false)?;
            parser.expect_word("else")?;
            let otherwise = parser.expression()?;
            Ok(Expression::Conditional(Box::new(Conditional { test, then, otherwise })))
        })
    }

    /// One or more expressions; with a comma, a tuple.
    pub(super) fn expressions(&mut self) -> Result<Expression, SyntaxError> {
        let first = self.expression()?;
        if !self.accept(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while !self.is_at_end_of_list() {
            items.push(self.expression()?);
            if !self.accept(",") {
                break;
            }
        }
        Ok(Expression::Tuple(items))
    }

    fn is_at_end_of_list(&self) -> bool {
        matches!(self.peek(), Token::Newline | Token::End | Token::Mark("=" | ")" | "]" | "}" | ":"))
    }

    fn logic(&mut self, is_and: bool) -> Result<Expression, SyntaxError> {
        let mut left = if is_and { self.negation()? } else { self.logic(true)? };
        let mut length = 0;
        while self.accept_word(if is_and { "and" } else { "or" }) {
            length = self.longer(length)?;
            let right = if is_and { self.negation()? } else { self.logic(true)? };
            left = Expression::Logic(is_and, Box::new((left, right)));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Expression, SyntaxError> {
        if self.accept_word("not") {
            let operand = self.deeper(Self::negation)?;
            return Ok(Expression::Unary("__not__", Box::new(operand)));
        }
        self.operation(1)
    }

    fn operation(&mut self, least: u8) -> Result<Expression, SyntaxError> {
        let mut left = self.unary()?;
        let mut length = 0;
        loop {
            length = self.longer(length)?;
            if least <= 1 && self.peek_word("is") {
                left = self.identity(left)?;
                continue;
            }
            if least <= 1 && self.accept_word("in") {
                let right = self.operation(2)?;
                left = Expression::Binary("__contains__", Box::new((right, left)));
                continue;
            }
            let Some((precedence, name)) = binary(self.peek()).filter(|(precedence, _)| *precedence >= least)
            else {
                return Ok(left);
            };
            self.next();
            let right = self.deeper(|parser| parser.operation(precedence + 1))?;
            left = Expression::Binary(name, Box::new((left, right)));
        }
    }

    fn identity(&mut self, left: Expression) -> Result<Expression, SyntaxError> {
        self.expect_word("is")?;
        let name = if self.accept_word("not") { "__isnot__" } else { "__is__" };
        let right = self.operation(2)?;
        Ok(Expression::Binary(name, Box::new((left, right))))
    }

    fn unary(&mut self) -> Result<Expression, SyntaxError> {
        if !self.accept("-") {
            return self.postfix();
        }
        Ok(match self.deeper(Self::unary)? {
            Expression::Int(value) => Expression::Int(value.wrapping_neg()),
            Expression::Float(value) => Expression::Float(-value),
            operand => Expression::Unary("neg", Box::new(operand)),
        })
    }

    fn postfix(&mut self) -> Result<Expression, SyntaxError> {
        let mut expression = self.atom()?;
        let mut length = 0;
        loop {
            length = self.longer(length)?;
            if self.accept(".") {
                let name = self.expect_name()?;
                expression = Expression::Attribute(Box::new(expression), name);
            } else if self.accept("(") {
                expression = self.call(expression)?;
            } else if self.accept("[") {
                let index = self.expressions()?;
                self.expect("]")?;
                expression = Expression::Item(Box::new(expression), Box::new(index));
            } else {
                return Ok(expression);
            }
        }
    }

    fn call(&mut self, function: Expression) -> Result<Expression, SyntaxError> {
        let (mut arguments, mut named) = (vec![], vec![]);
        while !self.accept(")") {
            let argument = self.expression()?;
            match argument {
                Expression::Name(name) if self.accept("=") => named.push((name, self.expression()?)),
                argument => arguments.push(argument),
            }
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(Expression::Call(Box::new(Call { function, arguments, named })))
    }

    fn atom(&mut self) -> Result<Expression, SyntaxError> {
        match self.next() {
            Token::Int(value) => Ok(Expression::Int(value)),
            Token::Float(value) => Ok(Expression::Float(value)),
            Token::Str(text) => Ok(Expression::Str(text)),
            Token::Name(name) => Ok(named(name)),
            Token::Mark("(") => {
                if self.accept(")") {
                    return Ok(Expression::Tuple(vec![]));
                }
                let inner = self.expressions()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Mark("[") => {
                let mut items = vec![];
                while !self.accept("]") {
                    items.push(self.expression()?);
                    if !self.accept(",") {
                        self.expect("]")?;
                        break;
                    }
                }
                Ok(Expression::List(items))
            }
            Token::Mark("{") => self.dictionary(),
            other => self.error(format!("an expression was expected, not {other:?}")),
        }
    }

    fn dictionary(&mut self) -> Result<Expression, SyntaxError> {
        let mut items = vec![];
        while !self.accept("}") {
            let key = self.expression()?;
            self.expect(":")?;
            items.push((key, self.expression()?));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expression::Dict(items))
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("an expression that is nested too deeply");
        }
        let result = parse(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn longer(&self, length: usize) -> Result<usize, SyntaxError> {
        if length >= MAX_DEPTH { self.error("an expression that is too long") } else { Ok(length + 1) }
    }
}

fn named(name: Name) -> Expression {
    match &*name {
        "None" => Expression::None,
        "True" => Expression::Bool(true),
        "False" => Expression::Bool(false),
        "inf" => Expression::Float(f64::INFINITY),
        "nan" => Expression::Float(f64::NAN),
        _ => Expression::Name(name),
    }
}

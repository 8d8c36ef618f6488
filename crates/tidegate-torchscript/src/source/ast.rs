//! The trees that program text becomes.

use std::collections::HashMap;
use std::rc::Rc;

pub(crate) type Name = Rc<str>;

pub(crate) struct Class {
    pub(crate) name: Name,
    /// `Module`, `NamedTuple`, or nothing.
    pub(crate) base: Option<Name>,
    /// In order, with the value of those that are constants.
    pub(crate) fields: Vec<(Name, Option<Expression>)>,
    pub(crate) methods: HashMap<Name, Rc<Function>>,
}

pub(crate) struct Function {
    pub(crate) name: Name,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Vec<Statement>,
    /// The path of the text, for messages.
    pub(crate) file: Rc<str>,
}

pub(crate) struct Parameter {
    pub(crate) name: Name,
    pub(crate) annotation: Option<Expression>,
    pub(crate) default: Option<Expression>,
}

pub(crate) struct Statement {
    pub(crate) line: u32,
    pub(crate) kind: StatementKind,
}

pub(crate) enum StatementKind {
    Assign { target: Target, value: Expression },
    Expression(Expression),
    Return(Option<Expression>),
    If { test: Expression, then: Vec<Statement>, otherwise: Vec<Statement> },
    For { target: Target, iterable: Expression, body: Vec<Statement> },
    While { test: Expression, body: Vec<Statement> },
    Break,
    Continue,
    Pass,
}

pub(crate) enum Target {
    Name(Name),
    Attribute(Expression, Name),
    Item(Expression, Expression),
    /// `a, b, = value`
    Unpack(Vec<Target>),
}

#[derive(Clone)]
pub(crate) enum Expression {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    Name(Name),
    Attribute(Box<Expression>, Name),
    Item(Box<Expression>, Box<Expression>),
    Call(Box<Call>),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Dict(Vec<(Expression, Expression)>),
    /// `-` and `not`, by the name of the operator that they mean.
    Unary(&'static str, Box<Expression>),
    Binary(&'static str, Box<(Expression, Expression)>),
    /// `and` (true) or `or` (false): the second part may not be evaluated.
    Logic(bool, Box<(Expression, Expression)>),
    Conditional(Box<Conditional>),
}

#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) function: Expression,
    pub(crate) arguments: Vec<Expression>,
    pub(crate) named: Vec<(Name, Expression)>,
}

#[derive(Clone)]
pub(crate) struct Conditional {
    pub(crate) test: Expression,
    pub(crate) then: Expression,
    pub(crate) otherwise: Expression,
}

impl Expression {
    /// `a.b.c` as its names, where it is nothing but names.
    pub(crate) fn path(&self) -> Option<Vec<&str>> {
        let mut names = vec![];
        let mut expression = self;
        while let Self::Attribute(base, name) = expression {
            names.push(&**name);
            expression = base;
        }
        let Self::Name(first) = expression else { return None };
        names.push(first);
        names.reverse();
        Some(names)
    }
}

//! Classes, functions and statements.

use std::collections::HashMap;
use std::rc::Rc;

use super::ast::{Class, Expression, Function, Name, Parameter, Statement, StatementKind, Target};
use super::lexer::{SyntaxError, Token, tokens};
use crate::archive::CodeFile;
use crate::error::ConvertError;

pub(super) struct Items {
    pub(super) classes: Vec<Class>,
    pub(super) functions: Vec<Rc<Function>>,
}

pub(super) fn parse(file: &CodeFile) -> Result<Items, ConvertError> {
    let path: Rc<str> = format!("code/{}.py", file.module.replace('.', "/")).into();
    let parsed = tokens(&file.text)
        .and_then(|tokens| Parser { tokens, position: 0, depth: 0, file: Rc::clone(&path) }.items());
    parsed.map_err(|(line, what)| ConvertError::UnsupportedCode { what, location: format!("{path}:{line}") })
}

pub(super) struct Parser {
    tokens: Vec<(u32, Token)>,
    position: usize,
    /// Open expressions around the current one.
    pub(super) depth: usize,
    file: Rc<str>,
}

impl Parser {
    fn items(mut self) -> Result<Items, SyntaxError> {
        let mut items = Items { classes: vec![], functions: vec![] };
        loop {
            if *self.peek() == Token::End {
                return Ok(items);
            } else if self.accept_word("class") {
                let class = self.class()?;
                items.classes.push(class);
            } else if self.accept_word("def") {
                items.functions.push(Rc::new(self.function()?));
            } else if self.peek_word("import") || self.peek_word("from") {
                self.skip_line(); // torch before 1.4
            } else {
                self.statement()?; // `op_version_set = 1`, before 1.4 too
            }
        }
    }

    fn class(&mut self) -> Result<Class, SyntaxError> {
        let name = self.expect_name()?;
        let mut base = None;
        if self.accept("(") {
            while !self.accept(")") {
                base = Some(self.expect_name()?);
                self.accept(",");
            }
        }
        let mut class = Class { name, base, fields: vec![], methods: HashMap::new() };
        self.expect(":")?;
        self.block(|parser| {
            if parser.accept_word("def") {
                let method = parser.function()?;
                class.methods.insert(Rc::clone(&method.name), Rc::new(method));
            } else if let Some(field) = parser.field()? {
                class.fields.push(field);
            }
            Ok(())
        })?;
        Ok(class)
    }

    /// `name : Type`, `name : Final[Type] = value`; lists of names (`__parameters__ = [...]`) mean nothing here.
    fn field(&mut self) -> Result<Option<(Name, Option<Expression>)>, SyntaxError> {
        if self.accept_word("pass") {
            self.expect_newline()?;
            return Ok(None);
        }
        let target = self.expression()?;
        let is_typed = self.accept(":");
        if is_typed {
            self.expression()?;
        }
        let value = if self.accept("=") { Some(self.expressions()?) } else { None };
        self.expect_newline()?;
        Ok(match target {
            Expression::Name(name) if is_typed => Some((name, value)),
            _ => None,
        })
    }

    fn function(&mut self) -> Result<Function, SyntaxError> {
        let name = self.expect_name()?;
        self.expect("(")?;
        let mut parameters = vec![];
        while !self.accept(")") {
            let name = self.expect_name()?;
            let annotation = if self.accept(":") { Some(self.expression()?) } else { None };
            let default = if self.accept("=") { Some(self.expression()?) } else { None };
            parameters.push(Parameter { name, annotation, default });
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        if self.accept("->") {
            self.expression()?;
        }
        self.expect(":")?;
        Ok(Function { name, parameters, body: self.statements()?, file: Rc::clone(&self.file) })
    }

    fn statements(&mut self) -> Result<Vec<Statement>, SyntaxError> {
        let mut statements = vec![];
        self.block(|parser| {
            statements.extend(parser.statement()?);
            Ok(())
        })?;
        Ok(statements)
    }

    fn block(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), SyntaxError>,
    ) -> Result<(), SyntaxError> {
        self.expect_newline()?;
        if self.next() != Token::Indent {
            return self.error("an indented block was expected");
        }
        while *self.peek() != Token::Dedent {
            if *self.peek() == Token::End {
                return self.error("the text ends inside a block");
            }
            item(self)?;
        }
        self.next();
        Ok(())
    }

    /// `None` for a declaration without a value.
    fn statement(&mut self) -> Result<Option<Statement>, SyntaxError> {
        let line = self.line();
        let kind = self.statement_kind()?;
        Ok(kind.map(|kind| Statement { line, kind }))
    }

    fn statement_kind(&mut self) -> Result<Option<StatementKind>, SyntaxError> {
        if self.accept_word("if") {
            return self.conditional().map(Some);
        }
        if self.accept_word("for") {
            let target = self.expression()?;
            // `x in y` reads as one expression.
            let Expression::Binary("__contains__", parts) = target else {
                return self.error("a `for` that is not understood");
            };
            let (iterable, target) = *parts;
            let target = self.target(target)?;
            self.expect(":")?;
            return Ok(Some(StatementKind::For { target, iterable, body: self.statements()? }));
        }
        if self.accept_word("while") {
            let test = self.expression()?;
            self.expect(":")?;
            return Ok(Some(StatementKind::While { test, body: self.statements()? }));
        }
        let kind = self.simple_statement()?;
        self.expect_newline()?;
        Ok(kind)
    }

    fn simple_statement(&mut self) -> Result<Option<StatementKind>, SyntaxError> {
        for (word, kind) in [
            ("pass", StatementKind::Pass),
            ("break", StatementKind::Break),
            ("continue", StatementKind::Continue),
        ] {
            if self.accept_word(word) {
                return Ok(Some(kind));
            }
        }
        if self.accept_word("return") {
            let value = if *self.peek() == Token::Newline { None } else { Some(self.expressions()?) };
            return Ok(Some(StatementKind::Return(value)));
        }
        let first = self.expressions()?;
        if self.accept(":") {
            self.expression()?;
            if *self.peek() == Token::Newline {
                return Ok(None);
            }
        }
        if !self.accept("=") {
            return Ok(Some(StatementKind::Expression(first)));
        }
        let value = self.expressions()?;
        Ok(Some(StatementKind::Assign { target: self.target(first)?, value }))
    }

    fn target(&self, expression: Expression) -> Result<Target, SyntaxError> {
        match expression {
            Expression::Name(name) => Ok(Target::Name(name)),
            Expression::Attribute(base, name) => Ok(Target::Attribute(*base, name)),
            Expression::Item(base, index) => Ok(Target::Item(*base, *index)),
            Expression::Tuple(items) => {
                items.into_iter().map(|item| self.target(item)).collect::<Result<_, _>>().map(Target::Unpack)
            }
            _ => self.error("an assignment to what cannot be assigned to"),
        }
    }

    fn conditional(&mut self) -> Result<StatementKind, SyntaxError> {
        let test = self.expression()?;
        self.expect(":")?;
        let then = self.statements()?;
        let line = self.line();
        let otherwise = if self.accept_word("elif") {
            let kind = self.deeper_statement(Self::conditional)?;
            vec![Statement { line, kind }]
        } else if self.accept_word("else") {
            self.expect(":")?;
            self.statements()?
        } else {
            vec![]
        };
        Ok(StatementKind::If { test, then, otherwise })
    }

    /// `elif` nests without indentation.
    fn deeper_statement(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<StatementKind, SyntaxError>,
    ) -> Result<StatementKind, SyntaxError> {
        const MAX_BRANCHES: usize = 100;
        self.depth += 1;
        if self.depth > MAX_BRANCHES {
            return self.error("too many branches");
        }
        let result = parse(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn skip_line(&mut self) {
        while !matches!(self.next(), Token::Newline | Token::End) {}
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.position).map_or(0, |(line, _)| *line)
    }

    pub(super) fn peek(&self) -> &Token {
        self.tokens.get(self.position).map_or(&Token::End, |(_, token)| token)
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    pub(super) fn peek_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(name) if &**name == word)
    }

    pub(super) fn accept_word(&mut self, word: &str) -> bool {
        let is_there = self.peek_word(word);
        self.position += usize::from(is_there);
        is_there
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), SyntaxError> {
        if self.accept_word(word) { Ok(()) } else { self.error(format!("`{word}` was expected")) }
    }

    pub(super) fn accept(&mut self, mark: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Mark(found) if *found == mark);
        self.position += usize::from(is_there);
        is_there
    }

    pub(super) fn expect(&mut self, mark: &str) -> Result<(), SyntaxError> {
        if self.accept(mark) {
            Ok(())
        } else {
            self.error(format!("`{mark}` was expected, not {:?}", self.peek()))
        }
    }

    pub(super) fn expect_name(&mut self) -> Result<Name, SyntaxError> {
        match self.next() {
            Token::Name(name) => Ok(name),
            other => self.error(format!("a name was expected, not {other:?}")),
        }
    }

    fn expect_newline(&mut self) -> Result<(), SyntaxError> {
        match self.next() {
            Token::Newline => Ok(()),
            other => self.error(format!("a line end was expected, not {other:?}")),
        }
    }

    pub(super) fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err((self.line(), message.into()))
    }
}

//! The program text of an archive: the small subset of Python that torch writes, parsed into trees.
//!
//! The grammar is that of torch/csrc/jit/serialization/python_print.cpp: classes with fields and methods, functions,
//! assignments, `if`, `for`, `while`, calls. Anything else is an error with its place.

pub(crate) mod ast;
mod expression;
mod lexer;
mod parser;

use std::collections::HashMap;
use std::rc::Rc;

use crate::archive::CodeFile;
use crate::error::ConvertError;
use ast::{Class, Function};

/// All classes and functions, by qualified name (`__torch__.torch.nn.functional.relu`).
pub(crate) struct Program {
    classes: HashMap<Rc<str>, Class>,
    functions: HashMap<Rc<str>, Rc<Function>>,
}

impl Program {
    pub(crate) fn parse(files: &[CodeFile]) -> Result<Self, ConvertError> {
        let mut program = Self { classes: HashMap::new(), functions: HashMap::new() };
        for file in files {
            let items = parser::parse(file)?;
            for class in items.classes {
                program.classes.insert(format!("{}.{}", file.module, class.name).into(), class);
            }
            for function in items.functions {
                program.functions.insert(format!("{}.{}", file.module, function.name).into(), function);
            }
        }
        Ok(program)
    }

    pub(crate) fn class(&self, name: &str) -> Option<&Class> {
        self.classes.get(name)
    }

    pub(crate) fn function(&self, name: &str) -> Option<&Rc<Function>> {
        self.functions.get(name)
    }

    pub(crate) fn method(&self, class: &str, name: &str) -> Option<&Rc<Function>> {
        self.classes.get(class)?.methods.get(name)
    }
}

//! Sizes of axes: numbers, or expressions in the sizes of the inputs' axes.
//!
//! Expressions are kept in a normal form and shared, so that equal ones usually are the same symbol: a convolution that
//! keeps its size keeps its symbol, and `2 * (h / 2)` is told apart from `h`.

use std::collections::HashMap;

use crate::fault::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SymbolId(usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dim {
    Fixed(i64),
    Symbol(SymbolId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Add,
    Sub,
    Mul,
    /// Rounds down. Operands are sizes, so they are not negative in a model that runs.
    Div,
    Mod,
}

/// Whether a layer may say what the size of an axis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixable {
    /// The batch.
    Never,
    /// Nothing is known of it.
    ToAny,
    /// The size that was given.
    To(i64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Definition {
    /// The size of an axis of an input.
    Axis {
        input: usize,
        axis: usize,
        fixable: Fixable,
    },
    /// Found to be another: a layer asked for it.
    Same(Dim),
    Of(Operation, Dim, Dim),
}

/// A product of this many factors is no tensor's size.
const MAX_FACTORS: usize = 64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols {
    definitions: Vec<Definition>,
    known: HashMap<(Operation, Dim, Dim), SymbolId>,
}

impl Symbols {
    pub(crate) fn add_axis(&mut self, input: usize, axis: usize, fixable: Fixable) -> Dim {
        self.define(Definition::Axis { input, axis, fixable })
    }

    /// The size of an axis of an input, so at least one.
    pub(crate) fn is_axis(&self, symbol: SymbolId) -> bool {
        matches!(self.definitions[symbol.0], Definition::Axis { .. })
    }

    pub(crate) fn definition(&self, symbol: SymbolId) -> Definition {
        self.definitions[symbol.0]
    }

    /// The same size, as simple as it is known by now.
    pub(crate) fn resolve(&self, mut dim: Dim) -> Dim {
        while let Dim::Symbol(symbol) = dim {
            match self.definitions[symbol.0] {
                Definition::Same(other) => dim = other,
                Definition::Axis { .. } | Definition::Of(..) => break,
            }
        }
        dim
    }

    /// Makes two sizes equal: numbers must be, an axis of an input may become the other, and two expressions are taken to
    /// be equal (the runtime finds out where they are not). Returns the simpler one.
    pub(crate) fn unify(&mut self, left: Dim, right: Dim) -> Result<Dim, Fault> {
        match (self.resolve(left), self.resolve(right)) {
            (left, right) if left == right => Ok(left),
            (Dim::Fixed(left), Dim::Fixed(right)) => {
                Err(Fault::Mismatch(format!("an axis of size {left} meets one of size {right}")))
            }
            (Dim::Symbol(symbol), Dim::Fixed(size)) | (Dim::Fixed(size), Dim::Symbol(symbol)) => {
                self.fix(symbol, size)?;
                Ok(Dim::Fixed(size))
            }
            (Dim::Symbol(left), Dim::Symbol(right)) => Ok(Dim::Symbol(left.min(right))),
        }
    }

    fn fix(&mut self, symbol: SymbolId, size: i64) -> Result<(), Fault> {
        match self.definitions[symbol.0] {
            Definition::Axis { fixable: Fixable::To(given), .. } if given != size => {
                return Err(Fault::Mismatch(format!("an axis of size {given} meets one of size {size}")));
            }
            Definition::Axis { fixable: Fixable::To(_) | Fixable::ToAny, .. } => {}
            _ => return Err(Fault::OpenAxis(format!("an axis that varies must have size {size}"))),
        }
        self.definitions[symbol.0] = Definition::Same(Dim::Fixed(size));
        // Definitions only look back, so one pass finds everything that has become a number.
        for index in 0..self.definitions.len() {
            if let Definition::Of(operation, left, right) = self.definitions[index]
                && let (Dim::Fixed(left), Dim::Fixed(right)) = (self.resolve(left), self.resolve(right))
            {
                self.definitions[index] = Definition::Same(Dim::Fixed(fold(operation, left, right)?));
            }
        }
        Ok(())
    }

    pub(crate) fn apply(&mut self, operation: Operation, left: Dim, right: Dim) -> Result<Dim, Fault> {
        let (left, right) = (self.resolve(left), self.resolve(right));
        if let (Dim::Fixed(left), Dim::Fixed(right)) = (left, right) {
            return fold(operation, left, right).map(Dim::Fixed);
        }
        match (operation, left, right) {
            (Operation::Add, Dim::Fixed(constant), symbol)
            | (Operation::Add, symbol, Dim::Fixed(constant)) => self.add_constant(symbol, constant),
            (Operation::Sub, symbol, Dim::Fixed(constant)) => {
                self.add_constant(symbol, constant.checked_neg().ok_or_else(Fault::overflow)?)
            }
            (Operation::Sub, left, right) => self.subtract(left, right),
            (Operation::Mul, Dim::Fixed(constant), symbol)
            | (Operation::Mul, symbol, Dim::Fixed(constant)) => self.multiply_constant(symbol, constant),
            (Operation::Div, left, right) => self.divide(left, right),
            (Operation::Mod, _, Dim::Fixed(1)) => Ok(Dim::Fixed(0)),
            (Operation::Add | Operation::Mul, Dim::Symbol(left), Dim::Symbol(right)) => {
                Ok(self.expression(operation, Dim::Symbol(left.min(right)), Dim::Symbol(left.max(right))))
            }
            (operation, left, right) => Ok(self.expression(operation, left, right)),
        }
    }

    fn add_constant(&mut self, dim: Dim, constant: i64) -> Result<Dim, Fault> {
        let (base, before) = self.split_constant(dim, Operation::Add, 0);
        match before.checked_add(constant).ok_or_else(Fault::overflow)? {
            0 => Ok(base),
            constant => Ok(self.expression(Operation::Add, base, Dim::Fixed(constant))),
        }
    }

    fn multiply_constant(&mut self, dim: Dim, constant: i64) -> Result<Dim, Fault> {
        let (base, before) = self.split_constant(dim, Operation::Mul, 1);
        match before.checked_mul(constant).ok_or_else(Fault::overflow)? {
            0 => Ok(Dim::Fixed(0)),
            1 => Ok(base),
            constant => Ok(self.expression(Operation::Mul, base, Dim::Fixed(constant))),
        }
    }

    fn subtract(&mut self, left: Dim, right: Dim) -> Result<Dim, Fault> {
        let (left_base, left_constant) = self.split_constant(left, Operation::Add, 0);
        let (right_base, right_constant) = self.split_constant(right, Operation::Add, 0);
        if left_base == right_base {
            return left_constant.checked_sub(right_constant).map(Dim::Fixed).ok_or_else(Fault::overflow);
        }
        Ok(self.expression(Operation::Sub, left, right))
    }

    fn divide(&mut self, left: Dim, right: Dim) -> Result<Dim, Fault> {
        let Dim::Fixed(divisor) = right else {
            return match self.quotient(&[left], &[right])? {
                Some(quotient) => Ok(quotient),
                None => Ok(self.expression(Operation::Div, left, right)),
            };
        };
        if divisor <= 0 {
            return Err(Fault::malformed("division by zero or less"));
        }
        // floor((b + c) / d) = floor((b + c mod d) / d) + floor(c / d)
        let (base, constant) = self.split_constant(left, Operation::Add, 0);
        let (whole, rest) = (constant.div_euclid(divisor), constant.rem_euclid(divisor));
        let (factor_base, factor) = self.split_constant(base, Operation::Mul, 1);
        let quotient = if factor % divisor == 0 {
            self.multiply_constant(factor_base, factor / divisor)?
        } else {
            let numerator = self.add_constant(base, rest)?;
            self.expression(Operation::Div, numerator, right)
        };
        self.apply(Operation::Add, quotient, Dim::Fixed(whole))
    }

    /// `dim` as `base operation constant`.
    fn split_constant(&self, dim: Dim, operation: Operation, neutral: i64) -> (Dim, i64) {
        if let Dim::Symbol(symbol) = dim
            && let Definition::Of(of, base, Dim::Fixed(constant)) = self.definitions[symbol.0]
            && of == operation
        {
            return (self.resolve(base), constant);
        }
        (dim, neutral)
    }

    fn expression(&mut self, operation: Operation, left: Dim, right: Dim) -> Dim {
        if let Some(symbol) = self.known.get(&(operation, left, right)) {
            return self.resolve(Dim::Symbol(*symbol));
        }
        let dim = self.define(Definition::Of(operation, left, right));
        if let Dim::Symbol(symbol) = dim {
            self.known.insert((operation, left, right), symbol);
        }
        dim
    }

    fn define(&mut self, definition: Definition) -> Dim {
        self.definitions.push(definition);
        Dim::Symbol(SymbolId(self.definitions.len() - 1))
    }

    pub(crate) fn product(&mut self, dims: &[Dim]) -> Result<Dim, Fault> {
        dims.iter().try_fold(Dim::Fixed(1), |product, dim| self.apply(Operation::Mul, product, *dim))
    }

    /// The product of `numerators` over that of `denominators`, where it is provably whole.
    pub(crate) fn quotient(
        &mut self,
        numerators: &[Dim],
        denominators: &[Dim],
    ) -> Result<Option<Dim>, Fault> {
        let (above, mut above_symbols) = self.factors(numerators)?;
        let (below, below_symbols) = self.factors(denominators)?;
        for symbol in below_symbols {
            match above_symbols.iter().position(|other| *other == symbol) {
                Some(index) => above_symbols.remove(index),
                None => return Ok(None),
            };
        }
        if below == 0 || above % below != 0 {
            return Ok(None);
        }
        let symbols: Vec<_> = above_symbols.into_iter().map(Dim::Symbol).collect();
        let product = self.product(&symbols)?;
        self.apply(Operation::Mul, product, Dim::Fixed(above / below)).map(Some)
    }

    /// The constant and the symbols that the product of `dims` is made of, products taken apart.
    fn factors(&self, dims: &[Dim]) -> Result<(i64, Vec<SymbolId>), Fault> {
        let (mut constant, mut symbols) = (1i64, vec![]);
        let mut open = dims.to_vec();
        while let Some(dim) = open.pop() {
            match self.resolve(dim) {
                Dim::Fixed(size) => constant = constant.checked_mul(size).ok_or_else(Fault::overflow)?,
                Dim::Symbol(symbol) => match self.definitions[symbol.0] {
                    Definition::Of(Operation::Mul, left, right) => open.extend([left, right]),
                    _ => symbols.push(symbol),
                },
            }
            if open.len() + symbols.len() > MAX_FACTORS {
                return Err(Fault::overflow());
            }
        }
        Ok((constant, symbols))
    }
}

fn fold(operation: Operation, left: i64, right: i64) -> Result<i64, Fault> {
    let result = match operation {
        Operation::Add => left.checked_add(right),
        Operation::Sub => left.checked_sub(right),
        Operation::Mul => left.checked_mul(right),
        Operation::Div => floor_div(left, right),
        Operation::Mod => floor_div(left, right)
            .and_then(|quotient| quotient.checked_mul(right))
            .and_then(|whole| left.checked_sub(whole)),
    };
    result.ok_or_else(Fault::overflow)
}

fn floor_div(left: i64, right: i64) -> Option<i64> {
    let quotient = left.checked_div(right)?;
    let is_below = left % right != 0 && (left < 0) != (right < 0);
    Some(if is_below { quotient - 1 } else { quotient })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols() -> (Symbols, Dim) {
        let mut symbols = Symbols::default();
        let height = symbols.add_axis(0, 2, Fixable::ToAny);
        (symbols, height)
    }

    /// floor((size + 2 padding - kernel) / stride) + 1
    fn convolved(symbols: &mut Symbols, size: Dim, kernel: i64, stride: i64, padding: i64) -> Dim {
        let size = symbols.apply(Operation::Add, size, Dim::Fixed(2 * padding - kernel)).unwrap();
        let size = symbols.apply(Operation::Div, size, Dim::Fixed(stride)).unwrap();
        symbols.apply(Operation::Add, size, Dim::Fixed(1)).unwrap()
    }

    #[test]
    fn equal_sizes_are_the_same_symbol() {
        let (mut symbols, height) = symbols();
        assert_eq!(convolved(&mut symbols, height, 3, 1, 1), height);
        let pooled = convolved(&mut symbols, height, 2, 2, 0);
        assert_eq!(pooled, symbols.apply(Operation::Div, height, Dim::Fixed(2)).unwrap());
        let doubled = symbols.apply(Operation::Mul, height, Dim::Fixed(2)).unwrap();
        assert_eq!(symbols.apply(Operation::Div, doubled, Dim::Fixed(2)).unwrap(), height);
        let twice = symbols.apply(Operation::Mul, pooled, Dim::Fixed(2)).unwrap();
        assert_ne!(twice, height, "an odd height loses a row");
    }

    #[test]
    fn fixing_an_axis_folds_all_that_was_computed_from_it() {
        let (mut symbols, height) = symbols();
        let pooled = convolved(&mut symbols, height, 3, 2, 1);
        symbols.unify(height, Dim::Fixed(33)).unwrap();
        assert_eq!(symbols.resolve(pooled), Dim::Fixed(17));
        assert!(matches!(symbols.unify(height, Dim::Fixed(32)), Err(Fault::Mismatch(_))));
    }

    #[test]
    fn a_quotient_is_given_only_where_it_is_whole() {
        let (mut symbols, height) = symbols();
        let width = symbols.add_axis(0, 3, Fixable::ToAny);
        let both = symbols.product(&[height, width, Dim::Fixed(6)]).unwrap();
        assert_eq!(symbols.quotient(&[both], &[width, Dim::Fixed(6)]).unwrap(), Some(height));
        assert_eq!(symbols.quotient(&[height], &[width]).unwrap(), None);
        assert_eq!(symbols.quotient(&[both], &[Dim::Fixed(4)]).unwrap(), None);
    }

    #[test]
    fn absurd_sizes_are_errors() {
        let (mut symbols, height) = symbols();
        assert!(symbols.apply(Operation::Mul, Dim::Fixed(i64::MAX), Dim::Fixed(2)).is_err());
        assert!(symbols.apply(Operation::Div, height, Dim::Fixed(0)).is_err());
        assert!(symbols.apply(Operation::Div, Dim::Fixed(i64::MIN), Dim::Fixed(-1)).is_err());
        let mut power = height;
        let grown = (0..64).try_for_each(|_| {
            power = symbols.apply(Operation::Mul, power, power)?;
            symbols.quotient(&[power], &[height]).map(|_| ())
        });
        assert!(grown.is_err(), "2^64 factors are not written out");
    }
}

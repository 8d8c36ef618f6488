//! Products of matrices.

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Number, ValueId, fixed};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("addmm", addmm),
    ("baddbmm", baddbmm),
    ("bmm", matmul),
    ("dot", matmul),
    ("einsum", einsum),
    ("linear", linear),
    ("matmul", matmul),
    ("mm", matmul),
    ("mv", matmul),
    ("scaled_dot_product_attention", attention),
];

/// `input weightᵀ + bias` over the last axis.
fn linear(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let bias = call.optional_tensor(2, "bias")?;
    call.check_layer_dtype(input, weight)?;
    let dtype = call.graph.dtype(weight);
    let mut shape = call.graph.shape(input);
    let weights = call.graph.shape(weight);
    let (Some(last), [given, taken]) = (shape.last_mut(), weights.as_slice()) else {
        return Err(Fault::Mismatch(
            "a linear layer over a scalar, or with a weight of another rank".to_owned(),
        ));
    };
    call.graph.symbols_mut().unify(*last, *taken)?;
    *last = *given;
    if shape.len() == 2 {
        // Rows of features are what a network that starts with such a layer takes.
        call.graph.confirm_rank(input);
        let node = Node::new("Gemm").input(input).input(weight).optional(bias).int("transB", 1);
        let value = call.graph.add(node, dtype, shape);
        return call.done(value);
    }
    let transposed = call.graph.add(
        Node::new("Transpose").input(weight).ints("perm", &[1, 0]),
        dtype,
        vec![*taken, *given],
    );
    let mut value = call.graph.add(Node::new("MatMul").input(input).input(transposed), dtype, shape);
    if let Some(bias) = bias {
        value = call.broadcast_node("Add", &[value, bias], dtype)?;
    }
    call.done(value)
}

/// As numpy's: the last two axes are matrices, those before broadcast, vectors lose their axis.
fn matmul(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (left, right) = (call.tensor(0, "self")?, call.tensor(1, "other")?);
    let value = product(call, left, right)?;
    call.done(value)
}

fn product(call: &mut Call<'_>, left: ValueId, right: ValueId) -> Result<ValueId, Fault> {
    call.check_layer_dtype(left, right)?;
    let dtype = call.graph.dtype(right);
    let (left_shape, right_shape) = (call.graph.shape(left), call.graph.shape(right));
    let (Some(contracted), false) = (left_shape.last(), right_shape.is_empty()) else {
        return Err(Fault::Mismatch("a product with a scalar".to_owned()));
    };
    let other = right_shape[right_shape.len().saturating_sub(2)];
    call.graph.symbols_mut().unify(*contracted, other)?;
    let batch = |shape: &[Dim]| shape[..shape.len().saturating_sub(2)].to_vec();
    let mut shape = call.broadcast_shapes(&batch(&left_shape), &batch(&right_shape))?;
    if left_shape.len() > 1 {
        shape.push(left_shape[left_shape.len() - 2]);
    }
    if right_shape.len() > 1 {
        shape.push(right_shape[right_shape.len() - 1]);
    }
    if left_shape.len() == 2 && right_shape.len() == 2 {
        call.graph.confirm_rank(left);
    }
    Ok(call.graph.add(Node::new("MatMul").input(left).input(right), dtype, shape))
}

/// `beta * self + alpha * (mat1 mat2)`
fn addmm(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (addend, left, right) = (call.tensor(0, "self")?, call.tensor(1, "mat1")?, call.tensor(2, "mat2")?);
    let (beta, alpha) = (call.number_or(3, "beta", 1.0)?, call.number_or(4, "alpha", 1.0)?);
    let (rows, columns) = (call.graph.shape(left), call.graph.shape(right));
    let ([row, contracted], [other, column]) = (rows.as_slice(), columns.as_slice()) else {
        return Err(Fault::Mismatch("addmm of what are no matrices".to_owned()));
    };
    call.graph.symbols_mut().unify(*contracted, *other)?;
    call.graph.confirm_rank(left);
    let node = Node::new("Gemm").inputs(&[left, right, addend]).float("alpha", alpha).float("beta", beta);
    let dtype = call.graph.dtype(right);
    let value = call.graph.add(node, dtype, vec![*row, *column]);
    call.done(value)
}

fn baddbmm(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (mut addend, left, right) =
        (call.tensor(0, "self")?, call.tensor(1, "batch1")?, call.tensor(2, "batch2")?);
    let (beta, alpha) = (call.number_or(3, "beta", 1.0)?, call.number_or(4, "alpha", 1.0)?);
    let mut value = product(call, left, right)?;
    if alpha != 1.0 {
        value = call.with_number("Mul", value, alpha)?;
    }
    if beta == 0.0 {
        return call.done(value);
    }
    if beta != 1.0 {
        addend = call.with_number("Mul", addend, beta)?;
    }
    let dtype = call.graph.dtype(value);
    let value = call.broadcast_node("Add", &[value, addend], dtype)?;
    call.done(value)
}

/// Without ellipsis: every letter is an axis.
fn einsum(call: &mut Call<'_>) -> Result<Value, Fault> {
    let equation = call.str_or(0, "equation", "")?.replace(' ', "");
    let operands = call.tensors(1, "tensors")?;
    let Some((inputs, output)) = equation.split_once("->").filter(|_| !equation.contains('.')) else {
        return call.unsupported("with an implicit output or an ellipsis");
    };
    let terms: Vec<&str> = inputs.split(',').collect();
    let mut sizes: Vec<(char, Dim)> = vec![];
    for (term, operand) in terms.iter().zip(&operands) {
        let shape = call.graph.shape(*operand);
        if term.chars().count() != shape.len() || terms.len() != operands.len() {
            return Err(Fault::Mismatch(format!("`{equation}` and its operands")));
        }
        for (letter, size) in term.chars().zip(shape) {
            match sizes.iter().find(|(known, _)| *known == letter) {
                Some((_, known)) => _ = call.graph.symbols_mut().unify(*known, size)?,
                None => sizes.push((letter, size)),
            }
        }
    }
    let size = |letter: char| sizes.iter().find(|(known, _)| *known == letter).map(|(_, size)| *size);
    let Some(shape) = output.chars().map(size).collect::<Option<Vec<_>>>() else {
        return Err(Fault::Mismatch(format!("`{equation}` gives an axis that it does not take")));
    };
    let Some(first) = operands.first() else { return Err(Fault::malformed("einsum of nothing")) };
    let dtype = call.graph.dtype(*first);
    let value =
        call.graph.add(Node::new("Einsum").inputs(&operands).str("equation", &equation), dtype, shape);
    call.done(value)
}

/// `softmax(query keyᵀ scale + mask) value`
fn attention(call: &mut Call<'_>) -> Result<Value, Fault> {
    if call.bool_or(5, "is_causal", false)? || call.bool_or(7, "enable_gqa", false)? {
        return call.unsupported("causal or grouped");
    }
    if call.number_or(4, "dropout_p", 0.0)? != 0.0 {
        return Err(Fault::Training);
    }
    let (query, key, value) = (call.tensor(0, "query")?, call.tensor(1, "key")?, call.tensor(2, "value")?);
    let mask = call.optional_tensor(3, "attn_mask")?;
    let (dtype, rank) = (call.graph.dtype(query), call.graph.rank(key));
    let width = call.graph.shape(query).last().copied();
    let Some([width]) = width.and_then(|width| fixed(&[width])).map(|sizes| [sizes[0]]) else {
        return Err(Fault::OpenAxis("the width of an attention head".to_owned()));
    };
    if rank < 2 {
        return Err(Fault::Mismatch("attention over vectors".to_owned()));
    }
    let scale = call.number_or(6, "scale", (width as f64).sqrt().recip())?;
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank - 1, rank - 2);
    let key = call.permuted(key, &axes);
    let scores = product(call, query, key)?;
    let scale = call.graph.scalar(Number::Float(scale), dtype)?;
    let mut scores = call.graph.add_like(Node::new("Mul").input(scores).input(scale), scores);
    if let Some(mask) = mask {
        if call.graph.dtype(mask) != dtype {
            return call.unsupported("with a mask of truth values");
        }
        scores = call.broadcast_node("Add", &[scores, mask], dtype)?;
    }
    let weights = call.graph.add_like(Node::new("Softmax").input(scores).int("axis", -1), scores);
    let result = product(call, weights, value)?;
    call.done(result)
}

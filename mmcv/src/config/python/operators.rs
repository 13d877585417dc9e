//! Operators with Python's results.

use ruff_python_ast::{CmpOp, Operator};
use ruff_text_size::TextRange;

use super::{Eval, text};
use crate::config::node::{Node, Value};
use crate::error::Result;

/// More nodes than any config has; a product of lists past it is refused instead of filling the memory.
const MOST_NODES: usize = 1_000_000;

impl Eval<'_> {
    pub(super) fn binary(&self, op: Operator, left: Node, right: Node, range: TextRange) -> Result<Node> {
        use Value::{Int, List, Str};
        let value = match (op, &left.value, &right.value) {
            (Operator::Add, List(a), List(b)) => Some(List(a.iter().chain(b).cloned().collect())),
            (Operator::Add, Str(a), Str(b)) => Some(Str(format!("{a}{b}"))),
            (Operator::Mult, List(l), Int(n)) | (Operator::Mult, Int(n), List(l)) => {
                let times = repeats(*n, l.iter().map(size).sum());
                times.map(|n| List(std::iter::repeat_n(l, n).flatten().cloned().collect()))
            }
            (Operator::Mult, Str(s), Int(n)) => repeats(*n, s.len()).map(|n| Str(s.repeat(n))),
            // One placeholder and one value; a tuple on the right is not told from a list here.
            (Operator::Mod, Str(s), v) if s.matches('%').count() == 1 && !matches!(v, List(_)) => {
                let placeholder = if matches!(v, Int(_)) { ["%s", "%d"] } else { ["%s", "%s"] };
                placeholder.iter().find(|p| s.contains(**p)).map(|p| Str(s.replacen(p, &text(&right), 1)))
            }
            (_, Int(a), Int(b)) => int_arithmetic(op, *a, *b),
            _ => left.as_f64().zip(right.as_f64()).and_then(|(a, b)| float_arithmetic(op, a, b)),
        };
        let value = value.ok_or_else(|| {
            self.fail(
                range,
                format!("'{}' is not understood between {} and {}", op.as_str(), left.kind(), right.kind()),
            )
        })?;
        Ok(Node { value, origin: self.origin(range) })
    }

    pub(super) fn compare(&self, op: CmpOp, left: &Node, right: &Node, range: TextRange) -> Result<bool> {
        let inside = || match &right.value {
            Value::List(l) => Some(l.contains(left)),
            Value::Dict(d) => Some(d.contains_key(&text(left))),
            Value::Str(s) => left.as_str().map(|l| s.contains(l)),
            _ => None,
        };
        let order = left.as_f64().zip(right.as_f64()).and_then(|(a, b)| a.partial_cmp(&b));
        let answer = match op {
            CmpOp::Eq | CmpOp::Is => Some(left == right || order.is_some_and(|o| o.is_eq())),
            CmpOp::NotEq | CmpOp::IsNot => Some(left != right && !order.is_some_and(|o| o.is_eq())),
            CmpOp::Lt => order.map(|o| o.is_lt()),
            CmpOp::LtE => order.map(|o| o.is_le()),
            CmpOp::Gt => order.map(|o| o.is_gt()),
            CmpOp::GtE => order.map(|o| o.is_ge()),
            CmpOp::In => inside(),
            CmpOp::NotIn => inside().map(|i| !i),
        };
        answer.ok_or_else(|| self.fail(range, format!("can't compare {} with {}", left.kind(), right.kind())))
    }
}

/// Number of nodes in a tree.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(l) => 1 + l.iter().map(size).sum::<usize>(),
        Value::Dict(d) => 1 + d.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn repeats(n: i64, size: usize) -> Option<usize> {
    let n = usize::try_from(n).unwrap_or(0);
    n.checked_mul(size).is_some_and(|all| all <= MOST_NODES).then_some(n)
}

/// `None` where Python raises, or goes on with more than 64 bits.
fn int_arithmetic(op: Operator, a: i64, b: i64) -> Option<Value> {
    // Python rounds quotients down and gives remainders the divisor's sign; Rust cuts quotients off.
    let floored = |a: i64, b: i64| {
        let (q, r) = (a.checked_div(b)?, a.wrapping_rem(b));
        Some(if r != 0 && (r < 0) != (b < 0) { (q - 1, r + b) } else { (q, r) })
    };
    match op {
        Operator::Add => a.checked_add(b).map(Value::Int),
        Operator::Sub => a.checked_sub(b).map(Value::Int),
        Operator::Mult => a.checked_mul(b).map(Value::Int),
        Operator::FloorDiv => floored(a, b).map(|(q, _)| Value::Int(q)),
        Operator::Mod if b == -1 => Some(Value::Int(0)),
        Operator::Mod => floored(a, b).map(|(_, r)| Value::Int(r)),
        Operator::Div if b != 0 => Some(Value::Float(a as f64 / b as f64)),
        Operator::Pow if b >= 0 => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)).map(Value::Int),
        Operator::Pow if a != 0 => Some(Value::Float((a as f64).powf(b as f64))),
        _ => None,
    }
}

fn float_arithmetic(op: Operator, a: f64, b: f64) -> Option<Value> {
    match op {
        Operator::Add => Some(a + b),
        Operator::Sub => Some(a - b),
        Operator::Mult => Some(a * b),
        Operator::Div if b != 0.0 => Some(a / b),
        Operator::FloorDiv if b != 0.0 => Some((a / b).floor()),
        Operator::Pow => Some(a.powf(b)),
        _ => None,
    }
    .map(Value::Float)
}

pub(super) fn index(i: i64, len: usize) -> Option<usize> {
    usize::try_from(if i < 0 { i + len as i64 } else { i }).ok()
}

pub(super) fn truthy(node: &Node) -> bool {
    match &node.value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Int(i) => *i != 0,
        Value::Float(f) => *f != 0.0,
        Value::Str(s) => !s.is_empty(),
        Value::List(l) => !l.is_empty(),
        Value::Dict(d) => !d.is_empty(),
    }
}

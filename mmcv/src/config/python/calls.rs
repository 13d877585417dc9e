//! The functions and methods that configs call.

use std::cmp::Ordering;

use ruff_python_ast::{self as ast, Expr};
use ruff_text_size::Ranged;

use super::operators::truthy;
use super::{Eval, text};
use crate::config::node::{Node, Value};
use crate::error::Result;

impl Eval<'_> {
    pub(super) fn call(&mut self, call: &ast::ExprCall) -> Result<Value> {
        let range = call.range();
        let mut args = Vec::new();
        for a in &call.arguments.args {
            match a {
                Expr::Starred(s) => args.extend(self.items(&s.value)?),
                a => args.push(self.eval(a)?),
            }
        }
        let keywords = self.keywords(&call.arguments.keywords)?;
        let ints = || args.iter().map(Node::as_i64).collect::<Option<Vec<_>>>();
        let list = |n: &Node| match &n.value {
            Value::List(l) => Some(l.clone()),
            Value::Dict(d) => Some(d.keys().cloned().map(Node::from).collect()),
            Value::Str(s) => Some(s.chars().map(|c| Node::from(c.to_string())).collect()),
            _ => None,
        };
        let made = match &*call.func {
            Expr::Name(n) => match (n.id.as_str(), args.as_slice()) {
                ("dict", []) => Some(Value::Dict(keywords)),
                ("dict", [Node { value: Value::Dict(d), .. }]) => {
                    Some(Value::Dict(d.clone().into_iter().chain(keywords).collect()))
                }
                ("list" | "tuple", []) => Some(Value::List(Vec::new())),
                ("list" | "tuple", [n]) => list(n).map(Value::List),
                ("len", [n]) => list(n).map(|l| Value::Int(l.len() as i64)),
                ("range", _) => match ints().as_deref() {
                    Some([n]) => Some((0, *n, 1)),
                    Some([a, b]) => Some((*a, *b, 1)),
                    Some([a, b, s]) if *s != 0 => Some((*a, *b, *s)),
                    _ => None,
                }
                .map(|(a, b, s)| {
                    let n = if s > 0 { (b - a + s - 1) / s } else { (a - b - s - 1) / -s };
                    Value::List((0..n.clamp(0, 1_000_000)).map(|i| Node::from(a + i * s)).collect())
                }),
                ("int", [n]) => match &n.value {
                    Value::Int(i) => Some(Value::Int(*i)),
                    Value::Float(f) => Some(Value::Int(*f as i64)),
                    Value::Bool(b) => Some(Value::Int((*b).into())),
                    Value::Str(s) => s.trim().parse().ok().map(Value::Int),
                    _ => None,
                },
                ("round", [n]) => n.as_f64().map(|f| Value::Int(f.round_ties_even() as i64)),
                ("abs", [n]) => match n.value {
                    Value::Int(i) => Some(Value::Int(i.abs())),
                    _ => n.as_f64().map(|f| Value::Float(f.abs())),
                },
                ("float", [n]) => {
                    n.as_f64().or_else(|| n.as_str().and_then(|s| s.trim().parse().ok())).map(Value::Float)
                }
                ("str", [n]) => Some(Value::Str(text(n))),
                ("bool", [n]) => Some(Value::Bool(truthy(n))),
                ("enumerate", [n]) => list(n).map(|l| {
                    let pair = |(i, v)| Node::from(vec![Node::from(i as i64), v]);
                    Value::List(l.into_iter().enumerate().map(pair).collect())
                }),
                ("zip", [a, b]) => list(a)
                    .zip(list(b))
                    .map(|(a, b)| Value::List(a.into_iter().zip(b).map(|(a, b)| Node::from(vec![a, b])).collect())),
                ("max" | "min", _) => {
                    let all = if let [one] = args.as_slice() { list(one) } else { Some(args.clone()) };
                    let all = all.filter(|l| l.iter().all(|n| n.as_f64().is_some()));
                    let most = |a: &Node, b: &Node| a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal);
                    all.and_then(
                        |l| if n.id == "max" { l.into_iter().max_by(most) } else { l.into_iter().min_by(most) },
                    )
                    .map(|n| n.value)
                }
                ("sum", [n]) => list(n).and_then(|l| {
                    l.iter()
                        .map(Node::as_i64)
                        .sum::<Option<i64>>()
                        .map(Value::Int)
                        .or_else(|| l.iter().map(Node::as_f64).sum::<Option<f64>>().map(Value::Float))
                }),
                _ => None,
            },
            Expr::Attribute(a) => {
                let of = self.eval(&a.value)?;
                match (&of.value, a.attr.as_str(), args.as_slice()) {
                    // `{}` and `{name}` only: an index or a format specification would come out wrong.
                    (Value::Str(s), "format", _) => {
                        let mut out = s.clone();
                        for n in &args {
                            out = out.replacen("{}", &text(n), 1);
                        }
                        for (k, v) in &keywords {
                            out = out.replace(&format!("{{{k}}}"), &text(v));
                        }
                        (!out.contains('{')).then_some(Value::Str(out))
                    }
                    (Value::Str(s), "split", [Node { value: Value::Str(by), .. }]) if !by.is_empty() => {
                        Some(Value::List(s.split(by.as_str()).map(Node::from).collect()))
                    }
                    (Value::Str(s), "join", [n]) => {
                        list(n).map(|l| Value::Str(l.iter().map(text).collect::<Vec<_>>().join(s)))
                    }
                    (Value::Dict(d), "copy", []) => Some(Value::Dict(d.clone())),
                    (Value::List(l), "copy", []) => Some(Value::List(l.clone())),
                    (Value::Dict(d), "keys", []) => Some(Value::List(d.keys().cloned().map(Node::from).collect())),
                    (Value::Dict(d), "values", []) => Some(Value::List(d.values().cloned().collect())),
                    (Value::Dict(d), "items", []) => Some(Value::List(
                        d.iter().map(|(k, v)| Node::from(vec![Node::from(k.as_str()), v.clone()])).collect(),
                    )),
                    (Value::Dict(d), "get", [k, rest @ ..]) => {
                        Some(d.get(&text(k)).or(rest.first()).map_or(Value::Null, |n| n.value.clone()))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        made.ok_or_else(|| self.fail(range, "this call is not understood in a config (nothing is executed)"))
    }
}

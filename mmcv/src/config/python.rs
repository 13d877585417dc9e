//! OpenMMLab's `.py` configs: parsed, never executed.
//!
//! An evaluator of what configs use: literals, `dict()`, names, operators, subscripts, comprehensions, f-strings,
//! conditional expressions, `range`/`len`/`int`/..., assignment to names, attributes and subscripts.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use ruff_python_ast::{self as ast, BoolOp, CmpOp, Expr, InterpolatedStringElement, Number, Operator, Stmt, UnaryOp};
use ruff_python_parser::parse_module;
use ruff_text_size::{Ranged, TextRange};

use super::loader::line_of;
use super::node::{Node, Origin, Value};
use crate::error::{Error, Result, did_you_mean};

/// The module's variables, in order. Names that start with two underscores are left out, as mmcv does.
pub(super) fn evaluate(source: &str, name: &Arc<str>) -> Result<Node> {
    let mut run = Eval { source, name, vars: IndexMap::new(), locals: Vec::new() };
    let module = parse_module(source).map_err(|e| run.fail(e.location, e.error.to_string()))?;
    let body = module.into_syntax().body;
    run.block(&body)?;
    let vars = run.vars.into_iter().filter(|(k, _)| !k.starts_with("__")).collect();
    Ok(Node { value: Value::Dict(vars), origin: Origin { file: Some(name.clone()), line: 1 } })
}

/// Python's `str()` of a value.
pub(super) fn text(node: &Node) -> String {
    match &node.value {
        Value::Str(s) => s.clone(),
        _ => repr(node),
    }
}

fn repr(node: &Node) -> String {
    match &node.value {
        Value::Null => "None".into(),
        Value::Bool(b) => if *b { "True" } else { "False" }.into(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => format!("{f:?}"),
        Value::Str(s) => format!("'{s}'"),
        Value::List(l) => format!("[{}]", l.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Dict(d) => {
            format!("{{{}}}", d.iter().map(|(k, v)| format!("'{k}': {}", repr(v))).collect::<Vec<_>>().join(", "))
        }
    }
}

struct Eval<'a> {
    source: &'a str,
    name: &'a Arc<str>,
    vars: IndexMap<String, Node>,
    /// Loop variables of the comprehensions around the current expression.
    locals: Vec<HashMap<String, Node>>,
}

impl Eval<'_> {
    fn origin(&self, range: TextRange) -> Origin {
        Origin { file: Some(self.name.clone()), line: line_of(self.source, range.start().to_usize()) }
    }

    fn fail(&self, range: TextRange, message: impl Into<String>) -> Error {
        Error::Config { origin: self.origin(range), path: String::new(), message: message.into() }
    }

    fn block(&mut self, body: &[Stmt]) -> Result<()> {
        body.iter().try_for_each(|s| self.statement(s))
    }

    fn statement(&mut self, statement: &Stmt) -> Result<()> {
        match statement {
            Stmt::Assign(a) => {
                let value = self.eval(&a.value)?;
                a.targets.iter().try_for_each(|t| self.assign(t, value.clone()))
            }
            Stmt::AnnAssign(a) => match &a.value {
                Some(v) => {
                    let value = self.eval(v)?;
                    self.assign(&a.target, value)
                }
                None => Ok(()),
            },
            Stmt::AugAssign(a) => {
                let (left, right) = (self.eval(&a.target)?, self.eval(&a.value)?);
                let value = self.binary(a.op, left, right, a.range())?;
                self.assign(&a.target, value)
            }
            Stmt::Delete(d) => d.targets.iter().try_for_each(|t| match t {
                Expr::Name(n) => {
                    self.vars.shift_remove(n.id.as_str());
                    Ok(())
                }
                Expr::Subscript(s) => {
                    let key = self.eval(&s.slice)?;
                    let range = s.range();
                    let place = self.place(&s.value)?;
                    match (&mut place.value, key.value) {
                        (Value::Dict(d), Value::Str(k)) => drop(d.shift_remove(&k)),
                        (Value::List(l), Value::Int(i)) if (0..l.len() as i64).contains(&i) => {
                            drop(l.remove(i as usize))
                        }
                        _ => return Err(self.fail(range, "this can't be deleted")),
                    }
                    Ok(())
                }
                other => Err(self.fail(other.range(), "this can't be deleted")),
            }),
            Stmt::Expr(e) if matches!(*e.value, Expr::StringLiteral(_)) => Ok(()),
            Stmt::Expr(e) => self.method_statement(&e.value),
            // mmcv drops modules from the result, so importing one changes nothing.
            Stmt::Import(_) | Stmt::ImportFrom(_) | Stmt::Pass(_) => Ok(()),
            Stmt::If(s) => {
                if truthy(&self.eval(&s.test)?) {
                    return self.block(&s.body);
                }
                for clause in &s.elif_else_clauses {
                    let take = match &clause.test {
                        Some(test) => truthy(&self.eval(test)?),
                        None => true,
                    };
                    if take {
                        return self.block(&clause.body);
                    }
                }
                Ok(())
            }
            Stmt::For(s) => {
                for item in self.items(&s.iter)? {
                    self.assign(&s.target, item)?;
                    self.block(&s.body)?;
                }
                Ok(())
            }
            other => Err(self.fail(other.range(), "a config holds assignments; this statement is not understood")),
        }
    }

    /// `a.append(x)`, `a.update(x)` and the like as statements.
    fn method_statement(&mut self, expr: &Expr) -> Result<()> {
        let range = expr.range();
        if let Expr::Call(call) = expr
            && let Expr::Attribute(attribute) = &*call.func
        {
            let args = call.arguments.args.iter().map(|a| self.eval(a)).collect::<Result<Vec<_>>>()?;
            let keywords = self.keywords(&call.arguments.keywords)?;
            let place = self.place(&attribute.value)?;
            match (&mut place.value, attribute.attr.as_str(), args.as_slice()) {
                (Value::List(l), "append", [item]) => l.push(item.clone()),
                (Value::List(l), "extend", [Node { value: Value::List(more), .. }]) => l.extend(more.iter().cloned()),
                (Value::List(l), "insert", [Node { value: Value::Int(i), .. }, item]) => {
                    l.insert((*i).clamp(0, l.len() as i64) as usize, item.clone());
                }
                (Value::Dict(d), "update", []) => d.extend(keywords),
                (Value::Dict(d), "update", [Node { value: Value::Dict(more), .. }]) => {
                    d.extend(more.iter().map(|(k, v)| (k.clone(), v.clone())).chain(keywords));
                }
                (Value::Dict(d), "pop", [Node { value: Value::Str(k), .. }, ..]) => drop(d.shift_remove(k)),
                _ => return Err(self.fail(range, "this call is not understood in a config")),
            }
            return Ok(());
        }
        Err(self.fail(range, "this statement is not understood in a config"))
    }

    fn assign(&mut self, target: &Expr, mut value: Node) -> Result<()> {
        match target {
            Expr::Name(n) => {
                value.origin.file.get_or_insert_with(|| self.name.clone());
                self.vars.insert(n.id.to_string(), value);
                Ok(())
            }
            Expr::Attribute(a) => {
                let range = a.range();
                let key = a.attr.to_string();
                match &mut self.place(&a.value)?.value {
                    Value::Dict(d) => drop(d.insert(key, value)),
                    _ => return Err(self.fail(range, "only a dict has attributes to set")),
                }
                Ok(())
            }
            Expr::Subscript(s) => {
                let key = self.eval(&s.slice)?;
                let range = s.range();
                let place = self.place(&s.value)?;
                match (&mut place.value, &key.value) {
                    (Value::Dict(d), _) => drop(d.insert(text(&key), value)),
                    (Value::List(l), Value::Int(i)) => {
                        let len = l.len();
                        let Some(item) = index(*i, len).and_then(|i| l.get_mut(i)) else {
                            return Err(self.fail(range, format!("index {i} of a list of {len}")));
                        };
                        *item = value;
                    }
                    _ => return Err(self.fail(range, "this can't be assigned to")),
                }
                Ok(())
            }
            Expr::Tuple(ast::ExprTuple { elts, .. }) | Expr::List(ast::ExprList { elts, .. }) => {
                let items = value.as_list().map(<[Node]>::to_vec).unwrap_or_default();
                if items.len() != elts.len() {
                    return Err(self.fail(target.range(), format!("{} names for {} values", elts.len(), items.len())));
                }
                elts.iter().zip(items).try_for_each(|(t, v)| self.assign(t, v))
            }
            other => Err(self.fail(other.range(), "this can't be assigned to")),
        }
    }

    /// The variable, or the child of one, that an assignment changes.
    fn place(&mut self, expr: &Expr) -> Result<&mut Node> {
        let range = expr.range();
        let missing = |run: &Self, key: &str| run.fail(range, format!("there is no '{key}' to change"));
        let (parent, key) = match expr {
            Expr::Name(n) => {
                let error = missing(self, n.id.as_str());
                return self.vars.get_mut(n.id.as_str()).ok_or(error);
            }
            Expr::Attribute(a) => (&a.value, Node::from(a.attr.as_str())),
            Expr::Subscript(s) => (&s.value, self.eval(&s.slice)?),
            _ => return Err(self.fail(range, "this can't be changed")),
        };
        let error = missing(self, &text(&key));
        match (&mut self.place(parent)?.value, &key.value) {
            (Value::Dict(d), _) => d.get_mut(&text(&key)).ok_or(error),
            (Value::List(l), Value::Int(i)) => {
                let len = l.len();
                index(*i, len).and_then(|i| l.get_mut(i)).ok_or(error)
            }
            _ => Err(error),
        }
    }

    fn keywords(&mut self, keywords: &[ast::Keyword]) -> Result<IndexMap<String, Node>> {
        let mut dict = IndexMap::new();
        for k in keywords {
            let value = self.eval(&k.value)?;
            match (&k.arg, value) {
                (Some(name), value) => drop(dict.insert(name.to_string(), value)),
                (None, Node { value: Value::Dict(d), .. }) => dict.extend(d),
                (None, _) => return Err(self.fail(k.range(), "** takes a dict")),
            }
        }
        Ok(dict)
    }

    fn items(&mut self, expr: &Expr) -> Result<Vec<Node>> {
        let node = self.eval(expr)?;
        match node.value {
            Value::List(l) => Ok(l),
            Value::Dict(d) => Ok(d.into_keys().map(Node::from).collect()),
            Value::Str(s) => Ok(s.chars().map(|c| Node::from(c.to_string())).collect()),
            _ => Err(self.fail(expr.range(), "this can't be iterated over")),
        }
    }

    fn eval(&mut self, expr: &Expr) -> Result<Node> {
        let value = self.value(expr)?;
        Ok(Node { value, origin: self.origin(expr.range()) })
    }

    fn value(&mut self, expr: &Expr) -> Result<Value> {
        let range = expr.range();
        Ok(match expr {
            Expr::NoneLiteral(_) => Value::Null,
            Expr::BooleanLiteral(b) => Value::Bool(b.value),
            Expr::StringLiteral(s) => Value::Str(s.value.to_str().to_owned()),
            Expr::NumberLiteral(n) => match &n.value {
                Number::Int(i) => Value::Int(i.as_i64().ok_or_else(|| self.fail(range, "an int beyond 64 bits"))?),
                Number::Float(f) => Value::Float(*f),
                Number::Complex { .. } => return Err(self.fail(range, "complex numbers are not understood")),
            },
            Expr::Name(n) => {
                let name = n.id.as_str();
                let local = self.locals.iter().rev().find_map(|l| l.get(name));
                match local.or_else(|| self.vars.get(name)) {
                    Some(node) => node.value.clone(),
                    None => {
                        let hint = did_you_mean(name, self.vars.keys().map(String::as_str));
                        return Err(self.fail(range, format!("name '{name}' is not defined{hint}")));
                    }
                }
            }
            Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) => {
                let mut list = Vec::with_capacity(elts.len());
                for e in elts {
                    match e {
                        Expr::Starred(s) => list.extend(self.items(&s.value)?),
                        e => list.push(self.eval(e)?),
                    }
                }
                Value::List(list)
            }
            Expr::Dict(d) => {
                let mut dict = IndexMap::new();
                for item in &d.items {
                    let value = self.eval(&item.value)?;
                    match &item.key {
                        Some(key) => drop(dict.insert(text(&self.eval(key)?), value)),
                        None => match value.value {
                            Value::Dict(more) => dict.extend(more),
                            _ => return Err(self.fail(item.value.range(), "** takes a dict")),
                        },
                    }
                }
                Value::Dict(dict)
            }
            Expr::BinOp(b) => {
                let (left, right) = (self.eval(&b.left)?, self.eval(&b.right)?);
                self.binary(b.op, left, right, range)?.value
            }
            Expr::UnaryOp(u) => match (u.op, self.eval(&u.operand)?.value) {
                (UnaryOp::USub, Value::Int(i)) => Value::Int(-i),
                (UnaryOp::USub, Value::Float(f)) => Value::Float(-f),
                (UnaryOp::UAdd, v @ (Value::Int(_) | Value::Float(_))) => v,
                (UnaryOp::Not, v) => Value::Bool(!truthy(&v.into())),
                _ => return Err(self.fail(range, "this operator is not understood here")),
            },
            Expr::BoolOp(b) => {
                let mut last = Node::default();
                for v in &b.values {
                    last = self.eval(v)?;
                    if truthy(&last) != (b.op == BoolOp::And) {
                        break;
                    }
                }
                last.value
            }
            Expr::Compare(c) => {
                let mut left = self.eval(&c.left)?;
                for (op, right) in c.ops.iter().zip(&c.comparators) {
                    let right = self.eval(right)?;
                    if !self.compare(*op, &left, &right, range)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            Expr::If(i) => {
                if truthy(&self.eval(&i.test)?) {
                    self.value(&i.body)?
                } else {
                    self.value(&i.orelse)?
                }
            }
            Expr::FString(f) => {
                let mut out = String::new();
                for element in f.value.elements() {
                    match element {
                        InterpolatedStringElement::Literal(l) => out += &l.value,
                        InterpolatedStringElement::Interpolation(i) if i.format_spec.is_none() => {
                            out += &text(&self.eval(&i.expression)?);
                        }
                        InterpolatedStringElement::Interpolation(i) => {
                            return Err(self.fail(i.range, "format specifications are not understood"));
                        }
                    }
                }
                Value::Str(out)
            }
            Expr::Attribute(a) => {
                let of = self.eval(&a.value)?;
                of.get(a.attr.as_str())
                    .ok_or_else(|| self.fail(range, format!("there is no '{}'", a.attr)))?
                    .value
                    .clone()
            }
            Expr::Subscript(s) => self.subscript(s)?,
            Expr::ListComp(c) => Value::List(self.comprehend(&c.generators, &mut |run| run.eval(&c.elt))?),
            Expr::Generator(c) => Value::List(self.comprehend(&c.generators, &mut |run| run.eval(&c.elt))?),
            Expr::DictComp(c) => {
                let pairs = self.comprehend(&c.generators, &mut |run| {
                    let key = match &c.key {
                        Some(key) => run.eval(key)?,
                        None => return Err(run.fail(range, "a dict comprehension has a key")),
                    };
                    Ok(Node::from(vec![key, run.eval(&c.value)?]))
                })?;
                let pair = |p: Node| p.as_list().and_then(|l| Some((text(l.first()?), l.get(1)?.clone())));
                Value::Dict(pairs.into_iter().filter_map(pair).collect())
            }
            Expr::Call(c) => self.call(c)?,
            _ => return Err(self.fail(range, "this expression is not understood in a config")),
        })
    }

    fn comprehend(
        &mut self,
        generators: &[ast::Comprehension],
        each: &mut dyn FnMut(&mut Self) -> Result<Node>,
    ) -> Result<Vec<Node>> {
        let Some((first, rest)) = generators.split_first() else { return Ok(vec![each(self)?]) };
        let mut out = Vec::new();
        for item in self.items(&first.iter)? {
            let mut names = HashMap::new();
            self.bind(&first.target, item, &mut names)?;
            self.locals.push(names);
            let mut keep = Ok(true);
            for test in &first.ifs {
                keep = self.eval(test).map(|t| truthy(&t));
                if !matches!(keep, Ok(true)) {
                    break;
                }
            }
            let made = keep.and_then(|keep| if keep { self.comprehend(rest, each) } else { Ok(Vec::new()) });
            self.locals.pop();
            out.extend(made?);
        }
        Ok(out)
    }

    fn bind(&self, target: &Expr, value: Node, names: &mut HashMap<String, Node>) -> Result<()> {
        match (target, value) {
            (Expr::Name(n), value) => {
                names.insert(n.id.to_string(), value);
                Ok(())
            }
            (Expr::Tuple(t), Node { value: Value::List(items), .. }) if t.elts.len() == items.len() => {
                t.elts.iter().zip(items).try_for_each(|(t, v)| self.bind(t, v, names))
            }
            (other, _) => Err(self.fail(other.range(), "this loop variable is not understood")),
        }
    }

    fn subscript(&mut self, s: &ast::ExprSubscript) -> Result<Value> {
        let of = self.eval(&s.value)?;
        if let (Expr::Slice(slice), Value::List(list)) = (&*s.slice, &of.value) {
            let mut bound = |e: &Option<Box<Expr>>, default: i64| match e {
                Some(e) => self.eval(e).map(|n| n.as_i64().unwrap_or(default)),
                None => Ok(default),
            };
            let len = list.len() as i64;
            let clamp = |i: i64| (if i < 0 { i + len } else { i }).clamp(0, len) as usize;
            let (low, high) = (clamp(bound(&slice.lower, 0)?), clamp(bound(&slice.upper, len)?));
            let step = bound(&slice.step, 1)?;
            let cut = list.get(low..high.max(low)).unwrap_or_default();
            return match step {
                1.. => Ok(Value::List(cut.iter().step_by(step as usize).cloned().collect())),
                -1 if slice.lower.is_none() && slice.upper.is_none() => {
                    Ok(Value::List(list.iter().rev().cloned().collect()))
                }
                _ => Err(self.fail(s.range(), "this slice is not understood")),
            };
        }
        let key = self.eval(&s.slice)?;
        let found = match (&of.value, &key.value) {
            (Value::Dict(d), _) => d.get(&text(&key)).map(|n| n.value.clone()),
            (Value::List(l), Value::Int(i)) => index(*i, l.len()).and_then(|i| l.get(i)).map(|n| n.value.clone()),
            (Value::Str(t), Value::Int(i)) => {
                index(*i, t.chars().count()).and_then(|i| t.chars().nth(i)).map(|c| Value::Str(c.to_string()))
            }
            _ => None,
        };
        found.ok_or_else(|| self.fail(s.range(), format!("there is no [{}]", repr(&key))))
    }

    fn call(&mut self, call: &ast::ExprCall) -> Result<Value> {
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
                    let most = |a: &Node, b: &Node| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0));
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
                    (Value::Str(s), "format", _) => {
                        let mut out = s.clone();
                        for n in &args {
                            out = out.replacen("{}", &text(n), 1);
                        }
                        for (k, v) in &keywords {
                            out = out.replace(&format!("{{{k}}}"), &text(v));
                        }
                        Some(Value::Str(out))
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

    fn binary(&self, op: Operator, left: Node, right: Node, range: TextRange) -> Result<Node> {
        use Value::{Float, Int, List, Str};
        let value = match (op, &left.value, &right.value) {
            (Operator::Add, List(a), List(b)) => Some(List(a.iter().chain(b).cloned().collect())),
            (Operator::Add, Str(a), Str(b)) => Some(Str(format!("{a}{b}"))),
            (Operator::Mult, List(l), Int(n)) | (Operator::Mult, Int(n), List(l)) => {
                let n = (*n).clamp(0, 100_000) as usize;
                Some(List(std::iter::repeat_n(l, n).flatten().cloned().collect()))
            }
            (Operator::Mult, Str(s), Int(n)) => Some(Str(s.repeat((*n).clamp(0, 100_000) as usize))),
            (Operator::Mod, Str(s), _) => {
                Some(Str(s.replacen("%s", &text(&right), 1).replacen("%d", &text(&right), 1)))
            }
            (_, Int(a), Int(b)) => match op {
                Operator::Add => a.checked_add(*b).map(Int),
                Operator::Sub => a.checked_sub(*b).map(Int),
                Operator::Mult => a.checked_mul(*b).map(Int),
                Operator::FloorDiv if *b != 0 => Some(Int((*a as f64 / *b as f64).floor() as i64)),
                Operator::Mod if *b != 0 => Some(Int(a.rem_euclid(*b))),
                Operator::Div if *b != 0 => Some(Float(*a as f64 / *b as f64)),
                Operator::Pow if *b >= 0 => u32::try_from(*b).ok().and_then(|b| a.checked_pow(b)).map(Int),
                Operator::Pow => Some(Float((*a as f64).powf(*b as f64))),
                _ => None,
            },
            _ => left.as_f64().zip(right.as_f64()).and_then(|(a, b)| match op {
                Operator::Add => Some(Float(a + b)),
                Operator::Sub => Some(Float(a - b)),
                Operator::Mult => Some(Float(a * b)),
                Operator::Div if b != 0.0 => Some(Float(a / b)),
                Operator::FloorDiv if b != 0.0 => Some(Float((a / b).floor())),
                Operator::Pow => Some(Float(a.powf(b))),
                _ => None,
            }),
        };
        let value = value.ok_or_else(|| {
            self.fail(
                range,
                format!("'{}' is not understood between {} and {}", op.as_str(), left.kind(), right.kind()),
            )
        })?;
        Ok(Node { value, origin: self.origin(range) })
    }

    fn compare(&self, op: CmpOp, left: &Node, right: &Node, range: TextRange) -> Result<bool> {
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

fn index(i: i64, len: usize) -> Option<usize> {
    usize::try_from(if i < 0 { i + len as i64 } else { i }).ok()
}

fn truthy(node: &Node) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(source: &str) -> Result<String> {
        evaluate(source, &"a.py".into()).map(|n| serde_json::to_string(&n).unwrap())
    }

    #[test]
    fn expressions_that_configs_use() {
        for (source, json) in [
            ("a = (1, -2.5, None, True)", r#"{"a":[1,-2.5,null,true]}"#),
            ("a = dict(x=1, **dict(y='s' 't'))", r#"{"a":{"x":1,"y":"st"}}"#),
            ("n = 3\na = [2**i for i in range(n) if i != 1]", r#"{"n":3,"a":[1,4]}"#),
            ("a = {f'k{i}': v for i, v in enumerate([5, 6])}", r#"{"a":{"k0":5,"k1":6}}"#),
            ("m = [1.6, 2.5]\na = [round(x) for x in m[::-1]]", r#"{"m":[1.6,2.5],"a":[2,2]}"#),
            ("a = dict(b=[dict(c=1)])\na['b'][0].c = 2\na.d = 7 // 2", r#"{"a":{"b":[{"c":2}],"d":3}}"#),
            ("a = [1] * 2 + [3]\na += [4]\nb = a[-1] if len(a) > 3 else 0", r#"{"a":[1,1,3,4],"b":4}"#),
            ("import os\n__x = 1\na = 'v{}_{n}'.format(1, n=2)\ndel_me = 1\ndel del_me", r#"{"a":"v1_2"}"#),
        ] {
            assert_eq!(run(source).unwrap(), json, "{source}");
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        for (source, message) in [
            ("a = 1\nb = dict(", "a.py:2"),
            ("\n\na = nme", "a.py:3: name 'nme' is not defined"),
            ("name = 1\na = nam", "did you mean 'name'"),
            ("a = open('x')", "a.py:1: this call is not understood"),
            ("a = [1][3]", "there is no [3]"),
            ("a = 1 / 0", "'/' is not understood"),
            ("def f():\n  pass", "a.py:1"),
            ("a = 99999999999999999999", "beyond 64 bits"),
            ("a = [0] * 3\na[5] = 1", "index 5 of a list of 3"),
        ] {
            let e = run(source).unwrap_err().to_string();
            assert!(e.contains(message), "{source}: {e}");
        }
    }
}

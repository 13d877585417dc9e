//! OpenMMLab's `.py` configs: parsed, never executed.
//!
//! An evaluator of what configs use: literals, `dict()`, names, operators, subscripts, comprehensions, f-strings,
//! conditional expressions, `range`/`len`/`int`/..., assignment to names, attributes and subscripts.

mod calls;
mod operators;

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use ruff_python_ast::{self as ast, BoolOp, Expr, InterpolatedStringElement, Number, Stmt, UnaryOp};
use ruff_python_parser::parse_module;
use ruff_text_size::{Ranged, TextRange};

use operators::{index, truthy};

use super::loader::line_of;
use super::node::{Node, Origin, Value};
use crate::error::{Error, Result, did_you_mean};

/// The module's variables, in order. Names that start with two underscores are left out, as mmcv does.
pub(crate) fn evaluate(source: &str, name: &Arc<str>) -> Result<Node> {
    let mut run = Eval { source, name, vars: IndexMap::new(), locals: Vec::new() };
    let module = parse_module(source).map_err(|e| run.fail(e.location, e.error.to_string()))?;
    let body = module.into_syntax().body;
    run.block(&body)?;
    let vars = run.vars.into_iter().filter(|(k, _)| !k.starts_with("__")).collect();
    Ok(Node { value: Value::Dict(vars), origin: Origin::new(name.clone(), 1) })
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
        Origin::new(self.name.clone(), line_of(self.source, range.start().to_usize()))
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
                        InterpolatedStringElement::Interpolation(i)
                            if i.format_spec.is_none()
                                && i.debug_text.is_none()
                                && i.conversion == ast::ConversionFlag::None =>
                        {
                            out += &text(&self.eval(&i.expression)?);
                        }
                        InterpolatedStringElement::Interpolation(i) => {
                            return Err(self.fail(i.range, "a conversion or format specification is not understood"));
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
            ("a = [-7 % 3, 7 % -3, -7 // 2, 7 // -2, max(2, 5), min([3, 1])]", r#"{"a":[2,-2,-4,-4,5,1]}"#),
            ("a = '%s.pth' % 3", r#"{"a":"3.pth"}"#),
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
            // What would come out wrong is refused rather than guessed.
            ("a = (-9223372036854775807 - 1) % -1 // 0", "a.py:1"),
            ("a = '%s_%s' % (1, 2)", "a.py:1"),
            ("a = '{0}_{1:.2f}'.format(1, 2)", "this call is not understood"),
            ("b = 1\na = f'{b!r}'", "a.py:2"),
            ("a = max('x', 'y')", "this call is not understood"),
            ("a = [[0] * 100000] * 100000", "a.py:1"),
            ("a = [0] * 3\na[5] = 1", "index 5 of a list of 3"),
        ] {
            let e = run(source).unwrap_err().to_string();
            assert!(e.contains(message), "{source}: {e}");
        }
    }
}

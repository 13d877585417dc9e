//! Reading pickles without running anything.
//!
//! The machine knows every opcode of protocols 0 to 5, but calls nothing: a class or function becomes an opaque
//! [`Obj::Global`], and what a call would make an [`Obj::Object`] that keeps the arguments. Values live in one arena and
//! name each other by number, so shared and recursive structures cost nothing and can't be followed forever.

pub(crate) mod value;
mod write;

use std::collections::HashMap;

pub(crate) use write::PickleWriter;

/// Number of a value in a [`Heap`].
pub type Id = usize;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Obj {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A longer integer, little endian, two's complement.
    Long(Vec<u8>),
    /// A float.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A set or frozen set.
    Set(Vec<Id>),
    /// A `dict`, `OrderedDict` or `defaultdict`.
    Dict(Vec<(Id, Id)>),
    /// A class or function by its names; nothing is imported.
    Global(String, String),
    /// What the file keeps outside the pickle: a storage.
    Persistent(Id),
    /// An instance of any other class, or the result of any other function.
    Object {
        /// The class or function.
        class: Id,
        /// Its arguments.
        args: Id,
        /// What `__setstate__` would get.
        state: Option<Id>,
        /// Items set on it (subclasses of `dict`).
        items: Vec<(Id, Id)>,
        /// Items appended to it (subclasses of `list`).
        list: Vec<Id>,
    },
}

/// The values of one or more pickles.
#[derive(Debug, Default)]
pub struct Heap {
    values: Vec<Obj>,
    /// Byte of the opcode that made each.
    at: Vec<usize>,
}

impl Heap {
    /// The value `id`.
    pub fn get(&self, id: Id) -> &Obj {
        &self.values[id]
    }

    /// The text, if it is one.
    pub fn str(&self, id: Id) -> Option<&str> {
        if let Obj::Str(s) = &self.values[id] { Some(s) } else { None }
    }

    /// The integer, if it is one.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.values[id] {
            Obj::Int(i) => Some(i),
            Obj::Bool(b) => Some(b.into()),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match &self.values[id] {
            Obj::Tuple(v) | Obj::List(v) => Some(v),
            _ => None,
        }
    }

    /// The items of a tuple, list or set.
    pub fn members(&self, id: Id) -> Option<&[Id]> {
        if let Obj::Set(v) = &self.values[id] { Some(v) } else { self.items(id) }
    }

    /// The entries of a dict, or of an instance of one of its subclasses.
    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self.values[id] {
            Obj::Dict(d) => Some(d),
            Obj::Object { items, .. } if !items.is_empty() => Some(items),
            _ => None,
        }
    }

    /// The entry `key` of a dict.
    pub fn entry(&self, id: Id, key: &str) -> Option<Id> {
        self.dict(id)?.iter().rev().find(|(k, _)| self.str(*k) == Some(key)).map(|(_, v)| *v)
    }

    /// `module.name` of a class or function.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        if let Obj::Global(module, name) = &self.values[id] { Some((module, name)) } else { None }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The byte of the pickle that made the value.
    pub fn offset(&self, id: Id) -> usize {
        self.at[id]
    }

    fn add(&mut self, obj: Obj, at: usize) -> Id {
        self.values.push(obj);
        self.at.push(at);
        self.values.len() - 1
    }
}

/// Why a pickle can't be read, and at which byte.
#[derive(Debug, thiserror::Error)]
#[error("pickle, byte {at}: {message}")]
pub struct PickleError {
    /// Offset into the pickle.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

type Result<T> = std::result::Result<T, PickleError>;

/// Reads the pickle at the start of `bytes` into `heap`; gives its value and how many bytes it took.
pub fn read(bytes: &[u8], heap: &mut Heap) -> Result<(Id, usize)> {
    let mut machine = Machine { bytes, at: 0, op: 0, heap, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let value = machine.run().map_err(|message| PickleError { at: machine.at, message })?;
    Ok((value, machine.at))
}

struct Machine<'b, 'h> {
    bytes: &'b [u8],
    at: usize,
    /// Byte of the current opcode.
    op: usize,
    heap: &'h mut Heap,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Step<T> = std::result::Result<T, String>;

impl<'b> Machine<'b, '_> {
    fn take(&mut self, n: u64) -> Step<&'b [u8]> {
        let left = self.bytes.len() - self.at;
        let n = usize::try_from(n).ok().filter(|n| *n <= left);
        let n = n.ok_or_else(|| "it ends in the middle of a value".to_owned())?;
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn uint(&mut self, n: u64) -> Step<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
    }

    /// A value behind its length in `n` bytes.
    fn sized(&mut self, n: u64) -> Step<&'b [u8]> {
        let len = self.uint(n)?;
        self.take(len)
    }

    fn line_bytes(&mut self) -> Step<&'b [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|b| *b == b'\n').ok_or("it ends in the middle of a line")?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn line(&mut self) -> Step<&'b str> {
        let line = std::str::from_utf8(self.line_bytes()?);
        line.map(|s| s.trim_end_matches('\r')).map_err(|_| "a line is not UTF-8".into())
    }

    fn push(&mut self, obj: Obj) {
        let id = self.heap.add(obj, self.op);
        self.stack.push(id);
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn run(&mut self) -> Step<Id> {
        loop {
            self.op = self.at;
            let op = self.take(1)?[0];
            match op {
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    // POP takes a mark where there is one on top.
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop().map(|_| ())
                    } else {
                        self.pop().ok().map(|_| ())
                    }
                    .ok_or("the stack is empty")?;
                }
                b'1' => _ = self.pop_mark()?,
                b'2' => self.stack.push(self.top()?),
                0x80 => {
                    let version = self.take(1)?[0];
                    if version > 5 {
                        return Err(format!("protocol {version} is not known"));
                    }
                }
                0x95 => _ = self.take(8)?,
                b'N' | 0x88 | 0x89 | b'F' | b'I' | b'J' | b'K' | b'L' | b'M' | b'G' | 0x8a | 0x8b => self.number(op)?,
                b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.text(op)?,
                b'p' | b'q' | b'r' | b'g' | b'h' | b'j' | 0x94 => self.memoise(op)?,
                b'P' => {
                    let id = self.line()?.to_owned();
                    let id = self.heap.add(Obj::Str(id), self.op);
                    self.push(Obj::Persistent(id));
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Obj::Persistent(id));
                }
                b'c' => {
                    let (module, name) = (self.line()?.to_owned(), self.line()?.to_owned());
                    self.push(Obj::Global(module, name));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |id| self.heap.str(id).map(str::to_owned).ok_or("a global's name is not text");
                    let global = Obj::Global(text(module)?, text(name)?);
                    self.push(global);
                }
                b'R' | 0x81 => {
                    let (args, class) = (self.pop()?, self.pop()?);
                    self.call(class, args);
                }
                0x92 => {
                    let (_, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                    self.call(class, args);
                }
                b'i' => {
                    let (module, name) = (self.line()?.to_owned(), self.line()?.to_owned());
                    let args = Obj::Tuple(self.pop_mark()?);
                    let (class, args) =
                        (self.heap.add(Obj::Global(module, name), self.op), self.heap.add(args, self.op));
                    self.call(class, args);
                }
                b'o' => {
                    let mut args = self.pop_mark()?.into_iter();
                    let class = args.next().ok_or("a class is missing")?;
                    let args = self.heap.add(Obj::Tuple(args.collect()), self.op);
                    self.call(class, args);
                }
                b'b' => {
                    let state = self.pop()?;
                    let on = self.top()?;
                    // A dict's attributes (OrderedDict's `_metadata`) are dropped.
                    if let Obj::Object { state: s, .. } = &mut self.heap.values[on] {
                        *s = Some(state);
                    }
                }
                _ => self.container(op)?,
            }
        }
    }

    fn number(&mut self, op: u8) -> Step<()> {
        let obj = match op {
            b'N' => Obj::None,
            0x88 => Obj::Bool(true),
            0x89 => Obj::Bool(false),
            b'K' => Obj::Int(self.uint(1)? as i64),
            b'M' => Obj::Int(self.uint(2)? as i64),
            b'J' => Obj::Int(i64::from(self.uint(4)? as u32 as i32)),
            b'G' => Obj::Float(f64::from_bits((self.uint(8)?).swap_bytes())),
            b'F' => Obj::Float(self.line()?.trim().parse().map_err(|_| "a float that is none")?),
            0x8a => long(self.sized(1)?),
            0x8b => long(self.sized(4)?),
            _ => match self.line()?.trim().trim_end_matches('L') {
                "00" if op == b'I' => Obj::Bool(false),
                "01" if op == b'I' => Obj::Bool(true),
                digits => match digits.parse::<i128>().map_err(|_| "an integer that is none, or too long")? {
                    long if i64::try_from(long).is_err() => Obj::Long(long.to_le_bytes().to_vec()),
                    short => Obj::Int(short as i64),
                },
            },
        };
        self.push(obj);
        Ok(())
    }

    fn text(&mut self, op: u8) -> Step<()> {
        let utf8 = |b: &[u8]| Obj::Str(String::from_utf8_lossy(b).into_owned());
        // Python 2's byte strings are text in all the files we know: Latin-1 where not UTF-8.
        let py2 = |b: &[u8]| {
            Obj::Str(std::str::from_utf8(b).map_or_else(|_| b.iter().map(|c| char::from(*c)).collect(), str::to_owned))
        };
        let obj = match op {
            b'S' => {
                let line = self.line_bytes()?.trim_ascii();
                let quoted = line.len() >= 2 && matches!(line[0], b'\'' | b'"');
                py2(&unescaped(if quoted { &line[1..line.len() - 1] } else { line }))
            }
            b'V' => Obj::Str(raw_unicode(self.line_bytes()?)),
            b'T' => py2(self.sized(4)?),
            b'U' => py2(self.sized(1)?),
            b'X' => utf8(self.sized(4)?),
            0x8c => utf8(self.sized(1)?),
            0x8d => utf8(self.sized(8)?),
            b'B' => Obj::Bytes(self.sized(4)?.to_vec()),
            b'C' => Obj::Bytes(self.sized(1)?.to_vec()),
            _ => Obj::Bytes(self.sized(8)?.to_vec()),
        };
        self.push(obj);
        Ok(())
    }

    fn memoise(&mut self, op: u8) -> Step<()> {
        let key = match op {
            b'p' | b'g' => self.line()?.trim().parse().map_err(|_| "a memo number that is none")?,
            b'q' | b'h' => self.uint(1)?,
            b'r' | b'j' => self.uint(4)?,
            _ => self.memo.len() as u64,
        };
        if matches!(op, b'g' | b'h' | b'j') {
            let id = *self.memo.get(&key).ok_or_else(|| format!("there is no memo {key}"))?;
            self.stack.push(id);
        } else {
            let id = self.top()?;
            self.memo.insert(key, id);
        }
        Ok(())
    }

    fn container(&mut self, op: u8) -> Step<()> {
        match op {
            b')' => self.push(Obj::Tuple(Vec::new())),
            b']' => self.push(Obj::List(Vec::new())),
            b'}' => self.push(Obj::Dict(Vec::new())),
            0x8f => self.push(Obj::Set(Vec::new())),
            b't' | b'l' | 0x91 | b'd' => {
                let items = self.pop_mark()?;
                let obj = match op {
                    b't' => Obj::Tuple(items),
                    b'l' => Obj::List(items),
                    b'd' => Obj::Dict(pairs(&items)?),
                    _ => Obj::Set(items),
                };
                self.push(obj);
            }
            0x85..=0x87 => {
                let mut items = Vec::with_capacity(3);
                for _ in 0..op - 0x84 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Obj::Tuple(items));
            }
            b'a' | b'e' | 0x90 => {
                let new = if op == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
                let on = self.top()?;
                match &mut self.heap.values[on] {
                    Obj::List(v) | Obj::Set(v) | Obj::Object { list: v, .. } => v.extend(new),
                    _ => return Err("appends to something that is no list".into()),
                }
            }
            b's' | b'u' => {
                let new = if op == b's' {
                    let (value, key) = (self.pop()?, self.pop()?);
                    vec![(key, value)]
                } else {
                    pairs(&self.pop_mark()?)?
                };
                let on = self.top()?;
                match &mut self.heap.values[on] {
                    Obj::Dict(d) | Obj::Object { items: d, .. } => d.extend(new),
                    _ => return Err("sets items of something that is no dict".into()),
                }
            }
            0x97 | 0x98 => return Err("it keeps buffers outside of the file".into()),
            _ => return Err(format!("opcode {op:#04x} is not known")),
        }
        Ok(())
    }

    /// What `class(*args)` makes: a dict where it is known to be one, else an opaque instance.
    fn call(&mut self, class: Id, args: Id) {
        let known = match self.heap.global(class) {
            Some(("collections", "OrderedDict" | "defaultdict") | ("builtins" | "__builtin__", "dict")) => {
                Some(Obj::Dict(self.first_pairs(args)))
            }
            // Bytes, as Python 3 writes them in protocols 0 to 2.
            Some(("_codecs", "encode")) => {
                self.heap.items(args).and_then(|a| self.heap.str(*a.first()?)).and_then(|s| {
                    s.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>().map(Obj::Bytes)
                })
            }
            _ => None,
        };
        self.push(known.unwrap_or(Obj::Object { class, args, state: None, items: Vec::new(), list: Vec::new() }));
    }

    /// The pairs that `OrderedDict([[k, v], ...])` starts from.
    fn first_pairs(&self, args: Id) -> Vec<(Id, Id)> {
        let list =
            self.heap.items(args).unwrap_or_default().last().and_then(|a| self.heap.items(*a)).unwrap_or_default();
        list.iter()
            .filter_map(|pair| match self.heap.items(*pair) {
                Some([k, v]) => Some((*k, *v)),
                _ => None,
            })
            .collect()
    }
}

fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|[k, v]| (*k, *v)).collect()) } else { Err("a key without value".into()) }
}

/// Python 2's `repr` of a byte string without its quotes.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(b) = rest.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match rest.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16)).unwrap_or(0) as u8;
                out.push(digit() << 4 | digit());
            }
            Some(other) => out.push(other),
            None => out.push(b'\\'),
        }
    }
    out
}

/// Python's `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
fn raw_unicode(bytes: &[u8]) -> String {
    let (mut out, mut rest) = (String::with_capacity(bytes.len()), bytes);
    while let [first, after @ ..] = rest {
        let digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => 0,
        };
        let code = after.get(1..=digits).filter(|_| digits > 0).and_then(|d| std::str::from_utf8(d).ok());
        if let Some(c) = code.and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32) {
            out.push(c);
            rest = &after[1 + digits..];
        } else {
            out.push(char::from(*first));
            rest = after;
        }
    }
    out
}

fn long(bytes: &[u8]) -> Obj {
    if bytes.len() > 8 {
        return Obj::Long(bytes.to_vec());
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let fill = if negative { u64::MAX } else { 0 };
    let value = bytes.iter().enumerate().fold(fill, |v, (i, b)| v & !(0xff << (8 * i)) | u64::from(*b) << (8 * i));
    Obj::Int(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: &[u8]) -> (Heap, Id) {
        let mut heap = Heap::default();
        let (id, used) = read(bytes, &mut heap).unwrap();
        assert_eq!(used, bytes.len());
        (heap, id)
    }

    fn fails(bytes: &[u8]) -> String {
        read(bytes, &mut Heap::default()).unwrap_err().to_string()
    }

    #[test]
    fn numbers_of_every_protocol() {
        // pickle.dumps(x, p) of Python 3.11
        for (bytes, want) in [
            (&b"\x80\x02J\xff\xff\xff\xff."[..], Obj::Int(-1)),
            (b"I-70000\n.", Obj::Int(-70000)),
            (b"L123456789012L\n.", Obj::Int(123_456_789_012)),
            (b"\x80\x02\x8a\x05\x15\xcd\x5b\x07\x01.", Obj::Int(4_418_424_085)),
            (b"\x80\x02\x8a\x05\xeb\x32\xa4\xf8\xfe.", Obj::Int(-4_418_424_085)),
            (
                b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                Obj::Long(b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19".to_vec()),
            ),
            (b"\x80\x02G\x3f\xf8\0\0\0\0\0\0.", Obj::Float(1.5)),
            (b"I01\n.", Obj::Bool(true)),
            (b"N.", Obj::None),
            (b"S'ab'\n.", Obj::Str("ab".into())),
            (b"\x80\x04\x95\x06\0\0\0\0\0\0\0\x8c\x02ab\x94.", Obj::Str("ab".into())),
        ] {
            let (heap, id) = load(bytes);
            assert_eq!(heap.get(id), &want);
        }
    }

    #[test]
    fn an_ordered_dict_is_a_dict_and_other_classes_are_opaque() {
        // OrderedDict(a=1), protocol 2
        let (heap, id) = load(b"\x80\x02ccollections\nOrderedDict\nq\0)Rq\x01X\x01\0\0\0aq\x02K\x01s.");
        assert_eq!(heap.entry(id, "a").and_then(|v| heap.int(v)), Some(1));
        // what os.system("x") would be
        let (heap, id) = load(b"cos\nsystem\n(S'x'\ntR.");
        let Obj::Object { class, .. } = heap.get(id) else { panic!("not opaque") };
        assert_eq!(heap.global(*class), Some(("os", "system")));
    }

    #[test]
    fn a_list_in_itself_is_read() {
        let (heap, id) = load(b"\x80\x02]q\0h\0a.");
        assert_eq!(heap.items(id), Some(&[id][..]));
    }

    #[test]
    fn broken_pickles_are_errors() {
        assert!(fails(b"").contains("ends in the middle"));
        assert!(fails(b"\x80\x02X\xff\xff\xff\x7fabc").contains("byte 7: it ends in the middle"));
        assert!(fails(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab").contains("ends in the middle"));
        assert!(fails(b".").contains("the stack is empty"));
        assert!(fails(b"(K\x01u.").contains("a key without value"));
        assert!(fails(b"K\x01K\x02a.").contains("no list"));
        assert!(fails(b"t.").contains("mark is missing"));
        assert!(fails(b"h\x05.").contains("no memo 5"));
        assert!(fails(b"\x80\x09.").contains("protocol 9"));
        assert!(fails(b"\xfe").contains("opcode 0xfe"));
        assert!(fails(b"(0.").contains("the stack is empty"));
    }
}

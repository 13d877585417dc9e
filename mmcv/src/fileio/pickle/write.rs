//! Writing pickles.

use std::collections::HashMap;

use super::super::{Data, Key, NdArray, NdType};

/// Appends opcodes; [`finish`](Self::finish) gives the pickle.
pub(crate) struct PickleWriter {
    /// What is written so far.
    pub out: Vec<u8>,
    /// Memo numbers of numpy's types, and of the class and function that arrays name.
    types: HashMap<NdType, u8>,
    arrays: bool,
}

impl PickleWriter {
    /// Starts a pickle of `protocol`. [`data`](Self::data) needs 3 for bytes and arrays.
    pub fn new(protocol: u8) -> Self {
        Self { out: vec![0x80, protocol], types: HashMap::new(), arrays: false }
    }

    /// The whole pickle.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(b'.');
        self.out
    }

    /// Text.
    pub fn text(&mut self, s: &str) {
        match u32::try_from(s.len()) {
            Ok(len) => {
                self.out.push(b'X');
                self.out.extend_from_slice(&len.to_le_bytes());
            }
            Err(_) => {
                self.out.push(0x8d);
                self.out.extend_from_slice(&(s.len() as u64).to_le_bytes());
            }
        }
        self.out.extend_from_slice(s.as_bytes());
    }

    /// An integer.
    pub fn int(&mut self, i: i64) {
        match i32::try_from(i) {
            Ok(small @ 0..=255) => self.out.extend_from_slice(&[b'K', small as u8]),
            Ok(i) => {
                self.out.push(b'J');
                self.out.extend_from_slice(&i.to_le_bytes());
            }
            Err(_) => {
                self.out.extend_from_slice(&[0x8a, 8]);
                self.out.extend_from_slice(&i.to_le_bytes());
            }
        }
    }

    /// A float.
    pub fn float(&mut self, f: f64) {
        self.out.push(b'G');
        self.out.extend_from_slice(&f.to_be_bytes());
    }

    /// `True` or `False`.
    pub fn bool(&mut self, b: bool) {
        self.out.push(if b { 0x88 } else { 0x89 });
    }

    fn bytes(&mut self, b: &[u8]) {
        match (u8::try_from(b.len()), u32::try_from(b.len())) {
            (Ok(len), _) => self.out.extend_from_slice(&[b'C', len]),
            (_, Ok(len)) => {
                self.out.push(b'B');
                self.out.extend_from_slice(&len.to_le_bytes());
            }
            _ => {
                self.out.push(0x8e);
                self.out.extend_from_slice(&(b.len() as u64).to_le_bytes());
            }
        }
        self.out.extend_from_slice(b);
    }

    /// Any value.
    pub fn data(&mut self, data: &Data) {
        match data {
            Data::None => self.out.push(b'N'),
            Data::Bool(b) => self.bool(*b),
            Data::Int(i) => match i64::try_from(*i) {
                Ok(i) => self.int(i),
                Err(_) => {
                    self.out.extend_from_slice(&[0x8a, 16]);
                    self.out.extend_from_slice(&i.to_le_bytes());
                }
            },
            Data::Float(f) => self.float(*f),
            Data::Str(s) => self.text(s),
            Data::Bytes(b) => self.bytes(b),
            Data::List(v) => {
                self.out.extend_from_slice(b"](");
                v.iter().for_each(|d| self.data(d));
                self.out.push(b'e');
            }
            Data::Tuple(v) => {
                self.out.push(b'(');
                v.iter().for_each(|d| self.data(d));
                self.out.push(b't');
            }
            Data::Dict(d) => {
                self.out.extend_from_slice(b"}(");
                for (key, value) in d {
                    match key {
                        Key::Str(s) => self.text(s),
                        other => self.data(&Data::from(other.clone())),
                    }
                    self.data(value);
                }
                self.out.push(b'u');
            }
            Data::Array(a) if a.shape().is_empty() => {
                self.out.extend_from_slice(b"cnumpy.core.multiarray\nscalar\n(");
                self.dtype(a.dtype());
                self.bytes(a.bytes());
                self.out.extend_from_slice(b"tR");
            }
            Data::Array(a) => self.array(a),
        }
    }

    /// `_reconstruct(ndarray, (0,), b'b')` and its state `(1, shape, dtype, False, bytes)`, as numpy writes it.
    fn array(&mut self, a: &NdArray) {
        if std::mem::replace(&mut self.arrays, true) {
            self.out.extend_from_slice(b"h\0(h\x01");
        } else {
            self.out.extend_from_slice(b"cnumpy.core.multiarray\n_reconstruct\nq\0(cnumpy\nndarray\nq\x01");
        }
        self.out.extend_from_slice(b"K\0\x85C\x01btR(K\x01(");
        a.shape().iter().for_each(|n| self.int(*n as i64));
        self.out.push(b't');
        self.dtype(a.dtype());
        self.bool(false);
        self.bytes(a.bytes());
        self.out.extend_from_slice(b"tb");
    }

    fn dtype(&mut self, dtype: NdType) {
        if let Some(memo) = self.types.get(&dtype) {
            self.out.extend_from_slice(&[b'h', *memo]);
            return;
        }
        self.out.extend_from_slice(b"cnumpy\ndtype\n(");
        self.text(&dtype.code());
        self.out.extend_from_slice(b"\x89\x88tR(K\x03");
        self.text(dtype.order());
        self.out.extend_from_slice(b"NNN");
        if let NdType::Bytes(_) | NdType::Text(_) = dtype {
            self.int(dtype.size() as i64);
            self.int(if matches!(dtype, NdType::Text(_)) { 4 } else { 1 });
            self.int(if matches!(dtype, NdType::Text(_)) { 8 } else { 0 });
        } else {
            self.int(-1);
            self.int(-1);
            self.int(0);
        }
        self.out.extend_from_slice(b"tb");
        // 0 and 1 are the array's class and function.
        if let Ok(memo @ 2..) = u8::try_from(self.types.len() + 2) {
            self.out.extend_from_slice(&[b'q', memo]);
            self.types.insert(dtype, memo);
        }
    }
}

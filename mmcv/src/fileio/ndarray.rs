//! numpy's arrays as files hold them.

use half::f16;

use super::Data;

/// Type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NdType {
    /// A truth value in one byte.
    Bool,
    /// Signed 8 bits.
    I8,
    /// Signed 16 bits.
    I16,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
    /// Unsigned 8 bits.
    U8,
    /// Unsigned 16 bits.
    U16,
    /// Unsigned 32 bits.
    U32,
    /// Unsigned 64 bits.
    U64,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Bytes of a fixed length, filled up with zeros.
    Bytes(usize),
    /// Text of a fixed number of characters (UCS-4), filled up with zeros.
    Text(usize),
}

impl NdType {
    /// By numpy's code without its byte order: `f4`, `i8`, `b1`, `S5`, `U3`.
    pub fn from_code(code: &str) -> Option<Self> {
        let (kind, size) = code.split_at_checked(1)?;
        let size: usize = size.parse().ok()?;
        Some(match (kind, size) {
            ("b", 1) => Self::Bool,
            ("i", 1) => Self::I8,
            ("i", 2) => Self::I16,
            ("i", 4) => Self::I32,
            ("i", 8) => Self::I64,
            ("u", 1) => Self::U8,
            ("u", 2) => Self::U16,
            ("u", 4) => Self::U32,
            ("u", 8) => Self::U64,
            ("f", 2) => Self::F16,
            ("f", 4) => Self::F32,
            ("f", 8) => Self::F64,
            ("S", n) => Self::Bytes(n),
            ("U", n) if n <= usize::MAX / 4 => Self::Text(n),
            _ => return None,
        })
    }

    /// numpy's code without a byte order.
    pub fn code(self) -> String {
        match self {
            Self::Bool => "b1".into(),
            Self::I8 => "i1".into(),
            Self::I16 => "i2".into(),
            Self::I32 => "i4".into(),
            Self::I64 => "i8".into(),
            Self::U8 => "u1".into(),
            Self::U16 => "u2".into(),
            Self::U32 => "u4".into(),
            Self::U64 => "u8".into(),
            Self::F16 => "f2".into(),
            Self::F32 => "f4".into(),
            Self::F64 => "f8".into(),
            Self::Bytes(n) => format!("S{n}"),
            Self::Text(n) => format!("U{n}"),
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
            Self::Bytes(n) => n,
            Self::Text(n) => 4 * n,
        }
    }

    /// numpy's mark of the byte order that files written here have.
    pub(super) fn order(self) -> &'static str {
        if self.unit() == 1 { "|" } else { "<" }
    }

    /// Bytes that a change of byte order turns round together.
    fn unit(self) -> usize {
        match self {
            Self::Bytes(_) => 1,
            Self::Text(_) => 4,
            other => other.size(),
        }
    }
}

/// An array: elements little endian, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct NdArray {
    dtype: NdType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl NdArray {
    /// An array of `shape` whose elements are `bytes`, little endian, row-major.
    pub fn new(dtype: NdType, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Self, String> {
        let wanted = shape.iter().try_fold(dtype.size(), |n, s| n.checked_mul(*s));
        if wanted != Some(bytes.len()) {
            return Err(format!("an array of {shape:?} '{}' with {} bytes", dtype.code(), bytes.len()));
        }
        Ok(Self { dtype, shape, bytes })
    }

    /// The same from a file that may have another byte order (`>`) or column-major order.
    pub(super) fn stored(
        dtype: NdType,
        big_endian: bool,
        fortran: bool,
        shape: Vec<usize>,
        mut bytes: Vec<u8>,
    ) -> Result<Self, String> {
        if big_endian && dtype.unit() > 1 {
            bytes.chunks_exact_mut(dtype.unit()).for_each(<[u8]>::reverse);
        }
        let array = Self::new(dtype, shape, bytes)?;
        Ok(if fortran && array.shape.len() > 1 { array.row_major() } else { array })
    }

    /// Column-major elements put in row-major order.
    fn row_major(self) -> Self {
        let size = self.dtype.size();
        let mut strides = vec![1; self.shape.len()];
        for axis in 1..self.shape.len() {
            strides[axis] = strides[axis - 1] * self.shape[axis - 1];
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut index = vec![0; self.shape.len()];
        while bytes.len() < self.bytes.len() {
            let at = size * index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>();
            bytes.extend_from_slice(&self.bytes[at..at + size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Self { bytes, ..self }
    }

    /// An array of `f32`.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, String> {
        Self::new(NdType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// An array of `i64`.
    pub fn from_i64(shape: Vec<usize>, values: &[i64]) -> Result<Self, String> {
        Self::new(NdType::I64, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// The elements' type.
    pub fn dtype(&self) -> NdType {
        self.dtype
    }

    /// The sizes of its axes; none for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, little endian, row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Element `index` in row-major order, as numpy's `item` gives it.
    pub fn item(&self, index: usize) -> Option<Data> {
        fn word<const N: usize>(b: &[u8]) -> [u8; N] {
            // `item` below cuts exactly the size of the type.
            std::array::from_fn(|i| b[i])
        }
        if index >= self.len() {
            return None;
        }
        let size = self.dtype.size();
        let b = &self.bytes[index * size..(index + 1) * size];
        Some(match self.dtype {
            NdType::Bool => Data::Bool(b[0] != 0),
            NdType::I8 => Data::Int((b[0] as i8).into()),
            NdType::I16 => Data::Int(i16::from_le_bytes(word(b)).into()),
            NdType::I32 => Data::Int(i32::from_le_bytes(word(b)).into()),
            NdType::I64 => Data::Int(i64::from_le_bytes(word(b)).into()),
            NdType::U8 => Data::Int(b[0].into()),
            NdType::U16 => Data::Int(u16::from_le_bytes(word(b)).into()),
            NdType::U32 => Data::Int(u32::from_le_bytes(word(b)).into()),
            NdType::U64 => Data::Int(u64::from_le_bytes(word(b)).into()),
            NdType::F16 => Data::Float(f16::from_le_bytes(word(b)).into()),
            NdType::F32 => Data::Float(f32::from_le_bytes(word(b)).into()),
            NdType::F64 => Data::Float(f64::from_le_bytes(word(b))),
            NdType::Bytes(_) => {
                let end = b.iter().rposition(|c| *c != 0).map_or(0, |i| i + 1);
                Data::Bytes(b[..end].to_vec())
            }
            NdType::Text(_) => {
                let (chars, _) = b.as_chunks::<4>();
                let end = chars.iter().rposition(|c| *c != [0; 4]).map_or(0, |i| i + 1);
                let char = |c: &[u8; 4]| char::from_u32(u32::from_le_bytes(*c)).unwrap_or(char::REPLACEMENT_CHARACTER);
                Data::Str(chars[..end].iter().map(char).collect())
            }
        })
    }

    /// The elements as floats, when they are numbers.
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        (0..self.len()).map(|i| self.item(i)?.as_f64()).collect()
    }

    /// The elements as integers, when they are integers that fit.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        (0..self.len()).map(|i| self.item(i)?.as_i64()).collect()
    }

    /// numpy's `tolist`.
    pub fn to_list(&self) -> Data {
        self.list(0, 0)
    }

    fn list(&self, axis: usize, at: usize) -> Data {
        let Some(n) = self.shape.get(axis) else { return self.item(at).unwrap_or(Data::None) };
        let step: usize = self.shape[axis + 1..].iter().product();
        Data::List((0..*n).map(|i| self.list(axis + 1, at + i * step)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_orders_become_row_major_little_endian() {
        // np.asfortranarray([[1, 2, 3], [4, 5, 6]]).astype('>i2')
        let stored = [0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6].to_vec();
        let a = NdArray::stored(NdType::I16, true, true, vec![2, 3], stored).unwrap();
        assert_eq!(a.to_i64s().unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn text_loses_its_filling() {
        let bytes = "ab\0ä\0\0".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let a = NdArray::new(NdType::Text(3), vec![2], bytes).unwrap();
        assert_eq!(a.to_list(), Data::List(vec!["ab".into(), "ä".into()]));
        assert!(NdArray::new(NdType::F32, vec![2], vec![0; 7]).unwrap_err().contains("with 7 bytes"));
    }
}

//! Element types as files store them, and how they become tensors.

use candle_core::{DType, Device, Tensor};

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elem {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    I64,
    I32,
    I16,
    I8,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl Elem {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool | Self::F8E4M3 => 1,
        }
    }

    /// By the name of PyTorch's storage class (`FloatStorage`) or dtype (`float32`).
    pub fn torch(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" | "float64" | "double" => Self::F64,
            "FloatStorage" | "float32" | "float" => Self::F32,
            "HalfStorage" | "float16" | "half" => Self::F16,
            "BFloat16Storage" | "bfloat16" => Self::BF16,
            "float8_e4m3fn" => Self::F8E4M3,
            "LongStorage" | "int64" | "long" => Self::I64,
            "IntStorage" | "int32" | "int" => Self::I32,
            "ShortStorage" | "int16" | "short" => Self::I16,
            "CharStorage" | "int8" => Self::I8,
            // An untyped storage counts bytes; the tensor says its type.
            "ByteStorage" | "uint8" | "UntypedStorage" => Self::U8,
            "uint16" => Self::U16,
            "uint32" => Self::U32,
            "uint64" => Self::U64,
            "BoolStorage" | "bool" => Self::Bool,
            _ => return None,
        })
    }

    /// By numpy's code (`f4`, `<i8`).
    pub fn numpy(code: &str) -> Option<Self> {
        Some(match code.trim_start_matches(['<', '|', '=']) {
            "f8" => Self::F64,
            "f4" => Self::F32,
            "f2" => Self::F16,
            "i8" => Self::I64,
            "i4" => Self::I32,
            "i2" => Self::I16,
            "i1" => Self::I8,
            "u1" => Self::U8,
            "u2" => Self::U16,
            "u4" => Self::U32,
            "u8" => Self::U64,
            "b1" => Self::Bool,
            _ => return None,
        })
    }

    /// By safetensors' type.
    pub fn safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        use safetensors::Dtype as D;
        Some(match dtype {
            D::F64 => Self::F64,
            D::F32 => Self::F32,
            D::F16 => Self::F16,
            D::BF16 => Self::BF16,
            D::F8_E4M3 => Self::F8E4M3,
            D::I64 => Self::I64,
            D::I32 => Self::I32,
            D::I16 => Self::I16,
            D::I8 => Self::I8,
            D::U8 => Self::U8,
            D::U16 => Self::U16,
            D::U32 => Self::U32,
            D::U64 => Self::U64,
            D::BOOL => Self::Bool,
            _ => return None,
        })
    }

    /// The tensor of `shape` whose elements are `bytes`, little endian, in row-major order. Types that candle lacks are
    /// widened (`int8` to `i16`, `uint16` to `u32`, `uint64` to `i64`); `bool` is `u8`.
    pub fn tensor(self, bytes: &[u8], shape: &[usize]) -> Result<Tensor, String> {
        let cpu = &Device::Cpu;
        let made = match self {
            Self::I8 => Tensor::from_vec(bytes.iter().map(|b| i16::from(*b as i8)).collect::<Vec<_>>(), shape, cpu),
            Self::U16 => {
                let (pairs, _) = bytes.as_chunks::<2>();
                Tensor::from_vec(
                    pairs.iter().map(|b| u32::from(u16::from_le_bytes(*b))).collect::<Vec<_>>(),
                    shape,
                    cpu,
                )
            }
            Self::U64 => {
                let (words, _) = bytes.as_chunks::<8>();
                let wide = words.iter().map(|b| i64::try_from(u64::from_le_bytes(*b)));
                let wide: Vec<i64> = wide.collect::<Result<_, _>>().map_err(|_| "a uint64 beyond int64".to_owned())?;
                Tensor::from_vec(wide, shape, cpu)
            }
            _ => Tensor::from_raw_buffer(bytes, self.dtype(), shape, cpu),
        };
        made.map_err(|e| e.to_string())
    }

    fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::F8E4M3 => DType::F8E4M3,
            Self::I64 | Self::U64 => DType::I64,
            Self::I32 => DType::I32,
            Self::I16 | Self::I8 => DType::I16,
            Self::U32 | Self::U16 => DType::U32,
            Self::U8 | Self::Bool => DType::U8,
        }
    }
}

/// Elements of a tensor, little endian, row-major.
pub(super) fn bytes(tensor: &Tensor) -> Result<Vec<u8>, String> {
    fn raw<T: candle_core::WithDType, const N: usize>(
        t: &Tensor,
        to: fn(T) -> [u8; N],
    ) -> candle_core::Result<Vec<u8>> {
        Ok(t.to_vec1::<T>()?.into_iter().flat_map(to).collect())
    }
    let made = || {
        let t = tensor.flatten_all()?;
        match t.dtype() {
            DType::F32 => raw(&t, f32::to_le_bytes),
            DType::F64 => raw(&t, f64::to_le_bytes),
            DType::F16 => raw(&t, half::f16::to_le_bytes),
            DType::BF16 => raw(&t, half::bf16::to_le_bytes),
            DType::I64 => raw(&t, i64::to_le_bytes),
            DType::I32 => raw(&t, i32::to_le_bytes),
            DType::I16 => raw(&t, i16::to_le_bytes),
            DType::U32 => raw(&t, u32::to_le_bytes),
            DType::U8 => t.to_vec1::<u8>(),
            other => candle_core::bail!("tensors of type {other:?} can't be written"),
        }
    };
    made().map_err(|e| e.to_string())
}

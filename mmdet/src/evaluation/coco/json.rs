//! What a COCO annotation file says, read straight into typed records.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::DeserializeOwned};

use crate::core::AnnMask;
use crate::core::mask::Rle;

/// The file as a whole. Every field may be absent so that the reader can say which one a record lacks.
#[derive(Deserialize)]
pub(super) struct RawFile {
    pub images: Option<Records<RawImage>>,
    pub annotations: Option<Records<RawAnn>>,
    pub categories: Option<Records<RawCategory>>,
}

#[derive(Deserialize)]
pub(super) struct RawImage {
    pub id: Option<i64>,
    pub file_name: Option<String>,
    pub width: Option<Number>,
    pub height: Option<Number>,
}

#[derive(Deserialize)]
pub(super) struct RawCategory {
    pub id: Option<i64>,
    pub name: Option<String>,
    pub supercategory: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawAnn {
    pub id: Option<i64>,
    pub image_id: Option<i64>,
    pub category_id: Option<i64>,
    pub bbox: Option<[Number; 4]>,
    pub area: Option<Number>,
    #[serde(default)]
    pub iscrowd: Flag,
    #[serde(default)]
    pub ignore: Flag,
    #[serde(default)]
    pub difficult: Flag,
    #[serde(default)]
    pub segmentation: Segmentation,
}

/// A kind of record, by the list that it is in.
pub(super) trait Record: DeserializeOwned {
    /// The list's key.
    const LIST: &'static str;
}

impl Record for RawImage {
    const LIST: &'static str = "images";
}

impl Record for RawCategory {
    const LIST: &'static str = "categories";
}

impl Record for RawAnn {
    const LIST: &'static str = "annotations";
}

/// A list whose errors say which record they are in.
pub(super) struct Records<T>(pub Vec<T>);

impl<'de, T: Record> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Record> Visitor<'de> for List<T> {
            type Value = Records<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "the list '{}'", T::LIST)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                loop {
                    match seq.next_element() {
                        Ok(Some(record)) => all.push(record),
                        Ok(None) => return Ok(Records(all)),
                        Err(e) => return Err(de::Error::custom(format!("{}[{}]: {e}", T::LIST, all.len()))),
                    }
                }
            }
        }
        d.deserialize_seq(List(PhantomData))
    }
}

/// A number; `null` stands for Python's `NaN`, which JSON has no word for.
#[derive(Clone, Copy)]
pub(super) struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self(Option::<f64>::deserialize(d)?.unwrap_or(f64::NAN)))
    }
}

/// A flag, written as a number or a truth value.
#[derive(Clone, Copy, Default)]
pub(super) struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("0, 1, true or false")
            }
            fn visit_bool<E>(self, v: bool) -> Result<Flag, E> {
                Ok(Flag(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Flag, E> {
                Ok(Flag(v != 0))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Flag, E> {
                Ok(Flag(v != 0))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Flag, E> {
                Ok(Flag(v != 0.0))
            }
            fn visit_unit<E>(self) -> Result<Flag, E> {
                Ok(Flag(false))
            }
        }
        d.deserialize_any(V)
    }
}

/// Polygons, run lengths or nothing.
#[derive(Default)]
pub(super) struct Segmentation(pub Option<AnnMask>);

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Segmentation;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of polygons or run lengths {\"size\", \"counts\"}")
            }
            fn visit_unit<E>(self) -> Result<Segmentation, E> {
                Ok(Segmentation(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Segmentation, A::Error> {
                let mut polygons = Vec::new();
                while let Some(polygon) = seq.next_element::<Vec<f64>>()? {
                    polygons.push(polygon);
                }
                Ok(Segmentation(Some(AnnMask::Polygons(polygons))))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Segmentation, A::Error> {
                let (mut size, mut counts) = (None, None);
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    match &*key {
                        "size" => size = Some(map.next_value::<[usize; 2]>()?),
                        "counts" => counts = Some(map.next_value::<Counts>()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let [h, w] = size.ok_or_else(|| de::Error::missing_field("size"))?;
                let rle = match counts.ok_or_else(|| de::Error::missing_field("counts"))? {
                    Counts::Runs(runs) => Rle::from_counts(h, w, runs),
                    Counts::Text(text) => Rle::from_text(h, w, &text),
                };
                let rle = rle.ok_or_else(|| {
                    de::Error::custom(format!("run lengths don't sum to the {h} x {w} pixels of `size`"))
                })?;
                Ok(Segmentation(Some(AnnMask::Rle(rle))))
            }
        }
        d.deserialize_any(V)
    }
}

/// Run lengths as numbers or in COCO's compressed text.
enum Counts {
    Runs(Vec<u32>),
    Text(String),
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Counts;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("run lengths as a list or as compressed text")
            }
            fn visit_str<E>(self, v: &str) -> Result<Counts, E> {
                Ok(Counts::Text(v.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Counts, A::Error> {
                let mut runs = Vec::new();
                while let Some(run) = seq.next_element()? {
                    runs.push(run);
                }
                Ok(Counts::Runs(runs))
            }
        }
        d.deserialize_any(V)
    }
}

/// Replaces Python's `NaN`, `Infinity` and `-Infinity` outside strings by `null`; `None` when there are none.
pub(super) fn without_nan(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut copied, mut at) = (Vec::new(), 0, 0);
    let mut quoted = false;
    while at < text.len() {
        match text[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'N' | b'I' | b'-' if !quoted => {
                if let Some(word) = [&b"NaN"[..], b"Infinity", b"-Infinity"].iter().find(|w| text[at..].starts_with(w))
                {
                    out.extend_from_slice(&text[copied..at]);
                    out.extend_from_slice(b"null");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    (copied > 0).then(|| {
        out.extend_from_slice(&text[copied..]);
        out
    })
}

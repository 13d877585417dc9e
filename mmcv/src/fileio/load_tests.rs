use std::sync::Arc;

use serde::Deserialize;

use super::super::{MemoryBackend, NdArray, NdType};
use super::*;

fn test_file(name: &str) -> String {
    format!("{}/src/fileio/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python(name: &str) -> Data {
    load(&FileClient::default(), &test_file(name)).unwrap()
}

fn ints(values: &[i128]) -> Data {
    Data::List(values.iter().map(|i| Data::Int(*i)).collect())
}

#[test]
fn pickles_of_every_protocol_are_read() {
    // testdata/make.py wrote them.
    for protocol in 0..6 {
        let d = python(&format!("protocol_{protocol}.pkl"));
        let get = |key: &str| d.get(key).unwrap_or_else(|| panic!("{protocol}: {key}"));
        assert_eq!((get("none"), get("yes")), (&Data::None, &Data::Bool(true)));
        let big = 1i128 << 100;
        assert_eq!(get("ints"), &ints(&[0, 255, -1, 70000, 1 << 40, -(1 << 40), 1 << 63, big, -big]), "{protocol}");
        let floats: Vec<f64> = get("floats").as_list().unwrap().iter().map(|f| f.as_f64().unwrap()).collect();
        assert!(floats[0] == 1.5 && floats[1].is_sign_negative() && floats[2] == f64::INFINITY && floats[3].is_nan());
        let text: Vec<&str> = get("text").as_list().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        assert_eq!(text, ["a", "é", "Ω\n\\u", "𝄞"], "{protocol}");
        assert_eq!(get("raw"), &Data::Bytes(b"\x00\xffb".to_vec()), "{protocol}");
        assert_eq!(get("array"), &Data::Bytes(b"xy".to_vec()), "{protocol}");
        assert_eq!(
            get("pair"),
            &Data::Tuple(vec![1.into(), Data::Tuple(vec![]), Data::Tuple(vec!["a".into()])]),
            "{protocol}"
        );
        assert_eq!(get("same"), &Data::List(vec![ints(&[1, 2]), ints(&[1, 2])]));
        assert_eq!((get("ids"), get("frozen")), (&ints(&[3]), &ints(&[4])), "{protocol}");
        let keyed = get("keyed").as_dict().unwrap();
        assert_eq!(keyed[&Key::Tuple(vec![Key::Int(2), Key::from("b")])], "c".into());
        assert_eq!((&keyed[&Key::Int(1)], &keyed[&Key::None]), (&"a".into(), &"d".into()));
        assert_eq!(get("counts").get("a"), Some(&ints(&[1])), "{protocol}");
        let ann = get("ann");
        let array = |key: &str| ann.get(key).and_then(Data::as_array).unwrap_or_else(|| panic!("{protocol}: {key}"));
        let boxes = NdArray::from_f32(vec![2, 4], &[1.0, 2.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        assert_eq!(array("bboxes"), &boxes, "{protocol}");
        assert_eq!(array("labels"), &NdArray::from_i64(vec![2], &[1, 0]).unwrap());
        assert_eq!(array("empty").shape(), [0, 4]);
        assert_eq!(ann.get("scalar").unwrap().as_f64(), Some(0.25), "{protocol}");
        assert_eq!(array("big").to_i64s().unwrap(), [0, 1, 2]);
        assert_eq!(array("fortran").to_list(), Data::List(vec![ints(&[0, 1, 2]), ints(&[3, 4, 5])]), "{protocol}");
        assert_eq!((array("half").to_f64s().unwrap(), ann.get("flag").unwrap().as_i64()), (vec![0.5], Some(1)));
        assert_eq!(array("names").to_list(), Data::List(vec!["ab".into(), "c".into()]));
        let ragged = ann.get("ragged").unwrap().as_list().unwrap();
        assert_eq!((ragged[0].as_array().unwrap().to_list(), &ragged[1]), (ints(&[1]), &ints(&[2, 3])));
        assert_eq!((array("zero").shape().len(), ann.get("zero").unwrap().as_i64()), (0, Some(7)));
    }
}

#[test]
fn nothing_is_run_and_what_is_refused_is_named_with_its_place() {
    let fails = |bytes: &[u8]| load_bytes(bytes, Format::Pickle).unwrap_err();
    // pickle.dumps of an object whose __reduce__ is (os.system, ('x',)), protocol 0
    let e = fails(b"(lp0\ncposix\nsystem\np1\n(Vx\np2\ntp3\nRp4\na.");
    assert!(e.starts_with("pickle, byte 5: 'posix.system' is not read"), "{e}");
    // the class itself: pickle.dumps(collections.Counter, 4)
    let e = fails(b"\x80\x04\x95\x1b\0\0\0\0\0\0\0\x8c\x0bcollections\x94\x8c\x07Counter\x94\x93\x94.");
    assert!(e.starts_with("pickle, byte 35: 'collections.Counter' is not read"), "{e}");
    // a list in itself
    assert!(fails(b"\x80\x02]q\0h\0a.").contains("byte 2: values nested deeper than 200, or a list in itself"));
    // 40 levels of [x, x]: 2^40 values
    let mut bomb = b"\x80\x02]q\0".to_vec();
    for i in 0..40u8 {
        bomb.extend_from_slice(&[b']', b'(', b'h', i, b'h', i, b'e', b'q', i + 1]);
    }
    bomb.push(b'.');
    assert!(fails(&bomb).contains("fill the memory"));
    assert!(fails(b"\x80\x05\x97.").contains("byte 3: it keeps buffers outside"));
    assert!(fails(b"N.garbage").contains("byte 2: there is more behind its end"));
    assert!(fails(b"}]Ns.").contains("byte 1: a list as a key"));
    // np.array([1j]), whose type is 'c16'
    let e = fails(b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x03\0\0\0c16\x89\x88\x87RU\x01a\x86R.");
    assert!(e.contains("numpy arrays of type 'c16' are not read"), "{e}");
    let e = load(&FileClient::default(), "no/such.pkl").unwrap_err().to_string();
    assert!(e.contains("no/such.pkl"), "{e}");
}

fn sample() -> Data {
    let boxes = NdArray::from_f32(vec![1, 2], &[1.5, f32::INFINITY]).unwrap();
    let names = NdArray::new(NdType::Bytes(2), vec![2], b"abc\0".to_vec()).unwrap();
    let scalar = NdArray::new(NdType::I16, vec![], vec![3, 0]).unwrap();
    Data::from_iter([
        ("list", Data::List(vec![1.into(), (-70000).into(), Data::Int(1 << 90), 0.1.into(), Data::None, true.into()])),
        ("tuple", Data::Tuple(vec!["é".into(), Data::Bytes(vec![0, 255])])),
        ("long", Data::Bytes(vec![7; 300])),
        ("arrays", Data::List(vec![boxes.clone().into(), boxes.into(), names.into(), scalar.into()])),
    ])
}

#[test]
fn what_is_written_as_a_pickle_is_read_back() {
    let bytes = dump_bytes(&sample(), Format::Pickle).unwrap();
    assert_eq!(load_bytes(&bytes, Format::Pickle).unwrap(), sample());
}

#[test]
fn python_reads_what_is_written() {
    // Where a Python with numpy is there: the files of the formats, as `repr` shows them.
    let Some(python) = ["MMRS_PYTHON", "PYTHON"].iter().find_map(|v| std::env::var(v).ok()) else {
        eprintln!("skipped: MMRS_PYTHON names no Python with numpy");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pkl = dir.path().join("a.pkl");
    dump_file(&sample(), &pkl).unwrap();
    dump_file(&NdArray::from_i64(vec![2, 1], &[3, 4]).unwrap().into(), dir.path().join("a.npy")).unwrap();
    let named = Data::from_iter([("x", NdArray::from_f32(vec![1], &[0.5]).unwrap().into())]);
    dump_file(&named, dir.path().join("a.npz")).unwrap();
    let code = "import pickle, numpy as np, sys; d = sys.argv[1]; v = pickle.load(open(d + '/a.pkl', 'rb'))\n\
                print(v['list'], v['tuple'], len(v['long']), [a.tolist() for a in v['arrays']], v['arrays'][1].dtype)\n\
                print(np.load(d + '/a.npy').tolist(), np.load(d + '/a.npz')['x'].dtype)";
    let out = std::process::Command::new(python).arg("-c").arg(code).arg(dir.path()).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "[1, -70000, 1237940039285380274899124224, 0.1, None, True] ('é', b'\\x00\\xff') 300 \
         [[[1.5, inf]], [[1.5, inf]], [b'ab', b'c'], 3] float32\n[[3], [4]] float32\n",
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn numpy_files_are_read_and_written() {
    let Data::Array(a) = python("array.npy") else { panic!("no array") };
    assert_eq!((a.shape(), a.to_f64s().unwrap()), (&[2, 3][..], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    let d = python("arrays.npz");
    assert_eq!(d.get("boxes").unwrap().as_array().unwrap().to_f64s().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(d.get("n").unwrap().as_i64(), Some(3));
    for format in [Format::Npz, Format::Pickle] {
        assert_eq!(load_bytes(&dump_bytes(&d, format).unwrap(), format).unwrap(), d);
    }
    let bytes = dump_bytes(&Data::Array(a.clone()), Format::Npy).unwrap();
    // The content starts at a multiple of 64, as numpy has it.
    assert_eq!((bytes.len() - a.bytes().len()) % 64, 0);
    assert_eq!(load_bytes(&bytes, Format::Npy).unwrap(), Data::Array(a));
    let fails = |bytes: &[u8]| load_bytes(bytes, Format::Npy).unwrap_err();
    assert!(fails(b"hello").contains("magic number"));
    assert!(fails(&bytes[..40]).contains("in the middle of its header"));
    assert!(fails(&bytes[..bytes.len() - 1]).contains("with 47 bytes"));
    assert!(dump_bytes(&Data::None, Format::Npy).unwrap_err().contains("not None"));
}

#[test]
fn json_has_pythons_floats() {
    // json.dumps([float('nan'), float('inf'), -float('inf'), 'NaN "NaN', 1e-07, 2**70])
    let text = br#"[NaN, Infinity, -Infinity, "NaN \"NaN", 1e-07, {"a": [1]}]"#;
    let d = load_bytes(text, Format::Json).unwrap();
    let v = d.as_list().unwrap();
    assert!(v[0].as_f64().unwrap().is_nan() && v[1] == f64::INFINITY.into() && v[2] == f64::NEG_INFINITY.into());
    assert_eq!(v[3], "NaN \"NaN".into());
    let again = String::from_utf8(dump_bytes(&d, Format::Json).unwrap()).unwrap();
    assert_eq!(again, r#"[NaN, Infinity, -Infinity, "NaN \"NaN", 1e-7, {"a": [1]}]"#);
    assert!(load_bytes(b"[1,\n}", Format::Json).unwrap_err().contains("line 2"));
    assert!(dump_bytes(&Data::Bytes(vec![1]), Format::Json).unwrap_err().contains("bytes"));
}

#[test]
fn yaml_and_toml_are_read_and_written() {
    let d = load_bytes(b"a: 1\nb: [x, 2.5, null, .inf]\n3: why\n", Format::Yaml).unwrap();
    assert_eq!(d.as_dict().unwrap()[&Key::Int(3)], "why".into());
    assert_eq!(d.get("b").unwrap().as_list().unwrap()[1..], [2.5.into(), Data::None, f64::INFINITY.into()]);
    assert_eq!(load_bytes(&dump_bytes(&d, Format::Yaml).unwrap(), Format::Yaml).unwrap(), d);
    let d = load_bytes(b"a = 1\nday = 2020-07-01\n[t]\nx = [1.5, inf]\n", Format::Toml).unwrap();
    assert_eq!(d.get("day"), Some(&"2020-07-01".into()));
    assert_eq!(load_bytes(&dump_bytes(&d, Format::Toml).unwrap(), Format::Toml).unwrap(), d);
}

#[derive(Debug, PartialEq, Deserialize)]
struct Typed {
    boxes: Vec<[f32; 2]>,
    name: Option<String>,
    n: u8,
}

#[test]
fn typed_records_are_read_from_every_format() {
    let memory = MemoryBackend::default();
    let boxes = NdArray::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
    let typed = |n: i64| Data::from_iter([("boxes", boxes.clone().into()), ("name", "a".into()), ("n", n.into())]);
    memory.put("m:a.json", br#"{"boxes": [[1, 2], [3, 4]], "name": "a", "n": 3}"#.to_vec());
    memory.put("m:a.toml", b"boxes = [[1, 2], [3.0, 4]]\nname = 'a'\nn = 3".to_vec());
    memory.put("m:bad.json", br#"{"boxes": [[1, 2], [3]], "n": 3}"#.to_vec());
    let client = FileClient::default().with_prefix("m:", Arc::new(memory));
    dump(&client, &typed(3), "m:a.pkl").unwrap();
    dump(&client, &typed(3), "m:a.yaml").unwrap();
    let want = Typed { boxes: vec![[1.0, 2.0], [3.0, 4.0]], name: Some("a".into()), n: 3 };
    for name in ["m:a.json", "m:a.toml", "m:a.yaml", "m:a.pkl"] {
        assert_eq!(load_as::<Typed>(&client, name).unwrap(), want, "{name}");
    }
    dump(&client, &typed(300), "m:a.pkl").unwrap();
    let e = load_as::<Typed>(&client, "m:a.pkl").unwrap_err().to_string();
    assert!(e.contains("m:a.pkl: n: ") && e.contains("300"), "{e}");
    let e = load_as::<Typed>(&client, "m:bad.json").unwrap_err().to_string();
    assert!(e.contains("bad.json: boxes[1]"), "{e}");
    let e = load(&client, "m:a.jsn").unwrap_err().to_string();
    assert!(e.contains("'.jsn' is no known format; did you mean 'json'?"), "{e}");
    assert!(dump(&client, &typed(1), "http://x/a.json").unwrap_err().to_string().contains("can't be written"));
}

//! Annotation files with mistakes in them.

use serde_json::{Value, json};

use super::site::{Site, annotations};

/// Changes a site's annotations, and the words of the error.
type Spoil = (fn(&mut Value), &'static [&'static str]);

const REFUSED: &[Spoil] = &[
    (|a| a["images"][1]["id"] = json!(0), &["images[1] (id 0)", "another image has this id"]),
    (|a| a["annotations"][1]["id"] = json!(0), &["annotations[1] (id 0)", "another annotation has this id"]),
    (|a| a["categories"][1]["id"] = json!(1), &["categories[1] (id 1)", "another category has this id"]),
    (|a| a["images"] = json!([]), &["annotations[0] (id 0)", "no image has the id 0"]),
    (|a| (a["images"], a["annotations"]) = (json!([]), json!([])), &["the data set is empty"]),
    (|a| a["annotations"] = json!([]), &["the data set is empty", "none of its 6 images is left"]),
    (|a| a["annotations"][2]["image_id"] = json!(77), &["annotations[2] (id 2)", "no image has the id 77"]),
    (|a| a["annotations"][2]["category_id"] = json!(9), &["annotations[2] (id 2)", "no category has the id 9"]),
    (|a| a["annotations"][2]["bbox"] = json!([1, 2, 3]), &["annotations[2]", "invalid length 3", "line 1"]),
    (|a| a["annotations"][2]["bbox"] = json!("1 2 3 4"), &["annotations[2]", "\"1 2 3 4\""]),
    (|a| a["images"][3]["width"] = json!(0), &["images[3] (id 3)", "'width' is 0"]),
    (|a| a["images"][3]["height"] = json!(-64), &["images[3] (id 3)", "'height' is -64"]),
    (|a| a["images"][3]["file_name"] = Value::Null, &["images[3] (id 3)", "file_name"]),
    (|a| a["images"] = json!({}), &["images"]),
    (|a| *a = json!([1, 2]), &["not a COCO annotation file"]),
];

#[test]
fn a_wrong_annotation_file_is_refused_by_record() {
    let mut site = Site::new();
    for (spoil, words) in REFUSED {
        let mut all = annotations();
        spoil(&mut all);
        site.annotate("train.json", &all);
        let ran = site.train(&[]);
        ran.fails(1, &[&["train.json"], *words].concat());
    }
    let whole = annotations().to_string();
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(site.path("train.json"), &whole[..cut]).unwrap();
        site.train(&[]).fails(1, &["train.json: not JSON"]);
    }
    std::fs::remove_file(site.path("train.json")).unwrap();
    site.train(&[]).fails(1, &["train.json", "No such file"]);

    site.annotate("train.json", &annotations());
    site = site.edit("DIR/train.json", "DIR");
    site.train(&[]).fails(1, &["directory"]);
}

#[test]
fn boxes_that_cant_be_learned_from_are_counted_and_left_out() {
    let site = Site::new();
    let mut all = annotations();
    // Inverted, empty, outside, not a number, narrower than a pixel; the sixth is whole.
    let spoiled = [json!([40, 16, -8, 32]), json!([16, 16, 0, 0]), json!([200, 200, 8, 8]), json!(["NaN", 1, 8, 8])];
    for (i, bbox) in spoiled.into_iter().chain([json!([1, 1, 0.5, 9])]).enumerate() {
        all["annotations"][i]["bbox"] = bbox;
    }
    // As Python's json writes it.
    std::fs::write(site.path("train.json"), all.to_string().replace("\"NaN\"", "NaN")).unwrap();
    site.train(&[]).succeeds(&[
        "train.json: 5 of 6 boxes are left out: 1 not finite, 3 inverted, empty or outside their image, 1 smaller",
    ]);
    // Whether the file is whole or not, an evaluation counts its boxes as they are.
    std::fs::copy(site.path("train.json"), site.path("val.json")).unwrap();
    site.test("work/epoch_1.safetensors").succeeds(&[]);
}

#[test]
fn labels_of_the_validation_set_are_looked_at_before_training() {
    let site = Site::new();
    let mut all = annotations();
    all["categories"][1]["name"] = json!("sqare");
    site.annotate("val.json", &all);
    site.train(&[]).fails(2, &["data.val.classes", "'square'", "did you mean 'sqare'", "val.json"]);
    assert!(!site.path("work/epoch_1.safetensors").exists());
    // Nobody asks for the validation set.
    site.train(&["--no-validate"]).succeeds(&[]);
    site.test("work/epoch_1.safetensors").fails(2, &["data.test.classes", "'square'"]);
}

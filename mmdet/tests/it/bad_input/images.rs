//! Pictures that can't be read, and those of less common kinds, which can.

use std::path::Path;

use image::DynamicImage;

use super::site::{IMAGES, Site, picture};

/// Makes a file of an image unreadable, and the words of the error.
type Break = (&'static str, fn(&Path), &'static [&'static str]);

const BROKEN: &[Break] = &[
    ("missing", |p| std::fs::remove_file(p).unwrap(), &["No such file"]),
    ("empty", |p| std::fs::write(p, b"").unwrap(), &["zero bytes"]),
    ("truncated PNG", |p| cut(p, &std::fs::read(p).unwrap()), &["a broken PNG file"]),
    ("truncated JPEG", |p| cut(p, &jpeg(0)), &["truncated"]),
    ("text", |p| std::fs::write(p, b"not a picture\n").unwrap(), &["not an image of a known format"]),
    ("a folder", |p| (std::fs::remove_file(p).unwrap(), std::fs::create_dir(p).unwrap()).1, &["directory"]),
];

fn cut(path: &Path, bytes: &[u8]) {
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn jpeg(i: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new(&mut bytes);
    picture(i).write_with_encoder(encoder).unwrap();
    bytes
}

#[test]
fn an_image_that_cant_be_read_is_skipped_or_fatal_as_the_config_says() {
    let site = Site::new();
    site.train(&["--no-validate"]).succeeds(&[]);
    std::fs::rename(site.path("work/epoch_1.safetensors"), site.path("good.safetensors")).unwrap();
    for (name, spoil, words) in BROKEN {
        let site_of = Site::new();
        spoil(&site_of.image(2));
        let named = [&["images/2.png"], *words].concat();
        let skipped = site_of.train(&["--no-validate"]);
        skipped.succeeds(&[&["skipped 2.png"], &named[..]].concat());
        let fatal = site_of.train(&["--no-validate", "--cfg-options", "data.on_error=fatal"]);
        fatal.fails(1, &named);
        // An evaluation counts every image.
        std::fs::copy(site.path("good.safetensors"), site_of.path("good.safetensors")).unwrap();
        site_of.test("good.safetensors").fails(1, &named);
        println!("{name}: {}", skipped.stderr.lines().find(|l| l.contains("skipped")).unwrap_or_default());
    }
}

#[test]
fn a_data_set_of_broken_images_alone_ends_the_run() {
    let site = Site::new();
    for i in 0..IMAGES {
        std::fs::write(site.image(i), b"").unwrap();
    }
    site.train(&["--no-validate"]).fails(1, &[".png", "zero bytes"]);
}

#[test]
fn an_unknown_way_to_treat_errors_is_refused() {
    let site = Site::new();
    let ran = site.train(&["--cfg-options", "data.on_error=ignore"]);
    ran.fails(2, &["data.on_error", "'ignore'", "'skip'", "'fatal'"]);
}

/// Images of 64 pixels in every layout that turns up in data sets; all are three channels to the pipeline.
#[test]
fn grey_16_bit_cmyk_and_alpha_images_are_read() {
    let site = Site::new();
    let rgb = DynamicImage::from(picture(0));
    let layouts: [DynamicImage; 6] = [
        rgb.to_luma8().into(),
        rgb.to_luma_alpha8().into(),
        rgb.to_rgba8().into(),
        rgb.to_luma16().into(),
        rgb.to_rgb16().into(),
        rgb.to_rgba16().into(),
    ];
    for (i, image) in layouts.iter().enumerate() {
        image.save(site.image(i)).unwrap();
    }
    let run = |site: &Site| {
        let ran = site.train(&[]);
        ran.succeeds(&["bbox_mAP"]);
        assert!(!ran.stderr.contains("skipped"), "{}", ran.stderr);
        site.test("work/epoch_1.safetensors").succeeds(&[]);
    };
    run(&site);

    // Files are told by content, not name. cmyk.jpg: PIL.Image.new('CMYK', (64, 64), ...).save('cmyk.jpg', quality=50)
    let site = Site::new();
    std::fs::write(site.image(0), include_bytes!("cmyk.jpg")).unwrap();
    std::fs::write(site.image(1), jpeg(1)).unwrap();
    rgb.to_luma8().save_with_format(site.image(2), image::ImageFormat::Jpeg).unwrap();
    rgb.to_rgb8().save_with_format(site.image(3), image::ImageFormat::Bmp).unwrap();
    rgb.to_rgb16().save_with_format(site.image(4), image::ImageFormat::Tiff).unwrap();
    rgb.to_rgba8().save_with_format(site.image(5), image::ImageFormat::WebP).unwrap();
    run(&site);
}

#[test]
fn a_picture_to_infer_that_cant_be_read_is_named_and_the_others_are_done() {
    let site = Site::new();
    site.train(&["--no-validate"]).succeeds(&[]);
    std::fs::write(site.image(1), b"").unwrap();
    let infer = ["infer", "config.toml", "work/epoch_1.safetensors", "images/0.png", "images/1.png", "--out", "out"];
    let ran = site.run(&infer);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    ran.says(&["images/1.png", "zero bytes"]);
    assert!(site.path("out/0.png").exists() && !site.path("out/1.png").exists());
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_by_name() {
    let site = Site::new()
        .edit("lr = 0.001", "lr = 1e30")
        .edit("optimizer_config = { grad_clip = { max_norm = 10 } }\n", "optimizer_config = {}\n");
    site.train(&["--no-validate"]).fails(1, &["loss_cls is", "at iteration 2 (epoch 1)", "lr 1e30", ".png, "]);
    assert!(!site.path("work/epoch_1.safetensors").exists());
}

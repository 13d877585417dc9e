//! TensorBoard's event files: length-prefixed records with masked checksums, each an `Event` message in protocol
//! buffer encoding, written by hand (`tensorboard/compat/proto/{event,summary}.proto`).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result};

/// Writes scalars and texts for TensorBoard. Each record is on disk when the call returns.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// A new event file in `dir`, which is made if it isn't there.
    pub fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
        // The first free number: two runs of one second in one folder keep their own files.
        for n in 0..1000 {
            let name = format!("events.out.tfevents.{seconds}.{host}.{}.{n}", std::process::id());
            let path = dir.join(name);
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut writer = Self { file, path };
                    let mut event = time();
                    bytes(&mut event, 3, b"brain.Event:2");
                    writer.record(&event)?;
                    return Ok(writer);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(&path, e)),
            }
        }
        Err(Error::Run(format!("{}: too many event files of this second", dir.display())))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A number.
    pub fn scalar(&mut self, tag: &str, value: f64, step: usize) -> Result<()> {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, tag.as_bytes());
        key(&mut entry, 2, FIXED32);
        entry.extend((value as f32).to_le_bytes());
        self.summary(&entry, step)
    }

    /// A text, as `SummaryWriter.add_text` writes it.
    pub fn text(&mut self, tag: &str, value: &str, step: usize) -> Result<()> {
        const DT_STRING: u64 = 7;
        let mut entry = Vec::new();
        bytes(&mut entry, 1, format!("{tag}/text_summary").as_bytes());
        let mut tensor = Vec::new();
        key(&mut tensor, 1, VARINT);
        varint(&mut tensor, DT_STRING);
        // shape: one dimension of size 1
        let (mut shape, mut dim) = (Vec::new(), Vec::new());
        key(&mut dim, 1, VARINT);
        varint(&mut dim, 1);
        bytes(&mut shape, 2, &dim);
        bytes(&mut tensor, 2, &shape);
        bytes(&mut tensor, 8, value.as_bytes());
        bytes(&mut entry, 8, &tensor);
        let (mut metadata, mut plugin) = (Vec::new(), Vec::new());
        bytes(&mut plugin, 1, b"text");
        bytes(&mut metadata, 1, &plugin);
        bytes(&mut entry, 9, &metadata);
        self.summary(&entry, step)
    }

    fn summary(&mut self, entry: &[u8], step: usize) -> Result<()> {
        let mut event = time();
        key(&mut event, 2, VARINT);
        varint(&mut event, step as u64);
        let mut summary = Vec::new();
        bytes(&mut summary, 1, entry);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Length, its checksum, the data, its checksum; in one write.
    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut out = Vec::with_capacity(data.len() + 16);
        out.extend(length);
        out.extend(masked_crc(&length).to_le_bytes());
        out.extend(data);
        out.extend(masked_crc(data).to_le_bytes());
        self.file.write_all(&out).map_err(|e| Error::io(&self.path, e))
    }
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// An `Event` that holds its `wall_time`.
fn time() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut event = Vec::new();
    key(&mut event, 1, FIXED64);
    event.extend(now.to_le_bytes());
    event
}

fn key(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn bytes(out: &mut Vec<u8>, field: u32, data: &[u8]) {
    key(out, field, LENGTH);
    varint(out, data.len() as u64);
    out.extend(data);
}

/// CRC-32C (Castagnoli), turned and shifted as TFRecord wants it.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut i = 0;
        while i < 256 {
            let (mut c, mut bit) = (i as u32, 0);
            while bit < 8 {
                c = if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    !data.iter().fold(!0u32, |crc, b| crc >> 8 ^ TABLE[((crc ^ u32::from(*b)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 3720, B.4
    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    // tensorboard 2.x: EventAccumulator(dir).Reload().Scalars('train/loss') reads (7, 0.25) and (300, -1.0) from a file
    // written like this one, and Tensors('val/a/text_summary') the text.
    #[test]
    fn records_hold_events() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = EventWriter::create(&dir.path().join("tf_logs")).unwrap();
        w.scalar("train/loss", 0.25, 7).unwrap();
        w.scalar("train/loss", -1.0, 300).unwrap();
        w.text("val/a", "0.1 0.2", 300).unwrap();
        let data = std::fs::read(w.path()).unwrap();
        let mut at = 0;
        let mut events = Vec::new();
        while at < data.len() {
            let length = u64::from_le_bytes(data[at..at + 8].try_into().unwrap()) as usize;
            let crc = |from: usize| u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            assert_eq!(crc(at + 8), masked_crc(&data[at..at + 8]));
            let event = &data[at + 12..at + 12 + length];
            assert_eq!(crc(at + 12 + length), masked_crc(event));
            // wall_time is the first field: tag 0x09 and 8 bytes
            assert_eq!(event[0], 0x09);
            events.push(event[9..].to_vec());
            at += 16 + length;
        }
        assert_eq!(events[0], b"\x1a\x0dbrain.Event:2");
        assert_eq!(events[1], b"\x10\x07\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\x80\x3e");
        assert_eq!(events[2][..3], *b"\x10\xac\x02");
        assert_eq!(events.len(), 4);
        assert_ne!(EventWriter::create(&dir.path().join("tf_logs")).unwrap().path(), w.path());
    }
}

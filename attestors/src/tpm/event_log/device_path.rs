//! Device paths in words (UEFI specification 2.10, chapter 10). They are hints: images are measured, their paths are not.

use super::cursor::Cursor;
use super::refusal::Rule;
use super::signature_database::Guid;
use super::variable::utf16;

/// The most nodes that are read.
const MAX_NODES: usize = 32;
/// The longest text, in characters.
const MAX_TEXT: usize = 240;

/// Where an image came from, by the UEFI_IMAGE_LOAD_EVENT in `data` (PFP section 10.4.2.3.1); none if it is no such.
pub(super) fn of_image(data: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(data, Rule::Truncated);
    // ImageLocationInMemory, ImageLengthInMemory, ImageLinkTimeAddress.
    cursor.take(24, "image").ok()?;
    let length = cursor.u64("LengthOfDevicePath").ok()?;
    let path = cursor.sized(length, "DevicePath").ok()?;
    words(path)
}

/// Foreign text as one short line of printable characters.
pub(super) fn printable(text: &str) -> String {
    let text = text.trim_end_matches('\0');
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn words(path: &[u8]) -> Option<String> {
    let mut nodes = Cursor::new(path, Rule::Truncated);
    let mut words = Vec::new();
    for _ in 0..MAX_NODES {
        if nodes.is_empty() {
            break;
        }
        let [kind, subkind] = nodes.array("Type").ok()?;
        let length = usize::from(nodes.u16("Length").ok()?).checked_sub(4)?;
        let data = nodes.take(length, "node").ok()?;
        if kind == 0x7f {
            break;
        }
        words.push(node(kind, subkind, data));
    }
    (!words.is_empty()).then(|| printable(&words.join("/")))
}

fn node(kind: u8, subkind: u8, data: &[u8]) -> String {
    let number = |from: usize| {
        data.get(from..from + 4)
            .map_or(0, |bytes| bytes.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)))
    };
    let guid = |from: usize| data.get(from..from + 16).and_then(|bytes| bytes.try_into().ok()).map(Guid);
    match (kind, subkind, data) {
        (1, 1, [function, device]) => format!("Pci({device:x},{function:x})"),
        (2, 1, _) if number(0) == 0x0a03_41d0 => format!("PciRoot({:x})", number(4)),
        (2, 1, _) => format!("Acpi({:08x},{:x})", number(0), number(4)),
        (3, 2, [a, b, c, d]) => {
            format!("Scsi({:x},{:x})", u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]))
        }
        (3, 5, [port, interface]) => format!("Usb({port:x},{interface:x})"),
        (3, 11, _) => "Mac".into(),
        (3, 18, [port, ..]) => format!("Sata({port:x})"),
        (3, 23, _) => format!("NVMe({:x})", number(0)),
        (3, 24, uri) => String::from_utf8_lossy(uri).into_owned(),
        (4, 1, _) => guid(20).map_or("HD".into(), |partition| format!("HD({},GPT,{partition})", number(0))),
        (4, 4, path) => utf16(path).map_or("File".into(), |path| path.trim_end_matches('\0').to_owned()),
        (4, 6, _) => guid(0).map_or("FvFile".into(), |file| format!("FvFile({file})")),
        (4, 7, _) => guid(0).map_or("Fv".into(), |volume| format!("Fv({volume})")),
        (4, 8, _) => "Offset".into(),
        _ => format!("Path({kind},{subkind})"),
    }
}

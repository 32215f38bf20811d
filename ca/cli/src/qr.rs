//! QR codes (ISO/IEC 18004): on a terminal for a camera, and as SVG for reports.

use qrcode::types::QrError;
use qrcode::{Color, EcLevel, QrCode};

use crate::Failure;

/// The most bytes that one code takes (version 40 at level L holds 2,953).
pub const QR_CAPACITY: usize = 2900;

/// The light frame that readers need, in modules (ISO/IEC 18004 section 9.1).
const QUIET: usize = 4;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Half blocks, two modules a character; else `#`, and two characters a module.
    pub unicode: bool,
    /// Black on white, whatever the terminal's own colours are.
    pub colour: bool,
}

impl Glyphs {
    /// What the environment says: UTF-8 by `LC_ALL`, `LC_CTYPE` or `LANG`, the first that is set (setlocale(3)), and no
    /// colour if `NO_COLOR` is set to anything or the terminal is `dumb`.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_ascii_lowercase().replace('-', "");
        let dumb = set("TERM").is_none_or(|terminal| terminal == "dumb");
        Self { unicode: locale.contains("utf8"), colour: set("NO_COLOR").is_none() && !dumb }
    }
}

/// A QR code.
#[derive(Clone)]
pub struct Qr(QrCode);

impl std::fmt::Debug for Qr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Qr(version {:?})", self.0.version())
    }
}

impl Qr {
    /// The code of a SHA-256 digest, as `SHA256:` and capital hexadecimal: those characters take the least room. A quarter
    /// of it may be dirt.
    ///
    /// # Errors
    /// None for 32 bytes.
    pub fn of_digest(digest: &[u8]) -> Result<Self, Failure> {
        let hex: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        QrCode::with_error_correction_level(format!("SHA256:{hex}"), EcLevel::Q)
            .map(Self)
            .map_err(|error| Failure::failed(error.to_string()))
    }

    /// The code of a file.
    ///
    /// # Errors
    /// It is longer than [`QR_CAPACITY`].
    pub fn of_file(bytes: &[u8]) -> Result<Self, Failure> {
        let too_long = || {
            let length = bytes.len();
            Failure::usage(format!(
                "it has {length} bytes, and a QR code takes {QR_CAPACITY}; carry it on a USB stick"
            ))
        };
        if bytes.len() > QR_CAPACITY {
            return Err(too_long());
        }
        match QrCode::with_error_correction_level(bytes, EcLevel::L) {
            Ok(code) => Ok(Self(code)),
            Err(QrError::DataTooLong) => Err(too_long()),
            Err(error) => Err(Failure::failed(error.to_string())),
        }
    }

    /// Lines for a terminal. Without colour light modules are drawn and dark ones are the background, as most
    /// terminals are dark; readers take the other kind, too.
    pub fn text(&self, glyphs: Glyphs) -> String {
        let width = self.0.width() + 2 * QUIET;
        let light = |x: usize, y: usize| {
            let inside = |at: usize| (QUIET..width - QUIET).contains(&at);
            !(inside(x) && inside(y)) || self.0[(x - QUIET, y - QUIET)] == Color::Light
        };
        let mut text = String::new();
        let step = if glyphs.unicode { 2 } else { 1 };
        for y in (0..width).step_by(step) {
            let line: String = (0..width)
                .map(|x| match (glyphs.unicode, light(x, y), light(x, y + 1)) {
                    (true, true, true) => "█",
                    (true, true, false) => "▀",
                    (true, false, true) => "▄",
                    (true, false, false) => " ",
                    (false, true, _) => "##",
                    (false, false, _) => "  ",
                })
                .collect();
            text += &match glyphs.colour {
                // White modules on a black ground: what is drawn is light.
                true => format!("\u{1b}[97;40m{line}\u{1b}[0m\n"),
                false => format!("{line}\n"),
            };
        }
        text
    }

    /// A picture for HTML and print: dark on light with the frame that readers need.
    pub fn svg(&self) -> String {
        self.0.render::<qrcode::render::svg::Color<'_>>().min_dimensions(160, 160).quiet_zone(true).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glyphs(variables: &[(&str, &str)]) -> Glyphs {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Glyphs::of(find)
    }

    #[test]
    fn the_environment_says_what_a_terminal_shows() {
        let term = ("TERM", "xterm-256color");
        for (variables, unicode, colour) in [
            (vec![term, ("LANG", "en_US.UTF-8")], true, true),
            (vec![term, ("LANG", "C.utf8")], true, true),
            (vec![term, ("LANG", "de_DE.ISO-8859-1")], false, true),
            (vec![term, ("LANG", "C.UTF-8"), ("LC_ALL", "C")], false, true),
            (vec![term, ("LANG", "C"), ("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8")], true, true),
            (vec![term, ("LANG", "C.UTF-8"), ("NO_COLOR", "1")], true, false),
            (vec![term, ("LANG", "C.UTF-8"), ("NO_COLOR", "")], true, true),
            (vec![("TERM", "dumb"), ("LANG", "C.UTF-8")], true, false),
            (vec![], false, false),
        ] {
            assert_eq!(glyphs(&variables), Glyphs { unicode, colour }, "{variables:?}");
        }
    }

    /// Both drawings show one code: the modules that are read back from them are the same, framed by light ones.
    #[test]
    fn both_drawings_show_the_same_code() {
        let qr = Qr::of_digest(&[0xab; 32]).unwrap();
        let plain = qr.text(Glyphs { unicode: false, colour: false });
        let rows: Vec<Vec<bool>> = plain
            .lines()
            .map(|line| line.as_bytes().chunks(2).map(|module| module == b"##").collect())
            .collect();
        let width = rows.len();
        assert!(rows.iter().all(|row| row.len() == width));
        // A finder pattern in each of three corners (ISO/IEC 18004 section 6.3.3): a dark ring of 7 modules.
        for (x, y) in [(QUIET, QUIET), (width - QUIET - 7, QUIET), (QUIET, width - QUIET - 7)] {
            assert!((0..7).all(|n| !rows[y][x + n] && !rows[y + n][x]), "{x},{y}");
            assert!((1..6).all(|n| rows[y + 1][x + n]), "{x},{y}");
        }
        assert!((0..width).all(|n| (0..QUIET).all(|edge| rows[edge][n] && rows[n][edge])));
        let halves = qr.text(Glyphs { unicode: true, colour: true });
        for (pair, line) in halves.lines().enumerate() {
            let line = line.strip_prefix("\u{1b}[97;40m").unwrap().strip_suffix("\u{1b}[0m").unwrap();
            for (x, glyph) in line.chars().enumerate() {
                let below = rows.get(2 * pair + 1).is_none_or(|row| row[x]);
                let expected = match (rows[2 * pair][x], below) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                };
                assert_eq!(glyph, expected, "{x} in line {pair}");
            }
        }
    }

    #[test]
    fn a_file_fits_or_is_told_not_to() {
        assert!(Qr::of_file(&[0xff; QR_CAPACITY]).is_ok());
        let refused = Qr::of_file(&[0xff; QR_CAPACITY + 1]).unwrap_err().to_string();
        assert!(refused.contains("2901 bytes") && refused.contains("USB stick"), "{refused}");
    }

    #[test]
    fn the_picture_is_svg_without_scripts_or_references() {
        let svg = Qr::of_digest(&[7; 32]).unwrap().svg();
        assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(!svg.contains("<script") && !svg.contains("href"), "{svg}");
    }
}

//! HTML that names and notes of strangers cannot break out of: markup is written as `&'static str` alone, and everything
//! else is text.

use base64ct::{Base64, Encoding as _};

/// A page while it is written.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of ours.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text of anybody.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // What turns the direction of writing could show another text than the one that stands there.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push(char::REPLACEMENT_CHARACTER),
                c if c.is_control() && c != '\n' => self.0.push(char::REPLACEMENT_CHARACTER),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Text between two pieces of markup.
    pub(super) fn between(&mut self, before: &'static str, text: &str, behind: &'static str) -> &mut Self {
        self.raw(before).text(text).raw(behind)
    }

    /// A picture (SVG) that a library drew, where nothing that strangers wrote can be in it: it is shown as an image, in
    /// which nothing is run or fetched.
    pub(super) fn picture(&mut self, svg: &str) -> &mut Self {
        let data = Base64::encode_string(svg.as_bytes());
        self.between("<img alt=\"QR code\" src=\"data:image/svg+xml;base64,", &data, "\">")
    }

    /// A row of a table.
    pub(super) fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.raw("<tr>");
        for cell in cells {
            self.between("<td>", cell, "</td>");
        }
        self.raw("</tr>\n")
    }

    /// A name and what it is, in a list of facts.
    pub(super) fn fact(&mut self, name: &'static str, what: &str) -> &mut Self {
        self.raw("<dt>").raw(name).between("</dt><dd>", what, "</dd>\n")
    }

    /// The page.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_text_becomes_markup() {
        let mut html = Html::default();
        html.between("<td>", "<script>alert('1')</script> & \"so\" \u{202e}gpj\u{7}", "</td>");
        assert_eq!(
            html.into_text(),
            "<td>&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &quot;so&quot; \u{fffd}gpj\u{fffd}</td>"
        );
    }
}

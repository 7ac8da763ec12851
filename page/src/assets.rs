//! The files that pages refer to, and what the browser may do with a page. All of it is in the
//! program: a page loads nothing from elsewhere.

use maud::{Markup, html};

/// A file that pages refer to.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its path.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub content: &'static str,
}

/// The style of all pages.
pub const STYLE: Asset = Asset {
    path: "/assets/page.css",
    media_type: "text/css; charset=utf-8",
    content: include_str!("../assets/page.css"),
};

/// What pages do in a browser beyond links and forms.
pub const SCRIPT: Asset = Asset {
    path: "/assets/page.js",
    media_type: "text/javascript; charset=utf-8",
    content: include_str!("../assets/page.js"),
};

/// The mark of Tidemill.
pub const MARK: Asset = Asset {
    path: "/assets/mark.svg",
    media_type: "image/svg+xml",
    content: include_str!("../assets/mark.svg"),
};

impl Asset {
    /// All of them.
    pub const ALL: [Asset; 3] = [STYLE, SCRIPT, MARK];

    /// Its address, which changes with its content, so that a browser may keep it for ever.
    pub fn address(&self) -> String {
        format!("{}?v={:08x}", self.path, digest(self.content))
    }
}

/// FNV-1a: tells two versions of a file apart.
fn digest(content: &str) -> u32 {
    content
        .bytes()
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The mark, as a part of a page.
pub fn mark() -> Markup {
    html! { img src=(MARK.address()) alt="" width="22" height="22"; }
}

/// What a browser may do with a page, as the header `Content-Security-Policy` says it: load our own
/// files, send forms to us, and nothing else. No script and no style stands in a page itself.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every answer: what a browser may do with it, and that it keeps no copy.
pub const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cache-control", "no-store"),
    ("vary", "accept, cookie"),
];

/// The header of an asset instead: its address changes with its content.
pub const KEPT: (&str, &str) = ("cache-control", "public, max-age=31536000, immutable");

/// Whether a request with this `Accept` asks for a page: browsers do, and what is no browser gets
/// JSON.
pub fn wants_page(accept: &str) -> bool {
    accept.contains("text/html")
}

/// The header that makes an answer a file of this name. Of a name, which may come from a run, what
/// a header or a file system could misread is replaced.
pub fn attachment(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let safe: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    format!("attachment; filename=\"{safe}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in Asset::ALL {
            let content = asset.content.replace("http://www.w3.org/2000/svg", "");
            assert!(!content.contains("http:") && !content.contains("https:"), "{}", asset.path);
            assert!(!content.contains("@import") && !content.contains("url("), "{}", asset.path);
        }
    }
}

//! The files that pages refer to, and what the browser may do with a page. All of it is in the
//! program: a page loads nothing from elsewhere.

use maud::{Markup, PreEscaped, html};

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

/// The style as a part of a page that stands for itself.
pub(crate) fn inline_style() -> Markup {
    html! { style { (PreEscaped(STYLE.content)) } }
}

/// What a browser may do with a page, as the header `Content-Security-Policy` says it: load our own
/// files, send forms to us, and nothing else. No script and no style stands in a page itself.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

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

//! The page people look at: its markup, style and scripts, embedded in the binary and put together once an instance.
//!
//! There is no build step: `js/` holds modules as a browser would load them one by one, and `scripts.rs` makes one file of them,
//! since each request of a first load would wait for an instance of the function.

mod scripts;

use std::{collections::BTreeMap, io::Write, sync::LazyLock};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// A file of the page.
#[derive(Debug)]
pub struct Asset {
    /// Its media type.
    pub content_type: &'static str,
    /// What it holds.
    pub text: String,
    /// The same, compressed as far as gzip goes; it is done once.
    pub gzip: Vec<u8>,
    /// The beginning of its SHA-256, which changes when it does.
    pub hash: String,
}

impl Asset {
    /// A file with this content.
    pub fn new(content_type: &'static str, text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hash = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
        Self {
            content_type,
            gzip: gzip(text.as_bytes()).unwrap_or_default(),
            hash: hash.collect(),
            text,
        }
    }
}

/// The page and what it is made of.
#[derive(Debug)]
pub struct Page {
    /// The markup, which names the others by their hashes.
    pub page: Asset,
    /// The others, by the names that the page knows them by.
    pub assets: BTreeMap<String, Asset>,
}

/// The page as this binary has it.
pub static PAGE: LazyLock<Page> = LazyLock::new(Page::embedded);

/// In the order in which the rules count.
const STYLES: [&str; 5] = [
    include_str!("vendor/uplot/uPlot.min.css"),
    include_str!("style/colours.css"),
    include_str!("style/base.css"),
    include_str!("style/frame.css"),
    include_str!("style/sections.css"),
];

impl Page {
    fn embedded() -> Self {
        let files = [
            (
                "app.js",
                "text/javascript; charset=utf-8",
                scripts::bundle(),
            ),
            (
                "icon.svg",
                "image/svg+xml",
                include_str!("icon.svg").to_owned(),
            ),
            ("style.css", "text/css; charset=utf-8", STYLES.concat()),
            (
                "uplot.js",
                "text/javascript; charset=utf-8",
                include_str!("vendor/uplot/uPlot.iife.min.js").to_owned(),
            ),
        ];
        let mut markup = include_str!("page.html").to_owned();
        let mut assets = BTreeMap::new();
        for (name, content_type, text) in files {
            let asset = Asset::new(content_type, text);
            let (stem, kind) = name.split_once('.').unwrap_or((name, ""));
            let hashed = format!("{stem}.{}.{kind}", asset.hash);
            // Relative to the page, wherever a gateway has put it.
            markup = markup.replace(&format!("{{{{{name}}}}}"), &format!("dashboard/{hashed}"));
            assets.insert(hashed, asset);
        }
        Self {
            page: Asset::new("text/html; charset=utf-8", markup),
            assets,
        }
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

//! The stylesheet, the script and the icon, which are part of the binary.
//!
//! Their addresses contain a hash of their content, so a browser may keep them, and a new version of
//! the program never meets an old stylesheet.

use axum::{
    extract::Path,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = concat!(
        include_str!("../assets/style.css"),
        include_str!("../assets/charts.css")
    );
    Asset::new("style", "css", "text/css; charset=utf-8", content)
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("../assets/script.js");
    Asset::new("script", "js", "text/javascript; charset=utf-8", content)
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("../assets/icon.svg");
    Asset::new("icon", "svg", "image/svg+xml", content)
});

struct Asset {
    file: String,
    media_type: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(name: &str, extension: &str, media_type: &'static str, content: &'static str) -> Asset {
        let hash = xxh3_64(content.as_bytes());
        Asset {
            file: format!("{name}-{hash:016x}.{extension}"),
            media_type,
            content,
        }
    }

    fn address(&self) -> String {
        format!("/assets/{}", self.file)
    }
}

/// The address of the stylesheet.
pub(crate) fn style() -> String {
    STYLE.address()
}

/// The address of the script.
pub(super) fn script() -> String {
    SCRIPT.address()
}

/// The address of the icon.
pub(super) fn icon() -> String {
    ICON.address()
}

pub(super) async fn serve(Path(file): Path<String>) -> Response {
    let asset = [&*STYLE, &*SCRIPT, &*ICON]
        .into_iter()
        .find(|asset| asset.file == file);
    match asset {
        Some(asset) => {
            let headers = [
                (CONTENT_TYPE, asset.media_type),
                (CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (headers, asset.content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

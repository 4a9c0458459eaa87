//! Compressed bodies.

use crate::{guard::TELEMETRY_BYTES_MAX, problem::Problem};
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_ENCODING},
};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, Read};

/// The memory that a zstd frame may ask of its reader, as a power of two in bytes: 8 MiB, which every level up
/// to 19 is content with.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Identity,
    Gzip,
    Zstd,
}

impl Packing {
    /// How the body of a request is compressed.
    ///
    /// # Errors
    ///
    /// 415 if in another way, or several times.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Packing, Problem> {
        let mut named = headers.get_all(CONTENT_ENCODING).iter();
        let name = match (named.next(), named.next()) {
            (None, _) => return Ok(Packing::Identity),
            (Some(name), None) => name,
            (Some(_), Some(_)) => return Err(unknown("of more than one kind")),
        };
        match HeaderValue::to_str(name).map(str::trim) {
            Ok(name) if name.is_empty() || name.eq_ignore_ascii_case("identity") => {
                Ok(Packing::Identity)
            }
            Ok(name) if name.eq_ignore_ascii_case("gzip") => Ok(Packing::Gzip),
            Ok(name) if name.eq_ignore_ascii_case("zstd") => Ok(Packing::Zstd),
            Ok(name) => Err(unknown(name)),
            Err(_) => Err(unknown("that is no text")),
        }
    }

    /// The body as it was before it was compressed.
    ///
    /// # Errors
    ///
    /// 400 if it is damaged or ends early; 413 before it takes more memory than a body may that is not compressed.
    pub(super) fn unpack(self, body: &Bytes) -> Result<Bytes, Problem> {
        let packed = body.as_ref();
        match self {
            Packing::Identity => Ok(body.clone()),
            Packing::Gzip => read(MultiGzDecoder::new(packed), "gzip"),
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
                    .map_err(|error| damaged("zstd", &error))?;
                decoder
                    .window_log_max(ZSTD_WINDOW_LOG_MAX)
                    .map_err(|error| damaged("zstd", &error))?;
                read(decoder, "zstd")
            }
        }
    }
}

fn read(unpacked: impl Read, packing: &str) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    let read = unpacked
        .take(TELEMETRY_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| damaged(packing, &error))?;
    if bytes.len() > TELEMETRY_BYTES_MAX {
        let detail =
            format!("the body is larger than {TELEMETRY_BYTES_MAX} bytes when it is unpacked");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(bytes.into())
}

fn damaged(packing: &str, error: &io::Error) -> Problem {
    Problem::bad_request(format!(
        "the body is not {packing}, or it is damaged: {error}"
    ))
}

fn unknown(packing: &str) -> Problem {
    let detail = format!("the content encoding {packing:?} is unknown: send gzip, zstd or none");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

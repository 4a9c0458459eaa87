//! All records of a query as lines, without a limit of their number.
//!
//! Each part of the answer is read from a snapshot of its own, when the client has taken the part before: a
//! client that is slow neither pins old pages nor holds memory.

use crate::{problem::Problem, state::Server, views::params::Params};
use axum::{
    body::{Body, Bytes},
    http::{
        HeaderName, HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use gridctl_telemetry::{
    Signal,
    lines::{LineFormat, LineWriter},
    query::{Cursor, Direction},
};

/// The size of a part after which it ends, in bytes.
const PART_BYTES: usize = 256 << 10;

/// What is left to write.
pub(super) struct Rest {
    server: Server,
    params: Params,
    signal: Signal,
    writer: LineWriter,
    after: Option<Cursor>,
    left: usize,
    is_complete: bool,
}

/// All records that `params` asks for, the oldest first unless it says another order.
pub(super) async fn all(
    server: Server,
    mut params: Params,
    signal: Signal,
    format: LineFormat,
) -> Result<Response, Problem> {
    let after = params.record_cursor()?;
    params.cursor = None;
    if format == LineFormat::Otlp {
        // A metric of OTLP begins where the one before ended.
        params.direction = Some(Direction::Forward);
    }
    let name = format!(
        "attachment; filename=\"{signal}.{}\"",
        match format {
            LineFormat::Otlp => "otlp.jsonl",
            _ => "jsonl",
        }
    );
    let rest = Rest {
        server,
        left: params.limit.unwrap_or(usize::MAX),
        params,
        signal,
        writer: LineWriter::new(format),
        after,
        is_complete: false,
    };
    // The first part tells an error while there is still a status to tell it with.
    let (first, rest) = rest.part().await?;
    let headers: [(HeaderName, HeaderValue); 2] = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        ),
        (
            CONTENT_DISPOSITION,
            HeaderValue::try_from(name).unwrap_or(HeaderValue::from_static("attachment")),
        ),
    ];
    Ok((headers, body(first, rest)).into_response())
}

/// A body of `first`, and the parts that follow.
fn body(first: Vec<u8>, rest: Rest) -> Body {
    let parts = stream::try_unfold((Some(first), rest), async |(first, rest)| {
        if let Some(first) = first {
            return Ok(Some((Bytes::from(first), (None, rest))));
        }
        if rest.is_complete {
            return Ok(None);
        }
        // The connection is closed before the end: that is how the client learns of an error.
        let (part, rest) = rest
            .part()
            .await
            .map_err(|problem| problem.detail().to_owned())?;
        Ok::<_, String>(Some((Bytes::from(part), (None, rest))))
    });
    Body::from_stream(parts)
}

impl Rest {
    async fn part(mut self) -> Result<(Vec<u8>, Rest), Problem> {
        let server = self.server.clone();
        server
            .read(move |snapshot| {
                let mut query = self.params.records(self.signal, Direction::Forward)?;
                if let Some(after) = self.after {
                    query = query.after(after);
                }
                let mut scan = snapshot.scan(&query)?;
                let mut out = Vec::new();
                self.is_complete = true;
                while let Some(record) = scan.next()? {
                    if self.left == 0 {
                        break;
                    }
                    self.writer.write(&record, &mut out)?;
                    self.after = Some(record.cursor());
                    self.left -= 1;
                    if out.len() > PART_BYTES {
                        self.is_complete = false;
                        break;
                    }
                }
                self.writer.finish(&mut out);
                Ok((out, self))
            })
            .await
    }
}

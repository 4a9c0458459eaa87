//! How many requests run, how large their bodies are, and how long they take.

use super::token::Caller;
use crate::{problem::Problem, serve::Link};
use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header::CONTENT_LENGTH},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The number of requests that are handled at once. A body that still arrives and an answer that is still being sent
/// are not counted.
const REQUESTS_MAX: usize = 256;
/// The size of a body of telemetry, in bytes.
pub(crate) const TELEMETRY_BYTES_MAX: usize = 16 << 20;
/// The size of any other body, which is a form, in bytes.
pub(super) const FORM_BYTES_MAX: usize = 64 << 10;
/// The memory of all bodies together, in bytes.
const BODIES_BYTES_MAX: usize = 48 << 20;
/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a handler may take.
const HANDLER_TIME_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(TELEMETRY_BYTES_MAX < BODIES_BYTES_MAX);

#[derive(Debug)]
pub(super) struct Limits {
    requests: Semaphore,
    /// A permit is a byte.
    bodies: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            requests: Semaphore::new(REQUESTS_MAX),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX)),
        }
    }
}

/// The memory of a request's body, which is free again when this is dropped. Handlers that keep the body after
/// they have answered keep this, too.
#[derive(Debug, Clone)]
pub(crate) struct BodyMemory(#[expect(dead_code, reason = "held")] Arc<OwnedSemaphorePermit>);

impl Limits {
    /// Receives the body of a request, of at most `bytes_max` bytes, then runs its handler.
    pub(super) async fn run(
        &self,
        request: Request,
        caller: Caller,
        bytes_max: usize,
        next: Next,
    ) -> Response {
        let mut request = match self.receive(request, bytes_max).await {
            Ok(request) => request,
            Err(problem) => return problem.into_response(),
        };
        // Requests that wait would hold memory, and their senders would try again meanwhile.
        let Ok(_permit) = self.requests.try_acquire() else {
            return Problem::busy("too many requests at once").into_response();
        };
        let busy = request.extensions_mut().remove::<Link>().map(Link::busy);
        request.extensions_mut().insert(caller);
        let response = match timeout(HANDLER_TIME_MAX, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::busy("the request took too long").into_response(),
        };
        match busy {
            Some(busy) => busy.until_sent(response),
            None => response,
        }
    }

    /// The request with all its body in memory.
    async fn receive(&self, request: Request, bytes_max: usize) -> Result<Request, Problem> {
        let (parts, body) = request.into_parts();
        let announced = parts.headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > bytes_max as u64) {
            return Err(too_large(bytes_max));
        }
        let received = timeout(BODY_TIME_MAX, self.collect(body, bytes_max)).await;
        let (bytes, memory) = received.map_err(|_| {
            let detail = format!("the body took longer than {BODY_TIME_MAX:?}");
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })??;
        let mut request = Request::from_parts(parts, Body::from(bytes));
        if let Some(memory) = memory {
            request.extensions_mut().insert(memory);
        }
        Ok(request)
    }

    async fn collect(
        &self,
        mut body: Body,
        bytes_max: usize,
    ) -> Result<(Bytes, Option<BodyMemory>), Problem> {
        let mut bytes = Vec::new();
        let mut memory: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::bad_request("the body ends early"))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            // As it arrives: a client that announces a body and sends none must not take memory from others.
            let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.bodies).try_acquire_many_owned(count);
            let more =
                more.map_err(|_| Problem::busy("too many bodies are being received at once"))?;
            match &mut memory {
                Some(memory) => memory.merge(more),
                None => memory = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.into(), memory.map(Arc::new).map(BodyMemory)))
    }
}

fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the body is larger than {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

//! A web server that knows its callers: plain HTTP on a Unix socket, each answer made for the user who asks.
//!
//! ```text
//! doorward handoff --bind /run/hello --mode 0666 --notify-to none http_uid
//! curl --unix-socket /run/hello http://localhost/
//! ```
//!
//! `/` says who the caller is, `/admin` answers root and nobody else. No password, no token: the kernel knows.
#![forbid(unsafe_code)]

use doorward::backend::{AsyncBackend, Backend, Error, Handoff, Listener, Peer};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a caller may take to send a request's head.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = match Backend::from_env() {
        // Not started by doorward: then it is to connect to us.
        Err(Error::NotGiven(_) | Error::WrongDescriptor(_)) => {
            Backend::accept_from(&Listener::from_env()?)?
        }
        backend => backend?,
    };
    let backend = backend.on_drop(|why| eprintln!("http_uid: dropped a connection: {why}"));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(backend))?;
    Ok(())
}

async fn serve(backend: Backend) -> Result<(), Error> {
    let mut backend = AsyncBackend::new(backend)?;
    while let Some(handoff) = backend.recv().await? {
        tokio::spawn(async {
            if let Err(error) = converse(handoff).await {
                eprintln!("http_uid: a caller was lost: {error}");
            }
        });
    }
    Ok(())
}

async fn converse(handoff: Handoff) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Handoff {
        connection,
        peer,
        lease,
        ..
    } = handoff;
    let stream = UnixStream::from(connection);
    stream.set_nonblocking(true)?;
    let stream = TokioIo::new(tokio::net::UnixStream::from_std(stream)?);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(
            stream,
            service_fn(|request| std::future::ready(answer(&peer, &request))),
        )
        .await?;
    // The caller's slot is free from here on.
    drop(lease);
    Ok(())
}

fn answer(peer: &Peer, request: &Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/" => (
            StatusCode::OK,
            format!("you are user {}, group {}\n", peer.uid, peer.gid),
        ),
        "/admin" if peer.uid == 0 => (StatusCode::OK, "welcome, root\n".to_owned()),
        "/admin" => (StatusCode::FORBIDDEN, "root alone\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "no such page\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    Ok(response)
}

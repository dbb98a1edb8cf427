//! Shards behind http:// and https://.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE,
    LAST_MODIFIED, LINK, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url};

use super::access::Access;
use super::failure::{Failure, Passing, Trouble, chain};
use super::transfer::{Body, Chunks, Fetch, Identity};
use crate::config::SourceOptions;

/// Longer than this no server makes us wait, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A list of a thousand files has about a third of a megabyte.
const LONGEST_PAGE: usize = 16 << 20;

/// The client that all sources share.
pub(super) fn client(options: &SourceOptions) -> Result<Client, reqwest::Error> {
    prepare_tls();
    let builder = || {
        Client::builder()
            .user_agent(concat!("fewstep/", env!("CARGO_PKG_VERSION")))
            // A single stream gains nothing by the windows of HTTP/2.
            .http1_only()
            // The address that a redirection comes from may hold a signature.
            .referer(false)
            .connect_timeout(options.timeout)
    };
    // A machine without any trusted certificate can still read http://. What it says of https:// names them.
    builder()
        .build()
        .or_else(|_| builder().tls_certs_only([]).build())
}

/// Says which cryptography TLS is to use.
pub(super) fn prepare_tls() {
    // Fails where one is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A file on a server.
#[derive(Clone)]
pub(super) struct Http {
    url: Url,
    /// The value of the header `Authorization`, where the server is the hub.
    authorization: Option<String>,
    remedies: Remedies,
    access: Access,
    /// Whether it has been seen to send everything where it was asked for the rest.
    ignores_ranges: Arc<AtomicBool>,
}

/// What to do where a server refuses: the rest of a sentence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remedies {
    /// It asks for a login.
    pub(super) unauthorized: &'static str,
    /// It refuses this one.
    pub(super) forbidden: &'static str,
    /// It has no such file.
    pub(super) not_found: &'static str,
}

const ANY_SERVER: Remedies = Remedies {
    unauthorized: "put user:password@ before the host, or for the Hugging Face hub name it hf://datasets/... and set \
                   HF_TOKEN",
    forbidden: "a signed address may have expired, or the login lacks the right to read it",
    not_found: "check the address",
};

impl Http {
    /// The file at this address.
    pub(super) fn new(url: Url, access: &Access) -> Self {
        Self::with_login(url, None, ANY_SERVER, access)
    }

    /// The file at this address, for which one says who one is.
    pub(super) fn with_login(
        url: Url,
        authorization: Option<String>,
        remedies: Remedies,
        access: &Access,
    ) -> Self {
        Http {
            url,
            authorization,
            remedies,
            access: access.clone(),
            ignores_ranges: Arc::default(),
        }
    }

    /// A page of a list, and the address of the next one on the same server.
    pub(super) async fn page(&self) -> Result<(Vec<u8>, Option<Url>), Failure> {
        let mut response = self.ask(0, &Identity::default()).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response.status(), response.headers(), 0, &self.remedies));
        }
        let next = text(response.headers(), LINK).and_then(|links| next_page(&links));
        let mut page = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if page.len() + chunk.len() > LONGEST_PAGE {
                return Err(Failure::unreadable("is answered with a list that does not end"));
            }
            page.extend_from_slice(&chunk);
        }
        // The login is for this server only.
        Ok((page, next.filter(|next| next.origin() == self.url.origin())))
    }

    /// The same request of another address on the same server.
    pub(super) fn turn_to(mut self, url: Url) -> Self {
        self.url = url;
        self
    }

    async fn ask(&self, at: u64, known: &Identity) -> Result<Response, Failure> {
        let client = self.access.client().map_err(Failure::unreadable)?;
        // A compressed transfer has no bytes to go on from.
        let mut request = client.get(self.url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if at > 0 {
            request = request.header(RANGE, format!("bytes={at}-"));
            // A weak tag may not be asked with; a date may.
            let strong = known.etag.as_ref().filter(|tag| !tag.starts_with("W/"));
            let weak = known.etag.is_none().then_some(known.modified.as_ref()).flatten();
            if let Some(version) = strong.or(weak) {
                request = request.header(IF_RANGE, version);
            }
        }
        request.send().await.map_err(transport)
    }
}

#[async_trait]
impl Fetch for Http {
    async fn get(&self, at: u64, known: &Identity) -> Result<Body, Failure> {
        let response = self.ask(at, known).await?;
        let status = response.status();
        let headers = response.headers();
        let (start, length) = match status {
            StatusCode::OK => (0, number(headers, CONTENT_LENGTH)),
            StatusCode::PARTIAL_CONTENT => range(headers).ok_or_else(|| {
                Failure::unreadable("was answered in part, without saying which (Content-Range)")
            })?,
            _ => return Err(refusal(status, headers, at, &self.remedies)),
        };
        if start < at {
            self.ignores_ranges.store(true, Ordering::Relaxed);
        }
        Ok(Body {
            start,
            identity: Identity {
                etag: text(headers, ETAG),
                modified: text(headers, LAST_MODIFIED),
                length,
            },
            chunks: Box::new(Arriving(response)),
        })
    }

    fn seeks(&self) -> bool {
        !self.ignores_ranges.load(Ordering::Relaxed)
    }
}

struct Arriving(Response);

#[async_trait]
impl Chunks for Arriving {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.0.chunk().await.map_err(transport)
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// The first byte and the whole length of `bytes 5-99/100` or `bytes 5-99/*`.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = text(headers, CONTENT_RANGE)?;
    let (range, length) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, length.trim().parse().ok()))
}

/// The address in `<address>; rel="next"`.
fn next_page(links: &str) -> Option<Url> {
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (address, _) = next.trim().strip_prefix('<')?.split_once('>')?;
    Url::parse(address).ok()
}

/// What a status that is no success means.
fn refusal(status: StatusCode, headers: &HeaderMap, at: u64, remedies: &Remedies) -> Failure {
    if let Some(passing) = passing(status, headers) {
        return Failure::Passing(passing);
    }
    Failure::unreadable(match status {
        StatusCode::UNAUTHORIZED => format!("asks for a login (401): {}", remedies.unauthorized),
        StatusCode::FORBIDDEN => format!("is refused by the server (403): {}", remedies.forbidden),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            format!(
                "is not on the server ({}): {}",
                status.as_u16(),
                remedies.not_found
            )
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            format!("is shorter than {at} bytes and was to be read from there on (416); it has changed")
        }
        _ => format!("is answered with {status}"),
    })
}

/// The trouble that a status tells of, where it may pass: 408, 425, 429 and 5xx.
pub(super) fn passing(status: StatusCode, headers: &HeaderMap) -> Option<Passing> {
    let passes = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    passes.then(|| Passing {
        trouble: Trouble::Server,
        what: format!("is answered with {status}"),
        wait: number(headers, RETRY_AFTER).map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT)),
    })
}

/// What an error on the way means: nearly all may pass.
fn transport(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let deepest = chain(&error).last().map_or_else(String::new, ToString::to_string);
    if let Some(certificate) = certificate_problem(&error) {
        return Failure::unreadable(format!(
            "cannot be read safely: {certificate}; the certificates that are trusted are the system's (package \
             ca-certificates), or those that SSL_CERT_FILE names"
        ));
    }
    if error.is_builder() || error.is_redirect() {
        return Failure::unreadable(format!("cannot be asked for: {deepest}"));
    }
    if error.is_timeout() {
        return Failure::passing(Trouble::Silence, "does not answer");
    }
    let doing = if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    };
    Failure::passing(Trouble::Connection, format!("{doing}: {deepest}"))
}

/// What is wrong with the server's certificate.
fn certificate_problem(error: &(dyn Error + 'static)) -> Option<String> {
    let is_of_certificate = |error: &rustls::Error| {
        matches!(
            error,
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
        )
    };
    chain(error).find_map(|error| {
        // What an io::Error wraps is none of its sources.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner
            .or_else(|| error.downcast_ref::<rustls::Error>())
            .filter(|error| is_of_certificate(error))
            .map(ToString::to_string)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let check = |text: &'static str, wanted| {
            let headers =
                HeaderMap::from_iter([(CONTENT_RANGE, reqwest::header::HeaderValue::from_static(text))]);
            assert_eq!(range(&headers), wanted, "{text}");
        };
        check("bytes 5-99/100", Some((5, Some(100))));
        check("bytes 5-99/*", Some((5, None)));
        check("bytes */100", None);
        check("items 5-99/100", None);
        assert_eq!(range(&HeaderMap::new()), None);
    }

    #[test]
    fn a_server_that_is_busy_says_for_how_long() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, 7.into())]);
        let passing = passing(StatusCode::TOO_MANY_REQUESTS, &headers).unwrap();
        assert_eq!(passing.wait, Some(Duration::from_secs(7)));
        assert!(super::passing(StatusCode::NOT_FOUND, &headers).is_none());
    }
}

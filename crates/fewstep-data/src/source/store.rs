//! Shards in object stores: s3://, gs://, az:// and the other names of these.
//!
//! The crate `object_store` signs the requests and knows each store's words. It is kept from trying again by itself:
//! [`transfer`](super::transfer) does that, and counts it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreScheme, RetryConfig};
use reqwest::{StatusCode, Url};

use super::access::Access;
use super::failure::{Failure, Passing, Trouble, chain};
use super::http;
use super::transfer::{Body, Chunks, Fetch, Identity};

/// The longest answer of a store that is quoted.
const QUOTED_CHARS: usize = 300;

/// The schemes of object stores.
pub(super) const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"];

/// A bucket or container, with the login that the environment gives.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    remedy: &'static str,
}

impl Bucket {
    /// The one in which the address lies, and the address's path in it.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence.
    pub(super) fn open(url: &Url, access: &Access) -> Result<(Self, Path), String> {
        let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|error| error.to_string())?;
        let name = format!("{}://{}", url.scheme(), url.authority());
        let bucket = access.bucket(&name, || Self::build(url, &scheme, access))?;
        Ok((bucket, path))
    }

    fn build(url: &Url, scheme: &ObjectStoreScheme, access: &Access) -> Result<Self, String> {
        /// A store of the builder's kind, with the variables of the environment that begin with the prefix.
        macro_rules! built {
            ($builder:ty, $prefix:literal) => {{
                let builder = <$builder>::new()
                    .with_client_options(client_options(access))
                    .with_url(url.as_str())
                    .with_http_connector(Watching)
                    .with_retry(RetryConfig {
                        max_retries: 0,
                        ..RetryConfig::default()
                    });
                let variables = access.environment().iter();
                let builder = variables
                    .filter(|(name, _)| name.starts_with($prefix))
                    .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
                    .fold(builder, |builder, (key, value)| {
                        builder.with_config(key, value)
                    });
                let store = builder
                    .build()
                    .map_err(|error| format!("is in a store that cannot be asked: {}", sentence(&error)))?;
                Arc::new(store) as Arc<dyn ObjectStore>
            }};
        }

        http::prepare_tls();
        let (store, remedy) = match scheme {
            ObjectStoreScheme::AmazonS3 => (
                built!(AmazonS3Builder, "AWS_"),
                "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or AWS_SKIP_SIGNATURE=true for a public \
                 bucket",
            ),
            ObjectStoreScheme::GoogleCloudStorage => (
                built!(GoogleCloudStorageBuilder, "GOOGLE_"),
                "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
            ),
            ObjectStoreScheme::MicrosoftAzure => (
                built!(MicrosoftAzureBuilder, "AZURE_"),
                "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or \
                 AZURE_SKIP_SIGNATURE=true for a public container",
            ),
            _ => return Err("is in no object store that is known".to_owned()),
        };
        Ok(Bucket { store, remedy })
    }

    /// The names of all objects below `folder`.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn list(self, folder: Path) -> Result<Vec<Path>, Failure> {
        let mut objects = self.store.list(Some(&folder));
        let mut names = Vec::new();
        while let Some(object) = objects.next().await {
            names.push(object.map_err(|error| failure(&error, self.remedy, 0))?.location);
        }
        Ok(names)
    }
}

/// How long the store's client waits. Reading has no limit in all, and [`transfer`](super::transfer) sees to its
/// standing still.
fn client_options(access: &Access) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(access.options().timeout)
        .with_http1_only()
}

/// An object in a bucket.
pub(super) struct Object {
    /// The bucket.
    pub(super) bucket: Bucket,
    /// Its name in there.
    pub(super) path: Path,
}

#[async_trait]
impl Fetch for Object {
    async fn get(&self, at: u64, known: &Identity) -> Result<Body, Failure> {
        let options = GetOptions {
            range: (at > 0).then_some(GetRange::Offset(at)),
            if_match: known.etag.clone().filter(|_| at > 0),
            ..GetOptions::default()
        };
        let answer = self.bucket.store.get_opts(&self.path, options).await;
        let answer = answer.map_err(|error| failure(&error, self.bucket.remedy, at))?;
        Ok(Body {
            start: answer.range.start,
            identity: Identity {
                etag: answer.meta.e_tag.clone(),
                modified: Some(answer.meta.last_modified.to_rfc3339()),
                length: Some(answer.meta.size),
            },
            chunks: Box::new(Arriving(answer.into_stream())),
        })
    }

    fn seeks(&self) -> bool {
        true
    }
}

struct Arriving(BoxStream<'static, object_store::Result<Bytes>>);

#[async_trait]
impl Chunks for Arriving {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let chunk = self.0.next().await.transpose();
        // What was begun can be gone on with, whatever broke it off.
        chunk
            .map_err(|error| Failure::passing(Trouble::Connection, format!("broke off: {}", deepest(&error))))
    }
}

/// What a store's error means.
fn failure(error: &Error, remedy: &str, at: u64) -> Failure {
    if let Some(busy) = chain(error).find_map(|error| error.downcast_ref::<Busy>()) {
        return Failure::Passing(busy.0.clone());
    }
    match error {
        Error::NotFound { .. } => Failure::unreadable("is not in the store: check the bucket and the name"),
        Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => Failure::unreadable(format!(
            "is refused by the store: {remedy}; it says: {}",
            sentence(error)
        )),
        Error::Precondition { .. } => {
            Failure::changed("changed while it was read: its ETag is another than before")
        }
        _ if chain(error).any(<dyn std::error::Error>::is::<PastEnd>) => Failure::unreadable(format!(
            "is shorter than {at} bytes and was to be read from there on; it has changed"
        )),
        _ => match chain(error).find_map(|error| error.downcast_ref::<HttpError>()) {
            Some(error) if error.kind() == HttpErrorKind::Timeout => {
                Failure::passing(Trouble::Silence, "does not answer")
            }
            Some(error) if error.kind() != HttpErrorKind::Decode => Failure::passing(
                Trouble::Connection,
                format!("cannot be reached: {}", deepest(error)),
            ),
            _ => Failure::unreadable(format!("cannot be read: {}; perhaps {remedy}", sentence(error))),
        },
    }
}

/// What lies at the bottom of an error: the rest only repeats it.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// An error's own words, on one line and not too many: stores answer in pages of XML.
fn sentence(error: &Error) -> String {
    let text = deepest(error);
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut text = words.join(" ");
    if let Some((end, _)) = text.char_indices().nth(QUOTED_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Connects as `object_store` does, and turns statuses that it would only wrap in text into errors with a type.
#[derive(Debug)]
struct Watching;

impl HttpConnector for Watching {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Watched(client)))
    }
}

#[derive(Debug)]
struct Watched(HttpClient);

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.execute(request).await?;
        if let Some(passing) = http::passing(response.status(), response.headers()) {
            return Err(HttpError::new(HttpErrorKind::Unknown, Busy(passing)));
        }
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(HttpError::new(HttpErrorKind::Decode, PastEnd));
        }
        Ok(response)
    }
}

/// The store cannot answer now.
#[derive(Debug)]
struct Busy(Passing);

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl std::error::Error for Busy {}

/// The object ends before the byte asked for.
#[derive(Debug, thiserror::Error)]
#[error("the object ends before the byte asked for")]
struct PastEnd;

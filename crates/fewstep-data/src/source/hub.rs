//! Files on the Hugging Face hub: from hf:// addresses to http ones, with the token that the hub's own programs use.

use std::path::PathBuf;

use reqwest::Url;

use super::access::{Access, Environment};
use super::http::{Http, Remedies};

const ENDPOINT: &str = "https://huggingface.co";

const REMEDIES: Remedies = Remedies {
    unauthorized: "check the name; what is private or gated needs a token in HF_TOKEN, or from `hf auth login`",
    forbidden: "accept its terms on its page on the hub, and give a token of that account in HF_TOKEN",
    not_found: "check the name, the revision and the path",
};

/// A place on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubPath {
    /// `datasets`, `spaces` or `models`.
    kind: String,
    /// OWNER/NAME.
    repository: String,
    revision: String,
    /// Within the repository; empty for all of it.
    path: String,
}

impl HubPath {
    /// Takes `hf://datasets/OWNER/NAME[@REVISION]/PATH` apart; without `datasets` or `spaces` it is a model's.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub(super) fn parse(address: &str) -> Result<Self, String> {
        let wrong =
            || "is to be written hf://datasets/OWNER/NAME/PATH, perhaps with @REVISION after NAME".to_owned();
        let rest = address.strip_prefix("hf://").ok_or_else(wrong)?;
        let (kind, rest) = match rest.split_once('/') {
            Some((kind @ ("datasets" | "spaces" | "models"), rest)) => (kind, rest),
            _ => ("models", rest),
        };
        let (owner, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (name, path) = match rest.split_once('@') {
            // A revision of the hub's own making holds slashes itself: refs/pr/3, refs/convert/parquet.
            Some((name, after)) if !name.contains('/') => {
                let parts = if after.starts_with("refs/") { 3 } else { 1 };
                let end = after
                    .match_indices('/')
                    .nth(parts - 1)
                    .map_or(after.len(), |(at, _)| at);
                return Self::new(kind, owner, name, &after[..end], &after[end..]).ok_or_else(wrong);
            }
            _ => rest.split_once('/').unwrap_or((rest, "")),
        };
        Self::new(kind, owner, name, "main", path).ok_or_else(wrong)
    }

    fn new(kind: &str, owner: &str, name: &str, revision: &str, path: &str) -> Option<Self> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name != ".."
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let is_complete = is_name(owner) && is_name(name) && !revision.is_empty();
        is_complete.then(|| HubPath {
            kind: kind.to_owned(),
            repository: format!("{owner}/{name}"),
            revision: revision.replace("%2F", "/"),
            path: path.trim_start_matches('/').to_owned(),
        })
    }

    /// Whether it is a folder of a repository, or a whole one.
    pub(super) fn is_folder(&self) -> bool {
        self.path.is_empty() || self.path.ends_with('/')
    }

    /// The same place with another path in the repository, as an hf:// address.
    pub(super) fn address_of(&self, path: &str) -> String {
        let kind = match &*self.kind {
            "models" => String::new(),
            kind => format!("{kind}/"),
        };
        let revision = match &*self.revision {
            "main" => String::new(),
            revision => format!("@{revision}"),
        };
        format!("hf://{kind}{}{revision}/{path}", self.repository)
    }

    /// The file, to be fetched.
    pub(super) fn file(&self, access: &Access) -> Result<Http, String> {
        let kind = match &*self.kind {
            "models" => None,
            kind => Some(kind),
        };
        let mut parts: Vec<&str> = kind.into_iter().chain(self.repository.split('/')).collect();
        // A slash within the revision is none of the path.
        parts.extend(["resolve", &self.revision]);
        parts.extend(self.path.split('/'));
        self.request(&parts, access)
    }

    /// The list of what is in the folder, to be fetched: JSON, a page of it.
    pub(super) fn listing(&self, access: &Access) -> Result<Http, String> {
        let mut parts = vec!["api", &self.kind];
        parts.extend(self.repository.split('/'));
        parts.extend(["tree", &self.revision]);
        parts.extend(self.path.split('/').filter(|part| !part.is_empty()));
        self.request(&parts, access)
    }

    fn request(&self, parts: &[&str], access: &Access) -> Result<Http, String> {
        let environment = access.environment();
        let endpoint = environment.get("HF_ENDPOINT").filter(|text| !text.is_empty());
        let endpoint = endpoint.unwrap_or(ENDPOINT);
        let wrong =
            |why: String| format!("cannot be asked for: HF_ENDPOINT is no address of a server: {why}");
        let mut url = Url::parse(endpoint).map_err(|error| wrong(error.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| wrong(endpoint.to_owned()))?
            .pop_if_empty()
            .extend(parts);
        let login = token(environment).map(|token| format!("Bearer {token}"));
        Ok(Http::with_login(url, login, REMEDIES, access))
    }
}

/// The token that `hf auth login` leaves, or a variable gives.
fn token(environment: &Environment) -> Option<String> {
    let set = |name| {
        environment
            .get(name)
            .map(str::trim)
            .filter(|value| !value.is_empty())
    };
    if set("HF_HUB_DISABLE_IMPLICIT_TOKEN")
        .is_some_and(|word| matches!(&*word.to_ascii_uppercase(), "1" | "ON" | "YES" | "TRUE"))
    {
        return None;
    }
    if let Some(token) = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")) {
        return Some(token.to_owned());
    }
    let home = || {
        let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
        Some(cache?.join("huggingface"))
    };
    let file = match set("HF_TOKEN_PATH") {
        Some(file) => PathBuf::from(file),
        None => set("HF_HOME").map(PathBuf::from).or_else(home)?.join("token"),
    };
    let token = std::fs::read_to_string(file).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> [String; 4] {
        let path = HubPath::parse(address).unwrap();
        [path.kind, path.repository, path.revision, path.path]
    }

    #[test]
    fn addresses_are_taken_apart() {
        for (address, wanted) in [
            (
                "hf://datasets/a/b/data/0.tar",
                ["datasets", "a/b", "main", "data/0.tar"],
            ),
            ("hf://datasets/a/b", ["datasets", "a/b", "main", ""]),
            ("hf://datasets/a/b@v1/0.tar", ["datasets", "a/b", "v1", "0.tar"]),
            ("hf://datasets/a/b@v1", ["datasets", "a/b", "v1", ""]),
            (
                "hf://datasets/a/b@refs/pr/3/d/0.tar",
                ["datasets", "a/b", "refs/pr/3", "d/0.tar"],
            ),
            (
                "hf://datasets/a/b@refs%2Fpr%2F3/d/0.tar",
                ["datasets", "a/b", "refs/pr/3", "d/0.tar"],
            ),
            (
                "hf://datasets/a/b/d@x.tar",
                ["datasets", "a/b", "main", "d@x.tar"],
            ),
            ("hf://a/b/0.tar", ["models", "a/b", "main", "0.tar"]),
        ] {
            assert_eq!(parsed(address), wanted, "{address}");
        }
        for address in [
            "hf://datasets/a",
            "hf://datasets/../b/0.tar",
            "hf://a",
            "hf://datasets//b/0.tar",
        ] {
            assert!(HubPath::parse(address).is_err(), "{address}");
        }
        let path = HubPath::parse("hf://datasets/a/b@v1/data/").unwrap();
        assert!(path.is_folder());
        assert_eq!(path.address_of("data/0.tar"), "hf://datasets/a/b@v1/data/0.tar");
    }

    #[test]
    fn the_token_is_found_where_the_hubs_programs_look() {
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &str| folder.path().join(path).display().to_string();
        for (path, token) in [
            ("token", "home\n"),
            (".cache/huggingface/token", "cache"),
            ("other", "other"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, token).unwrap();
        }
        let token = |variables: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            super::token(&variables.iter().map(own).collect())
        };
        let home = ("HOME", &*place(""));
        assert_eq!(token(&[home]).as_deref(), Some("cache"));
        assert_eq!(token(&[home, ("HF_HOME", &place(""))]).as_deref(), Some("home"));
        assert_eq!(
            token(&[home, ("HF_TOKEN_PATH", &place("other"))]).as_deref(),
            Some("other")
        );
        assert_eq!(token(&[home, ("HF_TOKEN", " set ")]).as_deref(), Some("set"));
        assert_eq!(token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HOME", &place("nowhere"))]), None);
    }
}

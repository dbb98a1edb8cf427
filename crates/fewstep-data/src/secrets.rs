//! Hides credentials in what a person is shown: the names of shards, messages, configurations, model cards. It knows
//! how secrets are written, not where they come from.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands where a secret was.
pub const MASK: &str = "***";

/// `text` (an address, a command line, a message) with [`MASK`] in place of user names with passwords, signatures and
/// keys of queries, passwords and headers of commands, and tokens of a known form. Masking twice changes nothing more.
pub fn mask(text: &str) -> String {
    let mut text = Cow::Borrowed(text);
    for (pattern, replace) in PATTERNS.iter() {
        if let Cow::Owned(masked) = pattern.replace_all(&text, *replace) {
            text = Cow::Owned(masked);
        }
    }
    // The other parameters of a signed address are no secrets, but change whenever it is signed anew.
    let signed = text.contains(&format!("sig={MASK}")) || text.contains(&format!("ignature={MASK}"));
    match (&*SIGNED, signed) {
        (Some(pattern), true) => pattern.replace_all(&text, value_masked).into_owned(),
        _ => text.into_owned(),
    }
}

/// Whether `text` has been masked, so that nothing can be opened with it.
pub fn is_masked(text: &str) -> bool {
    text.contains(MASK)
}

/// Whether what has this name (a variable, a parameter, a header) is to be kept to oneself.
pub(crate) fn is_secret_name(name: &str) -> bool {
    /// Parts of names that give them away.
    const PARTS: [&str; 15] = [
        "token",
        "secret",
        "password",
        "passwd",
        "credential",
        "signature",
        "authorization",
        "cookie",
        "apikey",
        "api_key",
        "api-key",
        "accesskey",
        "access_key",
        "access-key",
        "private-key",
    ];
    let name = name.to_ascii_lowercase();
    matches!(&*name, "sig" | "auth" | "pass" | "pwd" | "jwt" | "sas" | "bearer")
        || ["x-amz-", "x-goog-"].iter().any(|start| name.starts_with(start))
        || PARTS.iter().any(|part| name.contains(part))
}

type Replace = fn(&Captures<'_>) -> String;

/// Each pattern with what takes the place of a match. A test sees that none is lost to a mistake in it.
static PATTERNS: LazyLock<Vec<(Regex, Replace)>> = LazyLock::new(|| {
    let patterns: [(&str, Replace); 6] = [
        // scheme://user:password@host
        (r#"([A-Za-z][A-Za-z0-9+.-]*://)([^/\s"'?#]+)@"#, user_masked),
        // ?name=value&name=value
        (r#"([?&])([^=&\s"'#;?]+)=([^&\s"'#]*)"#, secret_value_masked),
        // -H 'Name: value', --header=Name:\ Bearer\ value
        (
            r#"(-H|--header|--proxy-header)([\s=]*["']?)([A-Za-z0-9-]+)(\\?\s*:\\?\s*)((?:(?:[Bb]earer|[Bb]asic|[Tt]oken)\\?\s+)?[^"'\s]+)"#,
            header_masked,
        ),
        // --password value, --token='value', -u user:password
        (
            r#"(^|\s)(--?[A-Za-z][A-Za-z0-9-]*)([\s=]+)((?:"[^"]*"|'[^']*'|[^\s"'-])(?:"[^"]*"|'[^']*'|[^\s"'])*)"#,
            option_masked,
        ),
        // NAME=value, also in parts, as the shell reads them: NAME="one"two
        (
            r#"(^|[\s;:"'(])([A-Za-z_][A-Za-z0-9_]*)=((?:"[^"]*"|'[^']*'|[^\s;&"'])+)"#,
            secret_value_masked,
        ),
        (
            r"\b(?:hf_[A-Za-z0-9]{16,}|gh[oprsu]_[A-Za-z0-9]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|ya29\.[A-Za-z0-9_-]+|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)",
            |_| MASK.to_owned(),
        ),
    ];
    let compiled = |(pattern, replace)| Some((Regex::new(pattern).ok()?, replace));
    patterns.into_iter().filter_map(compiled).collect()
});

/// What a signature is made over: Azure's and CloudFront's names, and those of old S3 and GCS signatures.
static SIGNED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"([?&])(s[etpvri]|sip|spr|skoid|sktid|skt|ske|sks|skv|Expires|Policy|Key-Pair-Id|GoogleAccessId)=([^&\s"'#]*)"#)
        .ok()
});

fn user_masked(found: &Captures<'_>) -> String {
    // There what precedes the @ is a container.
    if found[1].starts_with("abfs") {
        return found[0].to_owned();
    }
    format!("{}{MASK}@", &found[1])
}

fn secret_value_masked(found: &Captures<'_>) -> String {
    if is_secret_name(&found[2]) && !is_variable(&found[3]) {
        value_masked(found)
    } else {
        found[0].to_owned()
    }
}

fn value_masked(found: &Captures<'_>) -> String {
    format!("{}{}={MASK}", &found[1], &found[2])
}

fn header_masked(found: &Captures<'_>) -> String {
    if is_secret_name(&found[3]) {
        format!("{}{}{}{}{MASK}", &found[1], &found[2], &found[3], &found[4])
    } else {
        found[0].to_owned()
    }
}

fn option_masked(found: &Captures<'_>) -> String {
    let name = found[2].trim_start_matches('-');
    let is_login = matches!(name, "u" | "U" | "user" | "proxy-user") && found[4].contains(':');
    if is_login || (is_secret_name(name) || name.contains("bearer")) && !is_variable(&found[4]) {
        format!("{}{}{}{MASK}", &found[1], &found[2], &found[3])
    } else {
        found[0].to_owned()
    }
}

/// Whether the value is one that the shell will fill in.
fn is_variable(value: &str) -> bool {
    value.trim_start_matches(['"', '\'']).starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(PATTERNS.len(), 6);
        assert!(SIGNED.is_some());
    }

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        for (text, wanted) in [
            ("data/{00000..00099}.tar", "data/{00000..00099}.tar"),
            (
                "pipe:curl -L -s https://hub/data/00000.tar?download=true",
                "pipe:curl -L -s https://hub/data/00000.tar?download=true",
            ),
            ("https://me:pa@ss@host:8080/a.tar", "https://***@host:8080/a.tar"),
            ("https://host/a@b.tar", "https://host/a@b.tar"),
            ("hf://datasets/a/b@main/c.tar", "hf://datasets/a/b@main/c.tar"),
            (
                "abfs://box@account.dfs.core.windows.net/a.tar",
                "abfs://box@account.dfs.core.windows.net/a.tar",
            ),
            (
                "https://h/a.tar?X-Amz-Signature=0f&X-Amz-Date=2026&shard=3",
                "https://h/a.tar?X-Amz-Signature=***&X-Amz-Date=***&shard=3",
            ),
            (
                "https://h/a.tar?sv=2024&se=2026-11&sp=r&sig=AbC%3D",
                "https://h/a.tar?sv=***&se=***&sp=***&sig=***",
            ),
            ("https://h/a.tar?sp=3&se=4", "https://h/a.tar?sp=3&se=4"),
            (
                "https://h/a.tar?AWSAccessKeyId=AK&Expires=17&Signature=x%2F",
                "https://h/a.tar?AWSAccessKeyId=***&Expires=***&Signature=***",
            ),
            ("https://h/a.tar?key=a/b.tar", "https://h/a.tar?key=a/b.tar"),
            (
                "https://h/a.tar?access_token=abc#x",
                "https://h/a.tar?access_token=***#x",
            ),
            (
                "pipe:curl -H 'Authorization: Bearer abc.def' -s https://h/1.tar",
                "pipe:curl -H 'Authorization: ***' -s https://h/1.tar",
            ),
            (
                r"pipe:curl -H Authorization:\ Bearer\ abc https://h/1.tar",
                r"pipe:curl -H Authorization:\ *** https://h/1.tar",
            ),
            (
                "pipe:curl --header=X-Api-Key:abc https://h/1.tar",
                "pipe:curl --header=X-Api-Key:*** https://h/1.tar",
            ),
            (
                "pipe:curl -H 'Accept: text/plain' https://h/1.tar",
                "pipe:curl -H 'Accept: text/plain' https://h/1.tar",
            ),
            ("pipe:sig=\"one\"two'three' get x", "pipe:sig=*** get x"),
            ("pipe:get --password 'one'two x", "pipe:get --password *** x"),
            (
                "pipe:curl -u me:pass https://auth-token:8080/1.tar",
                "pipe:curl -u *** https://auth-token:8080/1.tar",
            ),
            ("pipe:sort -u a.tar", "pipe:sort -u a.tar"),
            (
                "pipe:get --http-password='a b' --retries 3 1.tar",
                "pipe:get --http-password=*** --retries 3 1.tar",
            ),
            ("pipe:get --token $TOKEN 1.tar", "pipe:get --token $TOKEN 1.tar"),
            (
                "pipe:AWS_SECRET_ACCESS_KEY=abc aws s3 cp s3://b/1.tar -",
                "pipe:AWS_SECRET_ACCESS_KEY=*** aws s3 cp s3://b/1.tar -",
            ),
            ("pipe:get hf_abcdefghijklmnopqrst 1.tar", "pipe:get *** 1.tar"),
        ] {
            assert_eq!(mask(text), wanted);
            assert_eq!(mask(wanted), wanted);
            assert_eq!(is_masked(&mask(text)), text != wanted, "{text}");
        }
    }
}

//! Brace expansion as shells do it: `{a,b}`, `{1..10}`, `{001..100..3}`, `{a..e}`, nested and side by side.
//! It knows nothing of files.

/// The most names one spec may expand to: far above any real set of shards, far below what fills the memory.
const MAX_NAMES: usize = 2_000_000;

/// The most bytes that all names together may have, for the same reason: a few names can be long, and many short.
const MAX_BYTES: usize = 256 << 20;

/// The deepest nesting of braces.
const MAX_DEPTH: usize = 32;

/// Why braces cannot be expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BraceError {
    /// `{` without `}` or the other way round.
    #[error("a brace has no partner")]
    Unbalanced,
    /// More names than anybody has shards.
    #[error("it stands for more than {MAX_NAMES} names")]
    TooMany,
    /// Names that are too long for their number.
    #[error("its names have more than {MAX_BYTES} bytes together")]
    TooLong,
    /// Braces within braces within braces.
    #[error("its braces are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// Every text that `pattern` stands for, the last braces changing fastest. Braces that hold neither a comma nor a
/// range stay as they are.
///
/// # Errors
/// Braces without partner; more names or deeper nesting than any real set of shards has.
pub fn expand_braces(pattern: &str) -> Result<Vec<String>, BraceError> {
    expand(pattern, 0)
}

fn expand(pattern: &str, depth: usize) -> Result<Vec<String>, BraceError> {
    if depth > MAX_DEPTH {
        return Err(BraceError::TooDeep);
    }
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find(['{', '}']) {
        if rest.as_bytes()[open] == b'}' {
            return Err(BraceError::Unbalanced);
        }
        let (inside, after) = inside(&rest[open + 1..])?;
        append(&mut names, &[rest[..open].to_owned()])?;
        append(&mut names, &choices(inside, depth)?)?;
        rest = after;
    }
    append(&mut names, &[rest.to_owned()])?;
    Ok(names)
}

/// Every name followed by every ending.
fn append(names: &mut Vec<String>, endings: &[String]) -> Result<(), BraceError> {
    if names.len().saturating_mul(endings.len()) > MAX_NAMES {
        return Err(BraceError::TooMany);
    }
    let before = bytes(names).saturating_mul(endings.len());
    if before.saturating_add(bytes(endings).saturating_mul(names.len())) > MAX_BYTES {
        return Err(BraceError::TooLong);
    }
    if let [ending] = endings {
        names.iter_mut().for_each(|name| name.push_str(ending));
    } else {
        *names = names
            .iter()
            .flat_map(|name| endings.iter().map(move |ending| format!("{name}{ending}")))
            .collect();
    }
    Ok(())
}

/// Of all of them together.
fn bytes(names: &[String]) -> usize {
    names.iter().map(String::len).sum()
}

/// What stands between an opened brace and its partner, and what comes after.
fn inside(text: &str) -> Result<(&str, &str), BraceError> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Ok((&text[..at], &text[at + 1..])),
            '}' => depth -= 1,
            _ => {}
        }
    }
    Err(BraceError::Unbalanced)
}

/// What the inside of a pair of braces stands for.
fn choices(inside: &str, depth: usize) -> Result<Vec<String>, BraceError> {
    let parts = split_at_commas(inside);
    if parts.len() > 1 {
        let mut all = Vec::new();
        let mut all_bytes = 0;
        for part in parts {
            let names = expand(part, depth + 1)?;
            all_bytes += bytes(&names);
            all.extend(names);
            if all.len() > MAX_NAMES {
                return Err(BraceError::TooMany);
            }
            if all_bytes > MAX_BYTES {
                return Err(BraceError::TooLong);
            }
        }
        return Ok(all);
    }
    if let Some(range) = range(inside) {
        return range;
    }
    Ok(expand(inside, depth + 1)?
        .iter()
        .map(|text| format!("{{{text}}}"))
        .collect())
}

/// The pieces between commas that are in no braces of their own.
fn split_at_commas(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The items of `first..last` or `first..last..step`, where `text` is such a range.
fn range(text: &str) -> Option<Result<Vec<String>, BraceError>> {
    let (first, rest) = text.split_once("..")?;
    let (last, step) = match rest.split_once("..") {
        Some((last, step)) => (last, step.parse::<i64>().ok()?),
        None => (rest, 1),
    };
    let step = step.unsigned_abs().max(1);
    if let (Ok(from), Ok(to)) = (first.parse::<i64>(), last.parse::<i64>()) {
        let is_padded = |text: &str| {
            let digits = text.trim_start_matches(['-', '+']);
            digits.len() > 1 && digits.starts_with('0')
        };
        let width = if is_padded(first) || is_padded(last) {
            first.len().max(last.len())
        } else {
            0
        };
        return Some(steps(from, to, step).and_then(|items| {
            if items.len().saturating_mul(width) > MAX_BYTES {
                return Err(BraceError::TooLong);
            }
            let text = |i: i64| format!("{i:0width$}");
            Ok(items.into_iter().map(text).collect())
        }));
    }
    let letter = |text: &str| {
        let mut chars = text.chars();
        let letter = chars.next().filter(char::is_ascii_alphabetic)?;
        chars.next().is_none().then_some(i64::from(u32::from(letter)))
    };
    let (from, to) = (letter(first)?, letter(last)?);
    Some(steps(from, to, step).map(|items| {
        let text = |i: i64| {
            u8::try_from(i)
                .map(|byte| char::from(byte).to_string())
                .unwrap_or_default()
        };
        items.into_iter().map(text).collect()
    }))
}

/// From `from` to `to`, both included, up or down.
fn steps(from: i64, to: i64, step: u64) -> Result<Vec<i64>, BraceError> {
    let last = from.abs_diff(to) / step;
    if last >= MAX_NAMES as u64 {
        return Err(BraceError::TooMany);
    }
    // Every item lies between `from` and `to`, however far the two are apart.
    let item = |i: u64| match to < from {
        true => from.checked_sub_unsigned(i * step),
        false => from.checked_add_unsigned(i * step),
    };
    Ok((0..=last).filter_map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, wanted: &[&str]) {
        assert_eq!(expand_braces(pattern).unwrap(), wanted, "{pattern}");
    }

    #[test]
    fn expands_as_a_shell_does() {
        check("plain.tar", &["plain.tar"]);
        check("{08..11}.tar", &["08.tar", "09.tar", "10.tar", "11.tar"]);
        check("{8..11}", &["8", "9", "10", "11"]);
        check("{000..010..5}", &["000", "005", "010"]);
        check("{3..1}", &["3", "2", "1"]);
        check("{-1..1}", &["-1", "0", "1"]);
        check("{-01..1}", &["-01", "000", "001"]);
        check("{a..c}", &["a", "b", "c"]);
        let (least, most) = (i64::MIN, i64::MAX);
        check(
            &format!("{{{least}..{most}..{most}}}"),
            &[&least.to_string(), "-1", &(most - 1).to_string()],
        );
        check("x{a,b}y{1..2}", &["xay1", "xay2", "xby1", "xby2"]);
        check("{a,b{0..1},}", &["a", "b0", "b1", ""]);
        check("{{a,b},c}", &["a", "b", "c"]);
        check("{one}", &["{one}"]);
        check("{x{1..2}}", &["{x1}", "{x2}"]);
        check("{}", &["{}"]);
        check("é{ü,ß}", &["éü", "éß"]);
    }

    #[test]
    fn a_thousand_shards_keep_their_zeros() {
        let names = expand_braces("{00000..01099}.tar").unwrap();
        assert_eq!(
            (names.len(), &*names[0], &*names[1099]),
            (1100, "00000.tar", "01099.tar")
        );
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for pattern in ["{", "}", "a{1..2", "{a,{b}", "{a}}"] {
            assert_eq!(expand_braces(pattern), Err(BraceError::Unbalanced), "{pattern}");
        }
        for pattern in [
            "{0..99999999}",
            "{0..9999}{0..9999}",
            "{-9223372036854775808..9223372036854775807}",
        ] {
            assert_eq!(expand_braces(pattern), Err(BraceError::TooMany), "{pattern}");
        }
        let (zeros, long) = ("0".repeat(100_000), "x".repeat(10_000));
        for pattern in [
            format!("{{{zeros}1..9999}}"),
            format!("{{0..99999}}{long}"),
            format!("{{a,{long}{{0..26843}},{{0..26843}}{long}}}"),
        ] {
            assert_eq!(
                expand_braces(&pattern),
                Err(BraceError::TooLong),
                "{}",
                &pattern[..20]
            );
        }
        let deep = "{a,".repeat(40) + &"}".repeat(40);
        assert_eq!(expand_braces(&deep), Err(BraceError::TooDeep));
    }
}

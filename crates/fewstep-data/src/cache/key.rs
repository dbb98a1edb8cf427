//! Keys: digests of everything that an entry depends on.

use std::fmt;
use std::str::FromStr;

use twox_hash::XxHash3_128;

/// The name of an entry: 128 bits of XXH3. Two different things with one key are not to be expected by chance; somebody
/// who wants to can make them, so a cache is no place for data from people who wish one ill beyond what a wrong
/// picture can do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u128);

impl Key {
    /// The key of some bytes alone.
    pub fn of(bytes: &[u8]) -> Self {
        Key(XxHash3_128::oneshot(bytes))
    }

    /// Its lowest 64 bits, to draw random numbers by.
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Key).ok_or(())
    }
}

/// Joins parts to a key. Parts are told apart: "ab" and "c" make another key than "a" and "bc".
pub struct KeyMaker(twox_hash::xxhash3_128::Hasher);

impl fmt::Debug for KeyMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaker(..)")
    }
}

impl KeyMaker {
    /// Begins with what the entry is: keys of different kinds never meet.
    pub fn new(kind: &str) -> Self {
        KeyMaker(twox_hash::xxhash3_128::Hasher::new()).bytes(kind.as_bytes())
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.write(&(bytes.len() as u64).to_le_bytes());
        self.0.write(bytes);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds another key.
    #[must_use]
    pub fn key(self, key: Key) -> Self {
        self.bytes(&key.0.to_le_bytes())
    }

    /// The key of all that was added.
    pub fn finish(self) -> Key {
        Key(self.0.finish_128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_and_kinds_too() {
        let key = |kind: &str, parts: &[&str]| {
            let add = |maker: KeyMaker, part: &&str| maker.bytes(part.as_bytes());
            parts.iter().fold(KeyMaker::new(kind), add).finish()
        };
        let keys = [
            key("latents", &["ab", "c"]),
            key("latents", &["a", "bc"]),
            key("latents", &["abc"]),
            key("text", &["ab", "c"]),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| other != one));
        }
        assert_eq!(keys[0], key("latents", &["ab", "c"]));
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = Key::of(b"a picture");
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in [
            "",
            "12",
            "+123456789012345678901234567890123",
            &key.to_string()[1..],
        ] {
            assert_eq!(wrong.parse::<Key>(), Err(()), "{wrong}");
        }
    }
}

//! Numbers and names of an experiment file. Each type checks its range while it is read, when the YAML reader still knows
//! the line; values made in code are not checked.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

/// A number type `$name` that accepts what `$ok` does, described by `$expected`.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $expected:literal, $ok:expr) => {
        $(#[$doc])*
        #[doc = concat!("In a file it must be ", $expected, ".")]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
        pub struct $name(pub $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = deserializer.deserialize_any(Number { expected: $expected, ok: $ok })?;
                Ok($name(value as $inner))
            }
        }
    };
}

/// Reads a number and checks its range.
struct Number {
    expected: &'static str,
    ok: fn(f64) -> bool,
}

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        if (self.ok)(value) { Ok(value) } else { Err(E::invalid_value(Unexpected::Float(value), &self)) }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        // Exact up to 2^53, far above every bound here.
        if (self.ok)(value as f64) {
            Ok(value as f64)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(value), &self))
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        if (self.ok)(value as f64) { Ok(value as f64) } else { Err(E::invalid_value(Unexpected::Signed(value), &self)) }
    }
}

fn whole(value: f64, low: f64, high: f64) -> bool {
    value.fract() == 0.0 && (low..=high).contains(&value)
}

number!(
    /// Images of a data set.
    Images, usize, "a whole number of images from 10 to 200000", |v| whole(v, 10.0, 200_000.0)
);
number!(
    /// Epochs of a stage.
    Epochs, u32, "a whole number of epochs from 1 to 10000", |v| whole(v, 1.0, 10_000.0)
);
number!(
    /// Images that one step takes.
    BatchSize, usize, "a whole number of images from 2 to 65536", |v| whole(v, 2.0, 65_536.0)
);
number!(
    /// Shards of a batch.
    ShardCount, usize, "a whole number of shards from 2 to 1024", |v| whole(v, 2.0, 1024.0)
);
number!(
    /// Units of a layer.
    Width, usize, "a whole number from 1 to 8192", |v| whole(v, 1.0, 8192.0)
);
number!(
    /// Output channels of a convolution.
    Channels, usize, "a whole number from 1 to 1024", |v| whole(v, 1.0, 1024.0)
);
number!(
    /// Classes of a data set.
    Classes, usize, "a whole number of classes from 2 to 1000", |v| whole(v, 2.0, 1000.0)
);
number!(
    /// Height and width of images in pixels.
    Side, usize, "an even number of pixels from 16 to 128", |v| whole(v / 2.0, 8.0, 64.0)
);
number!(
    /// A learning rate.
    Rate, f64, "a number above 0 and at most 10", |v| v > 0.0 && v <= 10.0
);
number!(
    /// A fraction below 1: dropout, momentum, weight decay, validation.
    Share, f32, "a number from 0 to below 1", |v| (0.0..1.0).contains(&(v as f32)) && (v == 0.0 || v as f32 > 0.0)
);
number!(
    /// The share of a moving average that stays in a step.
    Decay, f64, "a number from 0 to below 1", |v| (0.0..1.0).contains(&v)
);
number!(
    /// A number of seeds.
    Seeds, u32, "a whole number of seeds from 1 to 1000", |v| whole(v, 1.0, 1000.0)
);
number!(
    /// A percentage.
    Percent, f64, "a percentage from 0 to 100", |v| (0.0..=100.0).contains(&v)
);

/// A seed: any whole number from 0 to 2⁶⁴ − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seed(pub u64);

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bits;

        impl Visitor<'_> for Bits {
            type Value = Seed;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a whole number from 0 to 2^64 - 1")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Seed, E> {
                Ok(Seed(value))
            }
        }

        deserializer.deserialize_any(Bits)
    }
}

/// A name that can be a folder: 1 to 64 letters, digits, `_` and `-`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Name(String);

impl Name {
    /// None for a text that is no such name.
    pub fn new(text: &str) -> Option<Name> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let good = (1..=64).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with(['_', '-']);
        good.then(|| Name(text.to_owned()))
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a name: 1 to 64 letters, digits, '_' and '-', the first a letter or a digit")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Name, E> {
                Name::new(value).ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
